"""Warnings that may recur many times a second: said at once, and then only now and then."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

SAY_EVERY = 30.0
"""Seconds between two log lines that say the same."""


class Complaints:
    """Logs warnings, each at most every SAY_EVERY seconds. Safe to share among threads."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._said: dict[str, float] = {}
        self._lock = threading.Lock()

    def say(self, event: str, **fields: object) -> None:
        """Log a warning unless the same event was logged a moment ago."""
        now = time.monotonic()
        with self._lock:
            if now - self._said.get(event, -SAY_EVERY) < SAY_EVERY:
                return
            self._said[event] = now
        self._log.warning(event, **fields)

    def kafka(self, reason: str) -> None:
        """Log a passing error of the Kafka client, which mends itself."""
        self.say(f"Kafka has trouble: {reason}")
