"""Warnings that may recur many times a second: said at once, and then only now and then."""

from __future__ import annotations

import math
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
        self._say(event, event, fields)

    def kafka(self, name: str, sentence: str) -> None:
        """Log a passing error of the Kafka client, which mends itself."""
        self._say(name, "Kafka has trouble", {"error": name, "reason": sentence})

    def _say(self, key: str, event: str, fields: dict[str, object]) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._said.get(key, -math.inf) < SAY_EVERY:
                return
            self._said[key] = now
        self._log.warning(event, **fields)
