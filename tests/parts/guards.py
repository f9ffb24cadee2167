"""Both kinds of guard by one set of methods: an AsyncGuard is asked on an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

from consumer.guard import AsyncGuard, Guard
from tests.parts.view import BUCKETS, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Protocol

    from consumer.guard import Verdict
    from consumer.guard.counts import Tally

    class MakeGuard(Protocol):
        """Make a guard of the kind that the test is run for, by `from_url`; it is closed with the test."""

        def __call__(self, url: str, **options: Any) -> AnyGuard: ...


T = TypeVar("T")


class OnALoop:
    """An AsyncGuard, asked from outside of the event loop that it works in."""

    def __init__(self, guard: AsyncGuard) -> None:
        self.guard = guard
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def check(self, location_id: str, number: str, *, why: bool = False, catch_up: float | None = None) -> Verdict:
        return self.run(self.guard.check(location_id, number, why=why, catch_up=catch_up))

    def check_many(
        self, location_id: str, numbers: Sequence[str], *, why: bool = False, catch_up: float | None = None
    ) -> list[Verdict]:
        return self.run(self.guard.check_many(location_id, numbers, why=why, catch_up=catch_up))

    def check_each(
        self, pairs: Sequence[tuple[str, str]], *, why: bool = False, catch_up: float | None = None
    ) -> list[Verdict]:
        return self.run(self.guard.check_each(pairs, why=why, catch_up=catch_up))

    def require(self, location_id: str, number: str, *, catch_up: float | None = None) -> Verdict:
        return self.run(self.guard.require(location_id, number, catch_up=catch_up))

    def claim_confirmation(self, location_id: str, number: str, event_id: str) -> Verdict:
        return self.run(self.guard.claim_confirmation(location_id, number, event_id))

    @property
    def tally(self) -> Tally:
        return self.guard.tally

    def close(self) -> None:
        """Close the guard and end the loop."""
        self.run(self.guard.aclose())
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine returns that runs on the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


AnyGuard = Guard | OnALoop
KINDS = ("sync", "async")


def make(kind: str, url: str, **options: Any) -> AnyGuard:
    """Return a guard of this kind."""
    options = {"buckets": BUCKETS, "timeout": TIMEOUT, **options}
    return Guard.from_url(url, **options) if kind == "sync" else OnALoop(AsyncGuard.from_url(url, **options))
