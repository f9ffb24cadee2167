"""Taking turns among threads, without waiting longer than the deadline."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import redis

from consumer.nodes.deadline import left

if TYPE_CHECKING:
    from collections.abc import Iterator


class Turn:
    """A lock of this process: one that another thread held at the moment of a fork would never be free in the child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Be the only one. Raises redis.TimeoutError where it is another's turn until the deadline is over."""
        if self._process != os.getpid():
            self._lock, self._process = threading.Lock(), os.getpid()
        lock = self._lock
        if not lock.acquire(timeout=min(max(left(), 0.0), threading.TIMEOUT_MAX)):
            raise redis.TimeoutError("another thread was still asking")
        try:
            yield
        finally:
            lock.release()
