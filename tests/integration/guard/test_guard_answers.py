"""What the guard answers for whom: only where somebody vouches, and never wrong on the side of sending."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.domain.buckets import LONGEST_LOCATION, bucket_of
from consumer.domain.events import Action
from consumer.domain.phone import NotANumber
from consumer.guard import NotAllowed, Unknown, VerdictKind
from tests.parts.view import (
    ALLOWED,
    BUCKETS,
    FINE,
    HERE,
    META,
    NEXT_DOOR,
    SET,
    STOPPED,
    SUPPRESSED,
    THERE,
    answers,
    said,
    unknown,
)

if TYPE_CHECKING:
    import redis

    from tests.parts.guards import AnyGuard, MakeGuard
    from tests.parts.view import Owner

pytestmark = pytest.mark.every_server


def test_who_opted_out_is_suppressed_and_nobody_else(guard: AnyGuard, owner: Owner) -> None:
    """The patient who opted out of this location is SUPPRESSED; others, and this one elsewhere, are ALLOWED."""
    assert answers(guard) == [SUPPRESSED, ALLOWED]
    assert said(guard.check(NEXT_DOOR, STOPPED)) == ALLOWED
    assert said(guard.check(THERE, STOPPED)) == ALLOWED


def test_an_opt_out_is_in_force_from_its_apply_on(guard: AnyGuard, owner: Owner) -> None:
    """A STOP counts at once when it is applied, and so does the START after it: nothing is cached."""
    assert said(guard.check(HERE, FINE)) == ALLOWED
    owner.write(Action.OPT_OUT, HERE, FINE)
    assert said(guard.check(HERE, FINE)) == SUPPRESSED
    owner.write(Action.OPT_IN, HERE, FINE)
    assert said(guard.check(HERE, FINE)) == ALLOWED


def test_a_clock_that_was_set_back_makes_stale(client: redis.Redis, guard: AnyGuard, owner: Owner) -> None:
    """A time ahead of Redis's clock has no known age: nobody is ALLOWED on it, and the next vouching mends it."""
    client.hset(META, "fresh", owner.view.server().time + 60_000)
    assert answers(guard) == [SUPPRESSED, unknown(Unknown.STALE)]
    owner.vouch()
    assert answers(guard) == [SUPPRESSED, ALLOWED]


def test_a_verdict_carries_its_times(guard: AnyGuard, owner: Owner) -> None:
    """A verdict says when it was given and what it stands on, by Redis's clock."""
    owner.vouch(age=0)
    before = owner.view.server().time
    verdict = guard.check(HERE, FINE)
    assert verdict.at is not None
    assert verdict.fresh is not None
    assert before <= verdict.at <= owner.view.server().time
    assert verdict.fresh <= before
    assert verdict.age == (verdict.at - verdict.fresh) / 1000


def test_all_writings_of_a_number_are_one_patient(guard: AnyGuard, owner: Owner) -> None:
    """Whoever opted out is SUPPRESSED in every usual writing of the number."""
    writings = [
        "+12025550143",
        "12025550143",
        "(202) 555-0143",
        "202.555.0143",
        " +1 202-555-0143 ",
        "+1\u200b2025550143",
    ]
    verdicts = guard.check_many(HERE, writings)
    assert [verdict.kind for verdict in verdicts] == [VerdictKind.SUPPRESSED] * len(writings)


def test_what_is_no_number_is_refused(guard: AnyGuard, owner: Owner) -> None:
    """What cannot be a number raises NotANumber, alone and among others: there is no verdict on it."""
    with pytest.raises(NotANumber):
        guard.check(HERE, "garbage")
    with pytest.raises(NotANumber):
        guard.check_many(HERE, [FINE, "", STOPPED])


@pytest.mark.parametrize("location_id", ["", " ", "\u00a0\t", "x" * (LONGEST_LOCATION + 1)], ids=ascii)
def test_no_location_is_refused(guard: AnyGuard, owner: Owner, location_id: str) -> None:
    """A question about what can be no location has no answer: nobody opted out there, so it would always be ALLOWED."""
    with pytest.raises(ValueError, match="location"):
        guard.check(location_id, STOPPED)


@pytest.mark.parametrize("max_staleness", [0, -1, float("inf"), float("nan")])
def test_an_age_that_is_none_is_refused(make_guard: MakeGuard, redis_url: str, max_staleness: float) -> None:
    """A guard is not made with an age that would make everything stale, or nothing by accident."""
    with pytest.raises(ValueError, match="max_staleness"):
        make_guard(redis_url, max_staleness=max_staleness)


def test_a_server_that_forgot_the_script_answers(client: redis.Redis, guard: AnyGuard, owner: Owner) -> None:
    """After SCRIPT FLUSH the next question is answered like the one before."""
    assert answers(guard) == [SUPPRESSED, ALLOWED]
    client.script_flush()
    assert answers(guard) == [SUPPRESSED, ALLOWED]


def test_a_verdict_is_no_truth_value(make_guard: MakeGuard, redis_url: str, guard: AnyGuard, owner: Owner) -> None:
    """No verdict can be tested for truth, whatever it says: that would let UNKNOWN through one way or the other."""
    verdicts = [*guard.check_many(HERE, [STOPPED, FINE]), make_guard(redis_url, buckets=3).check(HERE, FINE)]
    assert {verdict.kind for verdict in verdicts} == set(VerdictKind)
    for verdict in verdicts:
        with pytest.raises(TypeError):
            bool(verdict)


def test_require_returns_what_may_be_sent(guard: AnyGuard, owner: Owner) -> None:
    """What is ALLOWED comes back from require with its times."""
    verdict = guard.require(HERE, FINE)
    assert said(verdict) == ALLOWED
    assert verdict.at is not None


def test_require_raises_for_all_else(make_guard: MakeGuard, redis_url: str, guard: AnyGuard, owner: Owner) -> None:
    """Whatever is not ALLOWED raises, with the verdict and without a number in the message."""
    with pytest.raises(NotAllowed) as suppressed:
        guard.require(HERE, STOPPED)
    assert said(suppressed.value.verdict) == SUPPRESSED
    with pytest.raises(NotAllowed) as unsure:
        make_guard(redis_url, buckets=3).require(HERE, FINE)
    assert said(unsure.value.verdict) == unknown(Unknown.UNVOUCHED)
    for raised in (suppressed, unsure):
        assert "555" not in str(raised.value)
        assert raised.value.verdict.kind in str(raised.value)


def test_an_empty_database_knows_nothing(guard: AnyGuard) -> None:
    """Where there is no bucket the answer is UNKNOWN."""
    assert answers(guard) == [unknown(Unknown.UNVOUCHED)] * 2


def test_a_replay_knows_nothing(guard: AnyGuard, owner: Owner) -> None:
    """A bucket begun anew is UNKNOWN until it is vouched for again, for members too: the set is not yet true."""
    owner.write(Action.OPT_IN, HERE, STOPPED)
    owner.write(Action.OPT_OUT, HERE, FINE)
    bucket = bucket_of(HERE, BUCKETS)
    meta = owner.view.metas([bucket])[bucket]
    assert meta is not None
    owner.view.begin(bucket, damaged=meta.epoch)
    assert answers(guard) == [unknown(Unknown.UNVOUCHED)] * 2
    owner.catch_up(up_to=1)  # the STOP that a START follows
    assert answers(guard) == [unknown(Unknown.UNVOUCHED)] * 2
    owner.catch_up()
    assert answers(guard) == [unknown(Unknown.UNVOUCHED)] * 2
    owner.vouch()
    assert answers(guard) == [ALLOWED, SUPPRESSED]


def test_a_flushed_server_knows_nothing(client: redis.Redis, guard: AnyGuard, owner: Owner) -> None:
    """After a flush nobody is ALLOWED, until the replay is through and vouched for."""
    client.flushdb()
    assert answers(guard) == [unknown(Unknown.UNVOUCHED)] * 2
    owner.catch_up()
    assert answers(guard) == [unknown(Unknown.UNVOUCHED)] * 2
    owner.vouch()
    assert answers(guard) == [SUPPRESSED, ALLOWED]


def test_another_number_of_buckets_finds_nothing(make_guard: MakeGuard, redis_url: str, owner: Owner) -> None:
    """A guard that is configured with another number of buckets gets UNKNOWN for every location, never an empty set."""
    for buckets in (1, 7, 9, 64):
        guard = make_guard(redis_url, buckets=buckets)
        assert {said(guard.check(f"loc-{n}", FINE)) for n in range(20)} == {unknown(Unknown.UNVOUCHED)}


@pytest.mark.parametrize("lost", ["run", "replication", "fresh"])
def test_half_a_marker_is_none(client: redis.Redis, guard: AnyGuard, owner: Owner, lost: str) -> None:
    """A marker of which a part is missing vouches for nothing."""
    client.hdel(META, lost)
    assert answers(guard) == [unknown(Unknown.UNVOUCHED)] * 2


def test_a_set_of_another_type_is_no_answer(client: redis.Redis, guard: AnyGuard, owner: Owner) -> None:
    """Where another system's value stands in place of the set, the answer is UNKNOWN."""
    for key in (SET, META):
        client.delete(key)
        client.set(key, "another system's")
        assert answers(guard) == [unknown(Unknown.UNVOUCHED)] * 2


def test_a_marker_that_is_no_number_is_no_answer(
    client: redis.Redis, make_guard: MakeGuard, redis_url: str, guard: AnyGuard, owner: Owner
) -> None:
    """Where somebody wrote a time that is none, nobody vouches; a window that is none excuses nothing."""
    fresh = int(client.hget(META, "fresh") or 0)
    client.hset(META, "fresh", "soon")
    assert answers(guard) == [unknown(Unknown.UNVOUCHED)] * 2
    client.hset(META, "fresh", fresh - 200_000)
    stale = [SUPPRESSED, unknown(Unknown.STALE)]
    strict = make_guard(redis_url, max_staleness=100)
    for begin, end in (("then", "now"), ("0", str(10**15)), (str(fresh - 200_000), str(fresh + 5 * 3_600_000))):
        client.hset(META, mapping={"window_from": begin, "window_until": end})
        assert answers(strict) == stale
    client.hset(META, mapping={"window_from": str(fresh - 200_000), "window_until": str(fresh + 3 * 3_600_000)})
    assert answers(strict) == [SUPPRESSED, ALLOWED]


def test_stale_suppresses_and_does_not_allow(
    client: redis.Redis, make_guard: MakeGuard, redis_url: str, owner: Owner
) -> None:
    """Past the age that the guard accepts a member is still SUPPRESSED and everyone else is UNKNOWN."""
    client.flushdb()
    owner.catch_up()
    owner.vouch(age=100)
    assert answers(make_guard(redis_url, max_staleness=90)) == [SUPPRESSED, unknown(Unknown.STALE)]
    assert answers(make_guard(redis_url, max_staleness=160)) == [SUPPRESSED, ALLOWED]


def test_without_a_limit_any_age_will_do(
    client: redis.Redis, make_guard: MakeGuard, redis_url: str, guard: AnyGuard, owner: Owner
) -> None:
    """A guard that accepts any age is answered from what was vouched for long ago."""
    client.flushdb()
    owner.catch_up()
    owner.vouch(age=10**6)
    assert answers(make_guard(redis_url, max_staleness=None)) == [SUPPRESSED, ALLOWED]
    assert answers(guard) == [SUPPRESSED, unknown(Unknown.STALE)]


def test_an_age_is_accepted_unless_another_is_asked_for(client: redis.Redis, guard: AnyGuard, owner: Owner) -> None:
    """Without a setting five minutes are accepted, and no more."""
    for age, other in ((280, ALLOWED), (301, unknown(Unknown.STALE))):
        client.flushdb()
        owner.catch_up()
        owner.vouch(age=age)
        assert answers(guard) == [SUPPRESSED, other]
