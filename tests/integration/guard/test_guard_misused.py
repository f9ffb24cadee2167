"""What a hurried developer hands to a guard is understood as it was meant, or refused: it never lets a STOP pass."""

from __future__ import annotations

import asyncio
import copy
import enum
import functools
import pickle
import uuid
from types import FunctionType
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, create_autospec

import pytest
from confluent_kafka.aio import AIOProducer

from consumer.domain.events import Action
from consumer.guard import (
    AsyncGuard,
    AsyncGuardedProducer,
    Guard,
    GuardedProducer,
    NotAllowed,
    NotANumber,
    VerdictKind,
)
from tests.parts.view import HERE, META, SUPPRESSED, connect, said

if TYPE_CHECKING:
    from tests.parts.guards import AnyGuard, MakeGuard
    from tests.parts.view import Owner

PATIENT = "+12025550148"
PLACE = "caf\u00e9-1"


class Named(str, enum.Enum):  # noqa: UP042 - the older way, which is written otherwise than it is
    PLACE = PLACE
    PATIENT = PATIENT


def test_a_member_of_an_enumeration_is_its_text(guard: AnyGuard, owner: Owner) -> None:
    """A location or a number that is a member of an enumeration of texts is that text, by every way of asking."""
    owner.write(Action.OPT_OUT, PLACE, PATIENT)
    owner.vouch()
    place, patient = Named.PLACE, Named.PATIENT
    assert said(guard.check(place, patient)) == SUPPRESSED
    assert [said(verdict) for verdict in guard.check_many(place, [patient] * 9)] == [SUPPRESSED] * 9
    assert [said(verdict) for verdict in guard.check_each([(place, patient)])] == [SUPPRESSED]
    assert said(guard.check(place, patient, why=True)) == SUPPRESSED


@pytest.mark.parametrize("kind", [Guard, AsyncGuard])
def test_no_other_encoding_is_taken(kind: type[Guard | AsyncGuard], redis_url: str) -> None:
    """A URL that would write keys otherwise than in UTF-8 is refused: nobody fills such a set."""
    with pytest.raises(ValueError, match="option that is not taken"):
        kind.from_url(f"{redis_url}?encoding=latin-1")


def test_a_client_of_another_encoding_asks_for_the_same_set(redis_url: str, owner: Owner) -> None:
    """A client of somebody's own that writes texts otherwise finds who opted out all the same."""
    import redis  # noqa: PLC0415 - only here

    owner.write(Action.OPT_OUT, PLACE, PATIENT)
    owner.vouch()
    with redis.Redis.from_url(redis_url, encoding="latin-1") as client:
        assert said(Guard(client, buckets=8).check(PLACE, PATIENT)) == SUPPRESSED


@pytest.mark.parametrize("numbers", [[None], [12025550143], [b"+12025550143"], ["+12025550143"] * 20 + [None]])
def test_what_is_no_text_is_no_number(guard: AnyGuard, owner: Owner, numbers: list[Any]) -> None:
    """Something that is no text at all is refused as what is no number is, with its place and without its value."""
    with pytest.raises(NotANumber, match=f"number {len(numbers)} of {len(numbers)} is no text") as refused:
        guard.check_many(HERE, numbers)
    assert "0143" not in str(refused.value)


@pytest.mark.parametrize("catch_up", [float("nan"), float("inf"), -1])
def test_a_wait_that_is_none_is_refused(guard: AnyGuard, owner: Owner, catch_up: float) -> None:
    """A question is not asked with a wait that would never end, or never begin."""
    with pytest.raises(ValueError, match="catch_up"):
        guard.check(HERE, PATIENT, catch_up=catch_up)


@pytest.mark.parametrize("wrong", [{"buckets": 0}, {"buckets": -1}, {"region": "UK"}, {"region": "us"}])
def test_what_cannot_be_the_workers_is_refused(redis_url: str, wrong: dict[str, Any]) -> None:
    """Buckets and regions that there are not are refused when a guard is made."""
    for kind in (Guard, AsyncGuard):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            kind.from_url(redis_url, **wrong)


def test_a_time_ahead_of_the_clock_is_of_no_known_age(make_guard: MakeGuard, redis_url: str, owner: Owner) -> None:
    """A guard that accepts any age allows nobody on a time that is of no known one."""
    guard = make_guard(redis_url, max_staleness=None)
    with connect(redis_url) as client:
        client.hset(META, "fresh", owner.view.server().time + 60_000)
    assert guard.check(HERE, PATIENT).kind is VerdictKind.UNKNOWN


def test_one_number_is_no_list(guard: AnyGuard, owner: Owner) -> None:
    """A number where a list of them is wanted is refused: its characters are no numbers."""
    with pytest.raises(ValueError, match="list"):
        guard.check_many(HERE, PATIENT)


def test_nothing_of_a_verdict_is_a_truth_value(guard: AnyGuard, owner: Owner) -> None:
    """Neither a verdict nor its kind can be tested for truth."""
    verdict = guard.check(HERE, PATIENT)
    with pytest.raises(TypeError):
        bool(verdict)
    with pytest.raises(TypeError):
        bool(verdict.kind)
    assert verdict.kind == "ALLOWED"
    assert verdict.kind is VerdictKind.ALLOWED


def test_what_is_not_allowed_can_be_handed_on(guard: AnyGuard, owner: Owner) -> None:
    """The exception survives being copied and pickled, as pools of processes do."""
    owner.write(Action.OPT_OUT, HERE, PATIENT)
    with pytest.raises(NotAllowed) as raised:
        guard.require(HERE, PATIENT)
    for again in (copy.copy(raised.value), pickle.loads(pickle.dumps(raised.value))):
        assert said(again.verdict) == SUPPRESSED
        assert str(again) == str(raised.value)


def test_a_producer_refuses_what_would_lose_messages(redis_url: str) -> None:
    """A handler that is none, or that nobody would await, and a guard of the other kind are refused when it is made."""

    async def later(_: object) -> None: ...

    producer: Any = object()
    guard, other = Guard.from_url(redis_url), AsyncGuard.from_url(redis_url)
    for wrong in (None, later):
        with pytest.raises(TypeError):
            GuardedProducer(producer, guard, on_suppressed=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        GuardedProducer(producer, other, on_suppressed=print)  # type: ignore[arg-type]


@pytest.mark.parametrize("client", [None, "redis://127.0.0.1:6379/0", 7])
def test_what_is_no_client_is_refused(client: Any) -> None:
    """Something that cannot be asked is refused when the guard is made, with what to do instead."""
    with pytest.raises(TypeError, match="from_url"):
        Guard(client)


def test_a_question_that_nobody_awaited_is_not_true(redis_url: str) -> None:
    """Taken for an answer it raises, instead of letting everybody pass; it runs wherever a coroutine does."""

    async def ask() -> None:
        async with AsyncGuard.from_url(redis_url) as guard:
            for question in (
                guard.check(HERE, PATIENT),
                guard.check_many(HERE, [PATIENT]),
                guard.check_each([(HERE, PATIENT)]),
                guard.require(HERE, PATIENT),
                guard.claim_confirmation(HERE, PATIENT, str(uuid.uuid4())),
            ):
                with pytest.raises(TypeError, match="await"):
                    bool(question)
                question.close()
            async with asyncio.TaskGroup() as group:
                task = group.create_task(guard.check(HERE, PATIENT))
                assert "AsyncGuard.check" in repr(task)
            verdicts = [
                await guard.check(HERE, PATIENT),
                task.result(),
                await asyncio.wait_for(guard.check(HERE, PATIENT), 5),
                *await asyncio.gather(guard.check(HERE, PATIENT), guard.check(HERE, PATIENT)),
            ]
            assert {verdict.kind for verdict in verdicts} == {VerdictKind.UNKNOWN}  # nobody vouched for this one

    for debug in (False, True):
        asyncio.run(ask(), debug=debug)


def test_a_double_of_an_asynchronous_guard_is_one(redis_url: str) -> None:
    """What makes doubles of it takes its methods for those of coroutines, and a producer takes the double."""
    double = AsyncMock(spec=AsyncGuard)
    assert isinstance(double.check, AsyncMock)
    assert isinstance(create_autospec(AsyncGuard).check, FunctionType | AsyncMock)
    assert asyncio.iscoroutinefunction(AsyncGuard.check)
    AsyncGuardedProducer(AsyncMock(spec=AIOProducer), double, on_suppressed=print)

    async def later(_: object) -> None: ...

    @functools.wraps(later)
    def at_once(withheld: object) -> None:
        asyncio.run(later(withheld))

    producer: Any = object()
    GuardedProducer(producer, Guard.from_url(redis_url), on_suppressed=at_once)
