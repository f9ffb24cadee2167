"""Guarded producers: what is ALLOWED is produced, what is SUPPRESSED is handed back, what is UNKNOWN is held."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from confluent_kafka import Producer
from confluent_kafka.aio import AIOProducer

from consumer.domain.events import Action
from consumer.guard import (
    AsyncGuard,
    AsyncGuardedProducer,
    Guard,
    GuardedProducer,
    NotAllowed,
    NotANumber,
    Unknown,
    VerdictKind,
)
from tests.parts.view import BUCKETS, FINE, HERE, STOPPED, Owner, connect, set_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from consumer.guard import (
        Withheld,
    )
    from tests.parts.redis import MakeRedis

TOPIC = "sms.outbound"
MOCK = {"test.mock.num.brokers": 1}
"""librdkafka's own broker: what is delivered to it was produced."""


class Sending(Protocol):
    """A producer of either kind, and what became of its messages."""

    def produce(self, value: str, *, location_id: str = HERE, number: str = FINE, **options: Any) -> None: ...
    @property
    def delivered(self) -> list[str]: ...


class Sync:
    """A GuardedProducer on a broker of its own."""

    def __init__(self, url: str, on_suppressed: Callable[[Withheld], object], hold: float) -> None:
        self.delivered: list[str] = []
        guard = Guard.from_url(url, buckets=BUCKETS)
        self.guarded = GuardedProducer(Producer(MOCK), guard, on_suppressed=on_suppressed, hold=hold)

    def produce(self, value: str, *, location_id: str = HERE, number: str = FINE, **options: Any) -> None:
        def told(error: object, message: Any) -> None:
            assert error is None
            self.delivered.append(message.value().decode())

        self.guarded.produce(TOPIC, value, location_id=location_id, number=number, on_delivery=told, **options)
        assert self.guarded.flush(10) == 0


class Async:
    """An AsyncGuardedProducer on a broker of its own, a loop for each message."""

    def __init__(self, url: str, on_suppressed: Callable[[Withheld], object], hold: float) -> None:
        self.delivered: list[str] = []
        self._url, self._on_suppressed, self._hold = url, on_suppressed, hold

    def produce(self, value: str, *, location_id: str = HERE, number: str = FINE, **options: Any) -> None:
        asyncio.run(self._produce(value, location_id, number, options))

    async def _produce(self, value: str, location_id: str, number: str, options: dict[str, Any]) -> None:
        async def on_suppressed(withheld: Withheld) -> None:
            await asyncio.sleep(0)
            self._on_suppressed(withheld)

        async with AsyncGuard.from_url(self._url, buckets=BUCKETS) as guard:
            producer = AIOProducer({**MOCK}, buffer_timeout=0.05)
            guarded = AsyncGuardedProducer(producer, guard, on_suppressed=on_suppressed, hold=self._hold)
            try:
                delivery = await guarded.produce(TOPIC, value, location_id=location_id, number=number, **options)
                if delivery is not None:
                    self.delivered.append((await delivery).value().decode())
            finally:
                await guarded.close()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def owner(client: redis.Redis) -> Owner:
    return set_up(client)


@pytest.fixture(params=[Sync, Async])
def kind(request: pytest.FixtureRequest) -> type[Sync | Async]:
    kind: type[Sync | Async] = request.param
    return kind


def refuse(withheld: Withheld) -> None:
    raise AssertionError(f"{withheld} is handed back")


def later(seconds: float, do: Callable[[], object]) -> None:
    threading.Timer(seconds, do).start()


def test_what_is_allowed_is_produced(redis_url: str, owner: Owner, kind: type[Sync | Async]) -> None:
    """A message to who may be texted is delivered, with what the producer takes besides."""
    sending = kind(redis_url, refuse, 0)
    sending.produce("one", key=b"key", partition=0)
    sending.produce("two", location_id="loc-99", number=STOPPED)
    assert sending.delivered == ["one", "two"]


def test_what_is_suppressed_is_handed_back(redis_url: str, owner: Owner, kind: type[Sync | Async]) -> None:
    """A message to who opted out is not produced: it goes back whole, and no number stands in what is printed of it."""
    withheld: list[Withheld] = []
    sending = kind(redis_url, withheld.append, 5)
    sending.produce("one", number="(202) 555-0143", key="key", partition=1)
    assert sending.delivered == []
    (one,) = withheld
    assert (one.topic, one.location_id, one.number, one.value, one.key) == (TOPIC, HERE, "(202) 555-0143", "one", "key")
    assert one.options["partition"] == 1
    assert one.verdict.kind is VerdictKind.SUPPRESSED
    assert "0143" not in repr(one)
    assert "'one'" not in repr(one)


def test_what_is_unknown_is_raised(redis_url: str, client: redis.Redis, kind: type[Sync | Async]) -> None:
    """Where nobody vouches nothing is produced and nothing handed back: it is raised, at once."""
    sending = kind(redis_url, refuse, 0)
    began = time.monotonic()
    with pytest.raises(NotAllowed) as raised:
        sending.produce("one")
    assert time.monotonic() - began < 1
    assert raised.value.verdict.reason is Unknown.UNVOUCHED
    assert sending.delivered == []


def test_what_is_unknown_is_held(redis_url: str, client: redis.Redis, owner: Owner, kind: type[Sync | Async]) -> None:
    """While Redis catches up a message is held; it is sent, or handed back, as soon as that is known."""
    withheld: list[Withheld] = []
    sending = kind(redis_url, withheld.append, 10)
    owner.write(Action.OPT_OUT, HERE, FINE, apply=False)
    for number, produced in (("+12025550149", ["one"]), (FINE, ["one"])):
        client.flushdb()

        def heal() -> None:
            with connect(redis_url) as own:
                healer = Owner(own)
                healer.ledgers = owner.ledgers
                healer.catch_up()
                healer.vouch()

        later(0.5, heal)
        sending.produce("one", number=number)
        assert sending.delivered == produced
    assert [one.number for one in withheld] == [FINE]


def test_what_stays_unknown_is_raised(redis_url: str, client: redis.Redis, kind: type[Sync | Async]) -> None:
    """After the time for which it may be held a message is raised, not dropped and not sent."""
    sending = kind(redis_url, refuse, 0.6)
    began = time.monotonic()
    with pytest.raises(NotAllowed):
        sending.produce("one")
    assert 0.6 <= time.monotonic() - began < 2
    assert sending.delivered == []


def test_what_waiting_does_not_change_is_raised(own_redis: MakeRedis, kind: type[Sync | Async]) -> None:
    """A wrong password is said at once, however long a message may be held."""
    server = own_redis(settings={"requirepass": "right"})
    sending = kind(server.url.replace("redis://", "redis://:wrong@"), refuse, 60)
    began = time.monotonic()
    with pytest.raises(NotAllowed) as raised:
        sending.produce("one")
    assert time.monotonic() - began < 2
    assert raised.value.verdict.reason is Unknown.REFUSED


def test_nobody_is_asked_about_no_number(redis_url: str, owner: Owner, kind: type[Sync | Async]) -> None:
    """What is no number, and what is no location, is an error and is not produced."""
    sending = kind(redis_url, refuse, 0)
    with pytest.raises(NotANumber):
        sending.produce("one", number="12")
    with pytest.raises(ValueError, match="location"):
        sending.produce("one", location_id=" ")
    assert sending.delivered == []


def test_a_callback_that_fails_is_heard(redis_url: str, owner: Owner, kind: type[Sync | Async]) -> None:
    """What goes wrong while a message is handed back reaches whoever produces it."""

    def fail(_: Withheld) -> None:
        raise LookupError("no such campaign")

    sending = kind(redis_url, fail, 0)
    with pytest.raises(LookupError):
        sending.produce("one", number=STOPPED)
    assert sending.delivered == []


@pytest.mark.parametrize("hold", [-1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(redis_url: str, hold: float) -> None:
    """A producer is not made with a time that would never end, or never begin."""
    with pytest.raises(ValueError, match="hold"):
        Sync(redis_url, refuse, hold)


def test_there_is_no_way_around_the_guard() -> None:
    """Neither producer has a method that produces without asking."""
    for guarded in (GuardedProducer, AsyncGuardedProducer):
        offered = {name for name in dir(guarded) if not name.startswith("_")}
        assert offered <= {"produce", "poll", "flush", "close"}
