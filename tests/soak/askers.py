"""Every way to ask the guard's question, as a sender has it: each keeps what it asks with, as long as it lives."""

from __future__ import annotations

import asyncio
from typing import Protocol, Self

from consumer.guard import AsyncGuard, Guard
from tests.parts import available
from tests.parts.javascript_guard import JavaScriptGuard

LIMIT_S = 20.0
TIMEOUT_S = 1.0
CATCH_UP_S = 20.0


class Asker(Protocol):
    """Asks for one patient at a time; a context manager."""

    def ask(self, location: str, number: str) -> tuple[str, str]:
        """Return the kind of the verdict, and why it is UNKNOWN."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class Python:
    """The library's guard."""

    def __init__(self, url: str, buckets: int, limit: float | None, catch_up: float | None = None) -> None:
        self._guard = Guard.from_url(url, buckets=buckets, timeout=TIMEOUT_S, max_staleness=limit)
        self._catch_up = catch_up

    def ask(self, location: str, number: str) -> tuple[str, str]:
        verdict = self._guard.check(location, number, catch_up=self._catch_up)
        return str(verdict.kind), str(verdict.reason or "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.close()


class Asyncio:
    """The library's guard for asyncio, on a loop of its own, asked for somebody else at the same time."""

    def __init__(self, url: str, buckets: int) -> None:
        self._guard = AsyncGuard.from_url(url, buckets=buckets, timeout=TIMEOUT_S, max_staleness=LIMIT_S)
        self._loop = asyncio.Runner()

    def ask(self, location: str, number: str) -> tuple[str, str]:
        return self._loop.run(self._ask(location, number))

    async def _ask(self, location: str, number: str) -> tuple[str, str]:
        verdict, *_ = await asyncio.gather(
            self._guard.check(location, number), self._guard.check_many(location, [number] * 20)
        )
        return str(verdict.kind), str(verdict.reason or "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run(self._guard.aclose())
        self._loop.close()


class JavaScript:
    """The example in JavaScript, which knows the contract alone."""

    def __init__(self, url: str, buckets: int) -> None:
        settings = {
            "optout_buckets": buckets,
            "optout_redis_timeout": TIMEOUT_S,
            "optout_max_staleness": LIMIT_S,
        }
        self._guard = JavaScriptGuard(available.javascript(), url, **settings)

    def ask(self, location: str, number: str) -> tuple[str, str]:
        kind, reason = self._guard.check(location, number)
        return str(kind), str(reason or "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.close()


class Fresh:
    """A sender that connects anew for each question."""

    def __init__(self, url: str, buckets: int) -> None:
        self._url, self._buckets = url, buckets

    def ask(self, location: str, number: str) -> tuple[str, str]:
        with Python(self._url, self._buckets, LIMIT_S) as asker:
            return asker.ask(location, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


CATCH_UP = "catch up"
"""The guard whose answers wait for what Kafka held: it is UNKNOWN where only workers are away, too."""
