"""Many numbers, of one location or of many, in one call; and what can be asked besides: why, and to wait."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from consumer.domain.buckets import LONGEST_LOCATION, bucket_of
from consumer.domain.events import Action
from consumer.domain.phone import NotANumber
from consumer.guard import Unknown, VerdictKind
from tests.parts.fake_redis import FakeRedis, counting
from tests.parts.view import (
    ALLOWED,
    BUCKETS,
    FINE,
    HERE,
    META,
    NEXT_DOOR,
    STATE,
    STOPPED,
    SUPPRESSED,
    THERE,
    connect,
    said,
    set_up,
    unknown,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from consumer.guard import Verdict
    from tests.parts.guards import AnyGuard, MakeGuard
    from tests.parts.redis import MakeRedis
    from tests.parts.view import Owner

ELSEWHERE = [next(f"far-{n}" for n in range(999) if bucket_of(f"far-{n}", BUCKETS) == bucket) for bucket in range(8)]
"""A location of each bucket."""
BEHIND = unknown(Unknown.BEHIND)


def test_many_numbers_are_answered_in_order(guard: AnyGuard, owner: Owner) -> None:
    """Thousands of numbers in one call are each answered, in the order in which they were given."""
    numbers = [f"+1202555{number:04}" for number in range(9500)]
    owner.write(Action.OPT_OUT, HERE, *numbers[::11])
    verdicts = guard.check_many(HERE, numbers[::-1])
    opted_out = {STOPPED, *numbers[::11]}
    assert [verdict.kind for verdict in verdicts] == [
        VerdictKind.SUPPRESSED if number in opted_out else VerdictKind.ALLOWED for number in numbers[::-1]
    ]


def test_nobody_asked_about_is_no_answer(guard: AnyGuard, owner: Owner) -> None:
    """A call about nobody is answered with nothing."""
    assert guard.check_many(HERE, []) == []
    assert guard.check_each([]) == []


def test_each_pair_is_answered_in_its_place(guard: AnyGuard, owner: Owner) -> None:
    """Pairs of many locations, mixed and repeated, each get what a question of its own would."""
    pairs = [(HERE, STOPPED), (THERE, FINE), (NEXT_DOOR, STOPPED), (HERE, FINE), (THERE, "+12025550146")]
    pairs += [(HERE, STOPPED), (NEXT_DOOR, "+12025550145"), (NEXT_DOOR, "(202) 555-0145"), (HERE, "+12025550145")]
    found = [said(verdict) for verdict in guard.check_each(pairs)]
    assert found == [said(guard.check(*pair)) for pair in pairs]
    assert found.count(SUPPRESSED) == 5


def test_more_than_a_call_takes(guard: AnyGuard, owner: Owner) -> None:
    """Thousands of pairs in one bucket, two locations in turns, are asked in several calls and answered in order."""
    numbers = [f"+1202555{number:04}" for number in range(2600)]
    owner.write(Action.OPT_OUT, HERE, *numbers[::7])
    owner.write(Action.OPT_OUT, NEXT_DOOR, *numbers[::5])
    pairs = [(location, number) for number in numbers for location in (HERE, NEXT_DOOR)]
    opted_out = {(HERE, number) for number in (STOPPED, *numbers[::7])}
    opted_out |= {(NEXT_DOOR, number) for number in ("+12025550145", *numbers[::5])}
    kinds = [verdict.kind for verdict in guard.check_each(pairs)]
    assert kinds == [VerdictKind.SUPPRESSED if pair in opted_out else VerdictKind.ALLOWED for pair in pairs]


def test_numbers_of_many_countries(guard: AnyGuard, owner: Owner) -> None:
    """Numbers of different lengths in one call are not mixed up."""
    numbers = ["+4930901820", "+12025550143", "+441632960961", "+6561234567", "+5511961234567", "+23276123456"] * 3
    stopped = {"+441632960961", "+5511961234567", STOPPED}
    owner.write(Action.OPT_OUT, HERE, *stopped)
    kinds = [VerdictKind.SUPPRESSED if number in stopped else VerdictKind.ALLOWED for number in numbers]
    assert [verdict.kind for verdict in guard.check_many(HERE, numbers)] == kinds
    assert [verdict.kind for verdict in guard.check_each([(HERE, number) for number in numbers])] == kinds


def test_one_round_trip_asks_all(own_redis: MakeRedis, make_guard: MakeGuard) -> None:
    """Locations of all buckets are asked for in one round trip, and so is one number."""
    server = own_redis()
    with connect(server.url) as client:
        set_up(client)
    turns: list[int] = []
    with FakeRedis(counting(server.port, turns)) as between:
        guard = make_guard(between.url)
        pairs = [(location, FINE) for location in ELSEWHERE for _ in range(20)]
        guard.check_each(pairs)  # connects, and loads the script
        guard.check(HERE, FINE)
        for ask in (
            lambda: guard.check_each(pairs),
            lambda: guard.check_many(HERE, [FINE] * 40),
            lambda: guard.check(HERE, FINE),
        ):
            turns.clear()
            ask()
            assert len(turns) == 1


# What is refused


def test_what_is_no_number_is_named_by_its_place(guard: AnyGuard, owner: Owner) -> None:
    """NotANumber tells which of several it is, without showing it."""
    asks: list[Callable[[], list[Verdict]]] = [
        lambda: guard.check_many(HERE, [FINE, "555-01x3"]),
        lambda: guard.check_each([(HERE, FINE), (THERE, "555-01x3")]),
        lambda: guard.check_many(HERE, [FINE, "555-01x3", *[FINE] * 20]),
    ]
    for ask in asks:
        with pytest.raises(NotANumber, match="number 2 of ") as raised:
            ask()
        assert "01x3" not in str(raised.value)


@pytest.mark.parametrize("location_id", [None, 7, b"loc-1", "", "\ud800", "x" * (LONGEST_LOCATION + 1)], ids=ascii)
def test_what_is_no_location_is_refused_everywhere(guard: AnyGuard, owner: Owner, location_id: str) -> None:
    """What can be no location raises ValueError in every way to ask, in a sentence that does not quote it."""
    asks: list[Callable[[], list[Verdict]]] = [
        lambda: [guard.check(location_id, FINE)],
        lambda: guard.check_many(location_id, [FINE] * 20),
        lambda: guard.check_each([(HERE, FINE), (location_id, FINE)]),
        lambda: [guard.require(location_id, FINE)],
    ]
    for ask in asks:
        with pytest.raises(ValueError, match=r"^the location") as raised:
            ask()
        assert "xxx" not in str(raised.value)


# Why


def test_why_says_since_when_and_by_which_word(guard: AnyGuard, owner: Owner) -> None:
    """Asked why, a SUPPRESSED verdict says when the text was sent and what it said; others say nothing."""
    numbers = [FINE, STOPPED, *[f"+12025551{n:03}" for n in range(20)]]
    pairs = [(THERE, "+12025550146"), (HERE, FINE), (HERE, STOPPED)]
    since = owner.ledgers[bucket_of(HERE, BUCKETS)][0].event_time
    for verdict in (
        guard.check(HERE, STOPPED, why=True),
        guard.check_many(HERE, numbers[:2], why=True)[1],
        guard.check_many(HERE, numbers, why=True)[1],
        guard.check_each(pairs, why=True)[2],
    ):
        assert (verdict.since, verdict.keyword) == (since, Action.OPT_OUT)
    for verdict in (guard.check(HERE, FINE, why=True), guard.check(HERE, STOPPED)):
        assert (verdict.since, verdict.keyword) == (None, None)


@pytest.mark.parametrize("record", [None, b"", b"O:1", b"I:1:2:3:STOP", b"O:e:1:soon:STOP", b"\xff"])
def test_a_damaged_record_explains_nothing(
    client: redis.Redis, guard: AnyGuard, owner: Owner, record: bytes | None
) -> None:
    """Where the record of a member is missing, or none of ours, the verdict is SUPPRESSED and does not say why."""
    client.hdel(STATE, STOPPED[1:])
    if record is not None:
        client.hset(STATE, STOPPED[1:], record)
    for verdict in (guard.check(HERE, STOPPED, why=True), guard.check_each([(HERE, STOPPED)], why=True)[0]):
        assert said(verdict) == SUPPRESSED
        assert (verdict.since, verdict.keyword) == (None, None)


def test_who_may_not_read_why_is_refused(own_redis: MakeRedis, make_guard: MakeGuard) -> None:
    """A user without rights to the records is answered, and asked why is UNKNOWN (refused)."""
    server = own_redis()
    with connect(server.url) as client:
        set_up(client)
        commands = ["+eval_ro", "+evalsha_ro", "+hmget", "+smismember", "+info", "+time"]
        keys = ["%R~optout:*:meta", "%R~optout:*:set:*"]
        assert {META.rpartition(":")[2]} == {"meta"}
        client.execute_command("ACL", "SETUSER", "sender", "on", ">secret", *keys, *commands)
    guard = make_guard(server.url.replace("redis://", "redis://sender:secret@"))
    assert said(guard.check(HERE, STOPPED)) == SUPPRESSED
    assert said(guard.check(HERE, STOPPED, why=True)) == unknown(Unknown.REFUSED)
    assert said(guard.check_each([(HERE, STOPPED)], why=True)[0]) == unknown(Unknown.REFUSED)


# To wait for what Kafka held


def test_allowed_once_the_view_is_past_the_question(guard: AnyGuard, owner: Owner) -> None:
    """With catch_up the answer is ALLOWED only on what is fresher than the question, and as soon as it is."""
    asked = owner.view.server().time
    vouching = threading.Timer(0.3, owner.vouch)
    vouching.start()
    with within(2):
        verdict = guard.check(HERE, FINE, catch_up=5)
    vouching.join()
    assert said(verdict) == ALLOWED
    assert verdict.fresh is not None
    assert verdict.fresh > asked


def test_a_stop_that_was_on_its_way_is_seen(guard: AnyGuard, owner: Owner) -> None:
    """A STOP that is applied before the view gets past the question is SUPPRESSED, for one number and for many."""

    def stop() -> None:
        owner.write(Action.OPT_OUT, HERE, FINE)
        owner.vouch()

    asks: list[Callable[[], Verdict]] = [
        lambda: guard.check(HERE, FINE, catch_up=5),
        lambda: guard.check_each([(HERE, FINE)] * 20, catch_up=5)[7],
    ]
    for ask in asks:
        owner.write(Action.OPT_IN, HERE, FINE)
        owner.vouch()
        applying = threading.Timer(0.2, stop)
        applying.start()
        assert said(ask()) == SUPPRESSED
        applying.join()


def test_a_view_that_stays_behind_allows_nobody(guard: AnyGuard, owner: Owner) -> None:
    """After so many seconds the answer is UNKNOWN (behind); a member is SUPPRESSED all the same."""
    asks: list[Callable[[], list[Verdict]]] = [
        lambda: guard.check_many(HERE, [STOPPED, FINE], catch_up=0.3),
        lambda: guard.check_each([(HERE, STOPPED), (HERE, FINE)], catch_up=0.3),
    ]
    for ask in asks:
        began = time.monotonic()
        assert [said(verdict) for verdict in ask()] == [SUPPRESSED, BEHIND]
        assert 0.3 <= time.monotonic() - began < 1.5
    assert [said(verdict) for verdict in guard.check_many(HERE, [STOPPED, FINE], catch_up=0)] == [SUPPRESSED, BEHIND]


def test_a_clock_that_was_set_back_is_never_caught_up_with(
    client: redis.Redis, make_guard: MakeGuard, redis_url: str, owner: Owner
) -> None:
    """A time ahead of the clock is no proof of anything, even for a guard that accepts any age."""
    guard = make_guard(redis_url, max_staleness=None)
    client.hset(META, "fresh", owner.view.server().time + 60_000)
    assert said(guard.check(HERE, FINE)) == unknown(Unknown.STALE)
    assert said(guard.check(HERE, FINE, catch_up=0.3)) == unknown(Unknown.STALE)
    vouching = threading.Timer(0.3, owner.vouch)
    vouching.start()  # with a time that our clock has reached: the question counts from then on
    assert said(guard.check(HERE, FINE, catch_up=0.6)) == BEHIND
    vouching.join()


def test_only_the_buckets_that_are_behind_are_waited_for(client: redis.Redis, guard: AnyGuard, owner: Owner) -> None:
    """Of several buckets each counts by itself: one that catches up is answered, one that does not is UNKNOWN."""
    ahead = threading.Timer(0.2, lambda: client.hset(META, "fresh", owner.view.server().time))
    ahead.start()
    found = guard.check_each([(HERE, FINE), (THERE, FINE), (NEXT_DOOR, STOPPED)], catch_up=1)
    ahead.join()
    assert [said(verdict) for verdict in found] == [ALLOWED, BEHIND, ALLOWED]


def test_what_is_stale_stays_so_while_it_is_waited_for(client: redis.Redis, guard: AnyGuard, owner: Owner) -> None:
    """A view that nobody refreshes is UNKNOWN (stale) after the waiting, and not only behind."""
    client.hset(META, "fresh", owner.view.server().time - 400_000)
    found = [said(verdict) for verdict in guard.check_many(HERE, [STOPPED, FINE], catch_up=0.2)]
    assert found == [SUPPRESSED, unknown(Unknown.STALE)]


def test_nobody_is_required_before_the_view_is_there(guard: AnyGuard, client: redis.Redis) -> None:
    """An empty database is waited for, and UNKNOWN (unvouched) when the time is over."""
    with within(1.5):
        assert said(guard.check(HERE, FINE, catch_up=0.3)) == unknown(Unknown.UNVOUCHED)
