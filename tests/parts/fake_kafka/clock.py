"""Time that passes only when somebody says so. Stands in for the module `time` in the product's modules."""

from __future__ import annotations


class Clock:
    """Wall and monotonic time, in step."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms
        self._monotonic = 1000.0

    def tick(self, milliseconds: int = 1) -> int:
        """Let time pass; return what time it is then, in ms."""
        self.now_ms += milliseconds
        self._monotonic += milliseconds / 1000
        return self.now_ms

    def monotonic(self) -> float:
        return self._monotonic

    def perf_counter(self) -> float:
        return self._monotonic

    def time(self) -> float:
        return self.now_ms / 1000

    def time_ns(self) -> int:
        return self.now_ms * 1_000_000

    def sleep(self, seconds: float) -> None:
        self.tick(max(1, round(seconds * 1000)))
