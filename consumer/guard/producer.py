"""Producers that ask before each message: what is SUPPRESSED is handed back, and what is UNKNOWN is held.

A verdict holds for the moment in which it was given. What waits in a topic afterwards is asked about again by whoever
takes it out and sends it: see `examples/python/last_hop.py`.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from consumer.guard.awaited import is_awaited
from consumer.guard.verdict import NotAllowed, Unknown, VerdictKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from confluent_kafka import Producer
    from confluent_kafka.aio import AIOProducer

    from consumer.guard.aio import AsyncGuard
    from consumer.guard.guard import Guard
    from consumer.guard.verdict import Verdict

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
STAYS = (Unknown.REFUSED, Unknown.WRONG_MODE)
"""Reasons that waiting does not change."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """A message that was not sent because the patient has opted out of this location, as it was handed in."""

    topic: str
    location_id: str
    number: str = field(repr=False)
    value: Any = field(repr=False)
    key: Any = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)
    verdict: Verdict


class _Holding:
    """How long an UNKNOWN is held, and when it is asked about again."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._pause = FIRST_PAUSE_S

    def pause(self, verdict: Verdict) -> float:
        """Return the seconds until it is asked again. Raises NotAllowed where the time is over, or will not help."""
        left = self._until - time.monotonic()
        if left <= 0 or verdict.reason in STAYS:
            raise NotAllowed(verdict)
        pause, self._pause = min(self._pause, left), min(2 * self._pause, LONGEST_PAUSE_S)
        return pause


def _checked(hold: float, on_suppressed: object) -> float:
    if not callable(on_suppressed):
        raise TypeError("on_suppressed must be a function: what it is not handed would be lost")
    if not 0 <= hold < float("inf"):
        raise ValueError("hold must be a number of seconds, 0 to raise at once")
    return hold


class GuardedProducer:
    """A `confluent_kafka.Producer` that asks the guard before each message.

    The producer that it is made with is not to be used beside it: what goes past the guard is not asked about.
    """

    def __init__(
        self, producer: Producer, guard: Guard, *, on_suppressed: Callable[[Withheld], object], hold: float = 0.0
    ) -> None:
        """`on_suppressed` is handed each message that must not be sent, in the thread that produces it.

        An UNKNOWN is asked about again for `hold` seconds, meanwhile delivery reports are served, before it is raised.
        """
        self._producer = producer
        self._guard = guard
        self._on_suppressed = on_suppressed
        self._hold = _checked(hold, on_suppressed)
        if is_awaited(on_suppressed) or is_awaited(getattr(guard, "check", None)):
            raise TypeError("GuardedProducer takes a Guard and a plain function: for asyncio take AsyncGuardedProducer")

    def produce(
        self, topic: str, value: Any = None, key: Any = None, *, location_id: str, number: str, **options: Any
    ) -> Verdict:
        """Produce a message to this patient from this location, if that is ALLOWED; return the verdict.

        `options` are the producer's own: partition, on_delivery, timestamp, headers. A SUPPRESSED message has been
        handed to `on_suppressed`. Raises NotAllowed for one that stayed UNKNOWN, which was not produced: hold it, and
        come again. Raises NotANumber, ValueError, and what the producer does: BufferError where its queue is full.
        """
        holding = _Holding(self._hold)
        while True:
            verdict = self._guard.check(location_id, number)
            if verdict.kind is VerdictKind.ALLOWED:
                self._producer.produce(topic, value, key, **options)
                return verdict
            if verdict.kind is VerdictKind.SUPPRESSED:
                self._on_suppressed(Withheld(topic, location_id, number, value, key, options, verdict))
                return verdict
            self._producer.poll(holding.pause(verdict))

    def poll(self, timeout: float = 0.0) -> int:
        """Serve delivery reports for at most so many seconds; return how many there were."""
        return self._producer.poll(timeout)

    def flush(self, timeout: float = -1) -> int:
        """Wait until everything is delivered, for at most so many seconds; return how many messages are not."""
        return self._producer.flush(timeout)

    def __len__(self) -> int:
        """Return how many messages and reports wait."""
        return len(self._producer)

    def __bool__(self) -> bool:
        """Be true, however many messages wait."""
        return True


class AsyncGuardedProducer:
    """A `confluent_kafka.aio.AIOProducer` that asks the guard before each message: as GuardedProducer."""

    def __init__(
        self,
        producer: AIOProducer,
        guard: AsyncGuard,
        *,
        on_suppressed: Callable[[Withheld], Awaitable[object] | object],
        hold: float = 0.0,
    ) -> None:
        """`on_suppressed` is handed each message that must not be sent, and awaited where it can be."""
        self._producer = producer
        self._guard = guard
        self._on_suppressed = on_suppressed
        self._hold = _checked(hold, on_suppressed)
        for part, method in ((producer, "produce"), (guard, "check")):
            if not is_awaited(getattr(part, method, None)):
                raise TypeError(
                    "AsyncGuardedProducer takes an AIOProducer and an AsyncGuard: else take GuardedProducer"
                )

    async def produce(
        self,
        topic: str,
        value: Any = None,
        key: Any = None,
        *,
        location_id: str,
        number: str,
        partition: int | None = None,
    ) -> asyncio.Future[Any] | None:
        """Produce a message to this patient from this location, if that is ALLOWED; return its delivery.

        None says that it is SUPPRESSED and has been handed to `on_suppressed`. Raises NotAllowed for a message that
        stayed UNKNOWN, which was not produced. Raises NotANumber, ValueError, and what the producer does.
        """
        # No others: what an AIOProducer does not know it drops, a timestamp with the message.
        options = {} if partition is None else {"partition": partition}
        holding = _Holding(self._hold)
        while True:
            verdict = await self._guard.check(location_id, number)
            if verdict.kind is VerdictKind.ALLOWED:
                return await self._producer.produce(topic, value, key, **options)
            if verdict.kind is VerdictKind.SUPPRESSED:
                told = self._on_suppressed(Withheld(topic, location_id, number, value, key, options, verdict))
                if inspect.isawaitable(told):
                    await told
                return None
            await asyncio.sleep(holding.pause(verdict))

    async def flush(self, *arguments: Any) -> Any:
        """Wait until everything is delivered."""
        return await self._producer.flush(*arguments)

    async def close(self) -> None:
        """Flush, and close the producer."""
        await self._producer.close()
