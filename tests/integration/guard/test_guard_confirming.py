"""Confirmations pass the guard of who sends them: each once, within its five minutes, whatever becomes of Redis."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest

from consumer.domain.bucket import Entry
from consumer.domain.buckets import bucket_of, bucket_prefix, digits_of, passes_key
from consumer.domain.events import CONFIRMATION_WINDOW_MS, Action
from consumer.guard import AsyncGuard, Guard, Unknown, VerdictKind
from consumer.suppression.answers import Batch, Status
from consumer.suppression.view import View
from tests.parts import chance
from tests.parts.view import BUCKETS, FINE, HERE, NEXT_DOOR, STOPPED, Owner, connect

if TYPE_CHECKING:
    import redis

    from consumer.guard import Verdict
    from tests.parts.guards import AnyGuard, MakeGuard
    from tests.parts.redis import MakeRedis

pytestmark = pytest.mark.every_server

BUCKET = bucket_of(HERE, BUCKETS)
PASSES = passes_key(bucket_prefix(BUCKET, BUCKETS))
ALLOWED, SUPPRESSED = (VerdictKind.ALLOWED, None), (VerdictKind.SUPPRESSED, None)


def event_id(offset: int) -> str:
    return f"{offset:032x}"


class Practice(Owner):
    """Keeps a view whose changes come by texts that are as old as a test wants, and confirms them."""

    def text(self, action: Action, number: str, *, location_id: str = HERE, age: float = 1.0) -> str:
        """Apply a text of `age` seconds ago, and return the event id of its confirmation."""
        ledger = self.ledgers.setdefault(bucket_of(location_id, BUCKETS), [])
        offset, sent = len(ledger), self.view.server().time - int(age * 1000)
        said = Entry(offset, location_id, digits_of(number), action, sent, action, confirmation=event_id(offset))
        ledger.append(said)
        self.catch_up()
        return event_id(offset)

    def stop(self, number: str = FINE, *, location_id: str = HERE, age: float = 1.0) -> str:
        return self.text(Action.OPT_OUT, number, location_id=location_id, age=age)

    def start(self, number: str = FINE, *, age: float = 1.0) -> str:
        return self.text(Action.OPT_IN, number, age=age)


@pytest.fixture
def practice(client: redis.Redis) -> Practice:
    return opened(client)


def opened(client: redis.Redis) -> Practice:
    practice = Practice(client)
    for bucket in range(BUCKETS):
        practice.view.begin(bucket)
    practice.vouch()
    return practice


def said(verdict: Verdict) -> tuple[VerdictKind, Unknown | None]:
    return verdict.kind, verdict.reason


def test_the_confirmation_of_an_opt_out_passes_once(practice: Practice, guard: AnyGuard) -> None:
    """It is ALLOWED to a patient who is SUPPRESSED, once; whoever asks again must not send it."""
    confirmation = practice.stop()
    assert said(guard.check(HERE, FINE)) == SUPPRESSED
    assert said(guard.claim_confirmation(HERE, FINE, confirmation)) == ALLOWED
    assert said(guard.claim_confirmation(HERE, FINE, confirmation)) == SUPPRESSED
    assert said(guard.check(HERE, FINE)) == SUPPRESSED


@pytest.mark.parametrize("number", [STOPPED, "+442079460958"])
def test_a_pass_is_for_one_text(practice: Practice, guard: AnyGuard, number: str) -> None:
    """Another text's id, another patient's number and another location find no pass, and take none."""
    confirmation, other = practice.stop(), practice.stop(STOPPED)
    practice.stop(number, location_id=NEXT_DOOR)
    assert said(guard.claim_confirmation(HERE, FINE, other)) == SUPPRESSED
    assert said(guard.claim_confirmation(HERE, number, confirmation)) == SUPPRESSED
    assert said(guard.claim_confirmation(NEXT_DOOR, FINE, confirmation)) == SUPPRESSED
    assert said(guard.claim_confirmation(HERE, FINE, event_id(99))) == SUPPRESSED
    assert said(guard.claim_confirmation(HERE, FINE, confirmation)) == ALLOWED


def test_each_change_has_its_own(practice: Practice, guard: AnyGuard) -> None:
    """STOP, START, STOP: three passes. The START's is of no use while the patient is opted out again."""
    first, back, second = practice.stop(age=3), practice.start(age=2), practice.stop(age=1)
    assert said(guard.claim_confirmation(HERE, FINE, back)) == SUPPRESSED
    assert said(guard.claim_confirmation(HERE, FINE, second)) == ALLOWED
    assert said(guard.claim_confirmation(HERE, FINE, first)) == ALLOWED
    third = practice.start(age=0)
    assert said(guard.claim_confirmation(HERE, FINE, third)) == ALLOWED
    assert said(guard.claim_confirmation(HERE, FINE, third)) == SUPPRESSED


def test_what_changes_nothing_is_not_confirmed(practice: Practice, guard: AnyGuard) -> None:
    """A second STOP has no pass: the first one's confirmation was the one."""
    practice.stop(age=2)
    again = practice.stop(age=1)
    assert said(guard.claim_confirmation(HERE, FINE, again)) == SUPPRESSED


def test_a_pass_is_over_after_five_minutes(client: redis.Redis, practice: Practice, guard: AnyGuard) -> None:
    """Five minutes after the text was sent its confirmation passes no more; what is over is forgotten."""
    window = CONFIRMATION_WINDOW_MS / 1000
    late, soon, expired = (practice.stop(f"+1202555019{n}", age=window - left) for n, left in enumerate((30, 0.3, -1)))
    assert said(guard.claim_confirmation(HERE, "+12025550192", expired)) == SUPPRESSED
    time.sleep(0.35)
    assert said(guard.claim_confirmation(HERE, "+12025550191", soon)) == SUPPRESSED
    assert said(guard.claim_confirmation(HERE, "+12025550190", late)) == ALLOWED
    client.zadd(PASSES, {"O:old": 1})
    practice.stop()
    assert client.zcard(PASSES) <= 3
    assert client.zscore(PASSES, "O:old") is None


def test_a_pass_is_found_under_either_spelling(practice: Practice, guard: AnyGuard) -> None:
    """A confirmation passes once, under whichever spelling the change stands; none of an opt-in while either is out."""
    today, old = "+525512345678", "+5215512345678"
    for number in (today, old):
        stopped = practice.stop(number)
        assert said(guard.claim_confirmation(HERE, old, stopped)) == ALLOWED
        assert said(guard.claim_confirmation(HERE, today, stopped)) == SUPPRESSED
    back = practice.start(today, age=0)
    assert said(guard.claim_confirmation(HERE, today, back)) == SUPPRESSED
    practice.start(old, age=0)
    assert said(guard.claim_confirmation(HERE, today, back)) == ALLOWED


def test_nothing_passes_where_nobody_vouches(client: redis.Redis, practice: Practice, guard: AnyGuard) -> None:
    """After a flush nothing is taken: not during the replay, and not after it, for it may have passed before."""
    confirmation = practice.stop()
    client.flushdb()
    assert said(guard.claim_confirmation(HERE, FINE, confirmation)) == (VerdictKind.UNKNOWN, Unknown.UNVOUCHED)
    practice.catch_up()
    assert client.zcard(PASSES) == 1
    assert said(guard.claim_confirmation(HERE, FINE, confirmation)) == (VerdictKind.UNKNOWN, Unknown.UNVOUCHED)
    practice.vouch()
    assert said(guard.claim_confirmation(HERE, FINE, confirmation)) == SUPPRESSED
    assert said(guard.claim_confirmation(HERE, STOPPED, practice.stop(STOPPED))) == ALLOWED


def test_nothing_passes_again_after_a_rollback(own_redis: MakeRedis, make_guard: MakeGuard) -> None:
    """A server that comes back with the data of before a confirmation passed does not let it pass again."""
    server = own_redis(settings={"appendonly": "no"})
    with connect(server.url) as client:
        practice = opened(client)
        guard = make_guard(server.url)
        confirmation = practice.stop()
        client.save()
        assert said(guard.claim_confirmation(HERE, FINE, confirmation)) == ALLOWED
        server.kill()
        server.start()
        assert client.zcard(PASSES) == 1
        assert said(guard.claim_confirmation(HERE, FINE, confirmation)) == (VerdictKind.UNKNOWN, Unknown.OTHER_SERVER)
        practice.view = View(client, buckets=BUCKETS, ledger=practice.view._ledger)
        practice.catch_up()
        practice.vouch()
        assert said(guard.claim_confirmation(HERE, FINE, confirmation)) == SUPPRESSED
        assert said(guard.check(HERE, FINE)) == SUPPRESSED


def test_what_was_told_before_has_no_pass(client: redis.Redis, practice: Practice, guard: AnyGuard) -> None:
    """A change that is known to be told was confirmed by whoever was there then: it is granted nothing in a replay."""
    confirmation = practice.stop()
    client.flushdb()
    (entry,) = practice.ledgers[BUCKET]
    practice.view.begin(BUCKET)
    assert practice.view.apply([Batch(BUCKET, 0, 1, [entry], published=1)])[0].status is Status.OK
    assert client.zcard(PASSES) == 0
    practice.vouch()
    assert said(guard.claim_confirmation(HERE, FINE, confirmation)) == SUPPRESSED


def test_old_news_confirm_no_opt_in(redis_url: str, practice: Practice, make_guard: MakeGuard) -> None:
    """Where what is known is too old an opt-in's confirmation waits; an opt-out's does not."""
    out, back = practice.stop(), practice.stop(STOPPED, age=3)
    back = practice.start(STOPPED, age=2)
    practice.vouch(age=0)
    time.sleep(0.2)
    guard, patient = make_guard(redis_url, max_staleness=0.1), make_guard(redis_url)
    assert said(guard.claim_confirmation(HERE, STOPPED, back)) == (VerdictKind.UNKNOWN, Unknown.STALE)
    assert said(guard.claim_confirmation(HERE, FINE, out)) == ALLOWED
    practice.vouch()
    assert said(patient.claim_confirmation(HERE, STOPPED, back)) == ALLOWED


def test_a_race_has_one_winner(redis_url: str, practice: Practice) -> None:
    """Of 32 senders that ask at the same moment exactly one may send, 200 times."""
    rounds, senders = chance.times(200), 32
    numbers = [f"+1202555{n:04}" for n in range(rounds)]
    ids = [practice.stop(number) for number in numbers]
    line, wins = threading.Barrier(senders), [[VerdictKind.UNKNOWN] * senders for _ in range(rounds)]

    def send(sender: int) -> None:
        with Guard.from_url(redis_url, buckets=BUCKETS, timeout=10) as guard:
            for place, (number, one) in enumerate(zip(numbers, ids, strict=True)):
                line.wait(60)
                wins[place][sender] = guard.claim_confirmation(HERE, number, one).kind

    threads = [threading.Thread(target=send, args=(sender,), daemon=True) for sender in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert [kinds.count(VerdictKind.ALLOWED) for kinds in wins] == [1] * rounds
    assert all(kinds.count(VerdictKind.SUPPRESSED) == senders - 1 for kinds in wins)


def test_a_race_of_tasks_has_one_winner(redis_url: str, practice: Practice) -> None:
    """Of 32 tasks that share a guard exactly one may send, 200 times."""
    numbers = [f"+1202555{n:04}" for n in range(chance.times(200))]
    ids = [practice.stop(number) for number in numbers]

    async def race() -> list[int]:
        async with AsyncGuard.from_url(redis_url, buckets=BUCKETS, timeout=10) as guard:
            won = []
            for number, one in zip(numbers, ids, strict=True):
                claims = (guard.claim_confirmation(HERE, number, one) for _ in range(32))
                won.append([verdict.kind for verdict in await asyncio.gather(*claims)].count(VerdictKind.ALLOWED))
            return won

    assert asyncio.run(race()) == [1] * len(numbers)


@pytest.mark.parametrize("wrong", ["", "x", "g" * 32, "0" * 31, "0" * 33, "A" * 32, None, 7])
def test_what_is_no_event_id_is_refused(guard: AnyGuard, wrong: str) -> None:
    """What cannot be an event id raises ValueError: it would be SUPPRESSED for ever, and nobody would know why."""
    with pytest.raises(ValueError, match="event id"):
        guard.claim_confirmation(HERE, FINE, wrong)


def test_a_stranger_in_place_of_the_passes(guard: AnyGuard, practice: Practice, client: redis.Redis) -> None:
    """Where another system's value stands in place of the passes the answer is UNKNOWN, and the next STOP mends it."""
    client.set(PASSES, "another system's")
    assert guard.claim_confirmation(HERE, FINE, event_id(0)).kind is VerdictKind.UNKNOWN
    assert said(guard.claim_confirmation(HERE, FINE, practice.stop())) == ALLOWED
