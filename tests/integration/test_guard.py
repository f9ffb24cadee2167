"""The guard against real servers: it answers only where somebody vouches, and is never wrong on the side of sending."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consumer.domain.bucket import Entry
from consumer.domain.buckets import LONGEST_LOCATION, bucket_of, bucket_prefix, digits_of, meta_key, set_key
from consumer.domain.events import Action
from consumer.domain.phone import NotANumber
from consumer.guard import Guard, NotAllowed, Unknown, VerdictKind
from consumer.suppression.answers import Batch, Status
from consumer.suppression.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from consumer.guard import Verdict
    from tests.parts.redis import MakeRedis

BUCKETS = 8
LOG = "topic-id/appliers"
HERE = "loc-1"
NEXT_DOOR = next(f"loc-{n}" for n in range(2, 99) if bucket_of(f"loc-{n}", BUCKETS) == bucket_of(HERE, BUCKETS))
THERE = next(f"loc-{n}" for n in range(2, 99) if bucket_of(f"loc-{n}", BUCKETS) != bucket_of(HERE, BUCKETS))
META = meta_key(bucket_prefix(bucket_of(HERE, BUCKETS), BUCKETS))
SET = set_key(bucket_prefix(bucket_of(HERE, BUCKETS), BUCKETS), HERE)
STOPPED, FINE = "+12025550143", "+12025550144"
TIMEOUT = 0.5
ALLOWED, SUPPRESSED = (VerdictKind.ALLOWED, None), (VerdictKind.SUPPRESSED, None)
REPLICATING = {"repl-diskless-sync-delay": "0", "shutdown-timeout": "0", "appendonly": "no"}
"""A replica is served at once, and in the end nobody waits for it or for its first file."""


def connect(url: str, **options: Any) -> redis.Redis:
    """Return a client as an outbound producer would have it: one short timeout, no retries."""
    return redis.Redis.from_url(
        url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0), **options
    )


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client


class Owner:
    """Keeps and vouches for the buckets of one ledger, as the worker does; here the ledger is a list a bucket."""

    def __init__(self, client: redis.Redis) -> None:
        self.view = View(client, buckets=BUCKETS, ledger=LOG)
        self.ledgers: dict[int, list[Entry]] = {}

    def write(self, action: Action, location_id: str, *numbers: str, apply: bool = True) -> None:
        """Append keywords to the ledger, and apply them."""
        ledger = self.ledgers.setdefault(bucket_of(location_id, BUCKETS), [])
        for number in numbers:
            ledger.append(Entry(len(ledger), location_id, digits_of(number), action, len(ledger), action))
        if apply:
            self.catch_up()

    def catch_up(self, *, up_to: int | None = None) -> None:
        """Apply what the buckets lack, beginning those that are not there."""
        for bucket, ledger in self.ledgers.items():
            position = self.view.begin(bucket)
            end = len(ledger) if up_to is None else up_to
            assert self.view.apply([Batch(bucket, position, end, ledger[position:end])])[0].status is Status.OK

    def vouch(self, *, age: float = 0.0) -> None:
        """Vouch for all buckets, as of `age` seconds ago by Redis's clock."""
        server = self.view.server()
        metas = self.view.metas(range(BUCKETS))
        ends = {
            bucket: (meta.epoch, len(self.ledgers.get(bucket, ())))
            for bucket, meta in metas.items()
            if meta is not None
        }
        assert set(self.view.vouch(server, server.time - int(age * 1000), ends).values()) <= {Status.OK}


@pytest.fixture
def owner(client: redis.Redis) -> Owner:
    """An owner of a vouched view in which one patient has opted out here, another next door and a third there."""
    return set_up(client)


def set_up(client: redis.Redis) -> Owner:
    owner = Owner(client)
    for bucket in range(BUCKETS):
        owner.view.begin(bucket)
    owner.write(Action.OPT_OUT, HERE, STOPPED)
    owner.write(Action.OPT_OUT, NEXT_DOOR, "+12025550145")
    owner.write(Action.OPT_OUT, THERE, "+12025550146")
    owner.vouch()
    return owner


def said(verdict: Verdict) -> tuple[VerdictKind, Unknown | None]:
    return verdict.kind, verdict.reason


def unknown(reason: Unknown) -> tuple[VerdictKind, Unknown]:
    return VerdictKind.UNKNOWN, reason


def answers(guard: Guard) -> list[tuple[VerdictKind, Unknown | None]]:
    """Return what is said of the patient who opted out here and of one who did not."""
    return [said(verdict) for verdict in guard.check_many(HERE, [STOPPED, FINE])]


@contextmanager
def within(seconds: float) -> Generator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@contextmanager
def paused(pid: int) -> Generator[None]:
    """Stop a process as a hung host would: connections are accepted and nothing is answered."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# While somebody vouches


def test_who_opted_out_is_suppressed_and_nobody_else(client: redis.Redis, owner: Owner) -> None:
    """The patient who opted out of this location is SUPPRESSED; others, and this one elsewhere, are ALLOWED."""
    guard = Guard(client, buckets=BUCKETS)
    assert answers(guard) == [SUPPRESSED, ALLOWED]
    assert said(guard.check(NEXT_DOOR, STOPPED)) == ALLOWED
    assert said(guard.check(THERE, STOPPED)) == ALLOWED


def test_an_opt_out_is_in_force_from_its_apply_on(client: redis.Redis, owner: Owner) -> None:
    """A STOP counts at once when it is applied, and so does the START after it: nothing is cached."""
    guard = Guard(client, buckets=BUCKETS)
    assert said(guard.check(HERE, FINE)) == ALLOWED
    owner.write(Action.OPT_OUT, HERE, FINE)
    assert said(guard.check(HERE, FINE)) == SUPPRESSED
    owner.write(Action.OPT_IN, HERE, FINE)
    assert said(guard.check(HERE, FINE)) == ALLOWED


def test_a_clock_that_was_set_back_makes_stale(client: redis.Redis, owner: Owner) -> None:
    """A time ahead of Redis's clock has no known age: nobody is ALLOWED on it, and the next vouching mends it."""
    guard = Guard(client, buckets=BUCKETS)
    client.hset(META, "fresh", owner.view.server().time + 60_000)
    assert answers(guard) == [SUPPRESSED, unknown(Unknown.STALE)]
    owner.vouch()
    assert answers(guard) == [SUPPRESSED, ALLOWED]


def test_a_verdict_carries_its_times(client: redis.Redis, owner: Owner) -> None:
    """A verdict says when it was given and what it stands on, by Redis's clock."""
    owner.vouch(age=0)
    before = owner.view.server().time
    verdict = Guard(client, buckets=BUCKETS).check(HERE, FINE)
    assert verdict.at is not None
    assert verdict.fresh is not None
    assert before <= verdict.at <= owner.view.server().time
    assert verdict.fresh <= before
    assert verdict.age == (verdict.at - verdict.fresh) / 1000


def test_all_writings_of_a_number_are_one_patient(client: redis.Redis, owner: Owner) -> None:
    """Whoever opted out is SUPPRESSED in every usual writing of the number."""
    writings = [
        "+12025550143",
        "12025550143",
        "(202) 555-0143",
        "202.555.0143",
        " +1 202-555-0143 ",
        "+1\u200b2025550143",
    ]
    verdicts = Guard(client, buckets=BUCKETS).check_many(HERE, writings)
    assert [verdict.kind for verdict in verdicts] == [VerdictKind.SUPPRESSED] * len(writings)


def test_what_is_no_number_is_refused(client: redis.Redis, owner: Owner) -> None:
    """What cannot be a number raises NotANumber, alone and among others: there is no verdict on it."""
    guard = Guard(client, buckets=BUCKETS)
    with pytest.raises(NotANumber):
        guard.check(HERE, "garbage")
    with pytest.raises(NotANumber):
        guard.check_many(HERE, [FINE, "", STOPPED])


@pytest.mark.parametrize("location_id", ["", " ", "\u00a0\t", "x" * (LONGEST_LOCATION + 1)], ids=ascii)
def test_no_location_is_refused(client: redis.Redis, owner: Owner, location_id: str) -> None:
    """A question about what can be no location has no answer: nobody opted out there, so it would always be ALLOWED."""
    with pytest.raises(ValueError, match="location"):
        Guard(client, buckets=BUCKETS).check(location_id, STOPPED)


@pytest.mark.parametrize("max_staleness", [0, -1, float("inf"), float("nan")])
def test_an_age_that_is_none_is_refused(client: redis.Redis, max_staleness: float) -> None:
    """A guard is not made with an age that would make everything stale, or nothing by accident."""
    with pytest.raises(ValueError, match="max_staleness"):
        Guard(client, buckets=BUCKETS, max_staleness=max_staleness)


def test_many_numbers_are_answered_in_order(client: redis.Redis, owner: Owner) -> None:
    """Thousands of numbers in one call are each answered, in the order in which they were given."""
    numbers = [f"+1202555{number:04}" for number in range(9500)]
    owner.write(Action.OPT_OUT, HERE, *numbers[::11])
    verdicts = Guard(client, buckets=BUCKETS).check_many(HERE, numbers[::-1])
    opted_out = {STOPPED, *numbers[::11]}
    assert [verdict.kind for verdict in verdicts] == [
        VerdictKind.SUPPRESSED if number in opted_out else VerdictKind.ALLOWED for number in numbers[::-1]
    ]


def test_nobody_asked_about_is_no_answer(client: redis.Redis, owner: Owner) -> None:
    """A call about nobody is answered with nothing."""
    assert Guard(client, buckets=BUCKETS).check_many(HERE, []) == []


def test_a_client_that_decodes_is_answered_alike(redis_url: str, owner: Owner) -> None:
    """A producer's own client may decode responses: the answers are the same."""
    with connect(redis_url, decode_responses=True) as client:
        assert answers(Guard(client, buckets=BUCKETS)) == [SUPPRESSED, ALLOWED]


def test_a_server_that_forgot_the_script_answers(client: redis.Redis, owner: Owner) -> None:
    """After SCRIPT FLUSH the next question is answered like the one before."""
    guard = Guard(client, buckets=BUCKETS)
    assert answers(guard) == [SUPPRESSED, ALLOWED]
    client.script_flush()
    assert answers(guard) == [SUPPRESSED, ALLOWED]


def test_a_user_who_can_only_read_is_enough(own_redis: MakeRedis) -> None:
    """The guard works under a Redis user that may write nothing, and changes nothing by asking."""
    server = own_redis()
    with connect(server.url) as client:
        set_up(client)
        commands = "+eval_ro +evalsha_ro +hmget +smismember +info +time"
        client.execute_command("ACL", "SETUSER", "sender", "on", ">secret", "%R~optout:*", *commands.split())
        with connect(server.url, username="sender", password="secret") as sender:
            assert answers(Guard(sender, buckets=BUCKETS)) == [SUPPRESSED, ALLOWED]
            with pytest.raises(redis.exceptions.NoPermissionError):
                sender.sadd(SET, "1")


# Verdicts


def test_a_verdict_is_no_truth_value(client: redis.Redis, owner: Owner) -> None:
    """No verdict can be tested for truth, whatever it says: that would let UNKNOWN through one way or the other."""
    guard = Guard(client, buckets=BUCKETS)
    verdicts = [*guard.check_many(HERE, [STOPPED, FINE]), Guard(client, buckets=3).check(HERE, FINE)]
    assert {verdict.kind for verdict in verdicts} == set(VerdictKind)
    for verdict in verdicts:
        with pytest.raises(TypeError):
            bool(verdict)


def test_require_returns_what_may_be_sent(client: redis.Redis, owner: Owner) -> None:
    """What is ALLOWED comes back from require with its times."""
    verdict = Guard(client, buckets=BUCKETS).require(HERE, FINE)
    assert said(verdict) == ALLOWED
    assert verdict.at is not None


def test_require_raises_for_all_else(client: redis.Redis, owner: Owner) -> None:
    """Whatever is not ALLOWED raises, with the verdict and without a number in the message."""
    with pytest.raises(NotAllowed) as suppressed:
        Guard(client, buckets=BUCKETS).require(HERE, STOPPED)
    assert said(suppressed.value.verdict) == SUPPRESSED
    with pytest.raises(NotAllowed) as unsure:
        Guard(client, buckets=3).require(HERE, FINE)
    assert said(unsure.value.verdict) == unknown(Unknown.UNVOUCHED)
    for raised in (suppressed, unsure):
        assert "555" not in str(raised.value)
        assert raised.value.verdict.kind in str(raised.value)


# While nobody does


def test_an_empty_database_knows_nothing(client: redis.Redis) -> None:
    """Where there is no bucket the answer is UNKNOWN."""
    assert answers(Guard(client, buckets=BUCKETS)) == [unknown(Unknown.UNVOUCHED)] * 2


def test_a_replay_knows_nothing(client: redis.Redis, owner: Owner) -> None:
    """A bucket begun anew is UNKNOWN until it is vouched for again, for members too: the set is not yet true."""
    owner.write(Action.OPT_IN, HERE, STOPPED)
    owner.write(Action.OPT_OUT, HERE, FINE)
    guard = Guard(client, buckets=BUCKETS)
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


def test_a_flushed_server_knows_nothing(client: redis.Redis, owner: Owner) -> None:
    """After a flush nobody is ALLOWED, until the replay is through and vouched for."""
    guard = Guard(client, buckets=BUCKETS)
    client.flushdb()
    assert answers(guard) == [unknown(Unknown.UNVOUCHED)] * 2
    owner.catch_up()
    assert answers(guard) == [unknown(Unknown.UNVOUCHED)] * 2
    owner.vouch()
    assert answers(guard) == [SUPPRESSED, ALLOWED]


def test_another_number_of_buckets_finds_nothing(client: redis.Redis, owner: Owner) -> None:
    """A guard that is configured with another number of buckets gets UNKNOWN for every location, never an empty set."""
    for buckets in (1, 7, 9, 64):
        guard = Guard(client, buckets=buckets)
        assert {said(guard.check(f"loc-{n}", FINE)) for n in range(20)} == {unknown(Unknown.UNVOUCHED)}


@pytest.mark.parametrize("lost", ["run", "replication", "fresh"])
def test_half_a_marker_is_none(client: redis.Redis, owner: Owner, lost: str) -> None:
    """A marker of which a part is missing vouches for nothing."""
    client.hdel(META, lost)
    assert answers(Guard(client, buckets=BUCKETS)) == [unknown(Unknown.UNVOUCHED)] * 2


def test_a_set_of_another_type_is_no_answer(client: redis.Redis, owner: Owner) -> None:
    """Where another system's value stands in place of the set, the answer is UNKNOWN."""
    for key in (SET, META):
        client.delete(key)
        client.set(key, "another system's")
        assert answers(Guard(client, buckets=BUCKETS)) == [unknown(Unknown.UNVOUCHED)] * 2


def test_a_marker_that_is_no_number_is_no_answer(client: redis.Redis, owner: Owner) -> None:
    """Where somebody wrote a time that is none, nobody vouches; a window that is none excuses nothing."""
    fresh = int(client.hget(META, "fresh") or 0)
    client.hset(META, "fresh", "soon")
    assert answers(Guard(client, buckets=BUCKETS)) == [unknown(Unknown.UNVOUCHED)] * 2
    client.hset(META, "fresh", fresh - 200_000)
    stale = [SUPPRESSED, unknown(Unknown.STALE)]
    guard = Guard(client, buckets=BUCKETS, max_staleness=100)
    for begin, end in (("then", "now"), ("0", str(10**15)), (str(fresh - 200_000), str(fresh + 5 * 3_600_000))):
        client.hset(META, mapping={"window_from": begin, "window_until": end})
        assert answers(guard) == stale
    client.hset(META, mapping={"window_from": str(fresh - 200_000), "window_until": str(fresh + 3 * 3_600_000)})
    assert answers(guard) == [SUPPRESSED, ALLOWED]


# Staleness


def test_stale_suppresses_and_does_not_allow(client: redis.Redis, owner: Owner) -> None:
    """Past the age that the guard accepts a member is still SUPPRESSED and everyone else is UNKNOWN."""
    client.flushdb()
    owner.catch_up()
    owner.vouch(age=100)
    assert answers(Guard(client, buckets=BUCKETS, max_staleness=90)) == [SUPPRESSED, unknown(Unknown.STALE)]
    assert answers(Guard(client, buckets=BUCKETS, max_staleness=160)) == [SUPPRESSED, ALLOWED]


def test_without_a_limit_any_age_will_do(client: redis.Redis, owner: Owner) -> None:
    """A guard that accepts any age is answered from what was vouched for long ago."""
    client.flushdb()
    owner.catch_up()
    owner.vouch(age=10**6)
    assert answers(Guard(client, buckets=BUCKETS, max_staleness=None)) == [SUPPRESSED, ALLOWED]
    assert answers(Guard(client, buckets=BUCKETS)) == [SUPPRESSED, unknown(Unknown.STALE)]


def test_an_age_is_accepted_unless_another_is_asked_for(client: redis.Redis, owner: Owner) -> None:
    """Without a setting five minutes are accepted, and no more."""
    for age, other in ((280, ALLOWED), (301, unknown(Unknown.STALE))):
        client.flushdb()
        owner.catch_up()
        owner.vouch(age=age)
        assert answers(Guard(client, buckets=BUCKETS)) == [SUPPRESSED, other]


# Servers that go away, come back, or are others than they were


def test_nobody_there_is_unknown(own_redis: MakeRedis) -> None:
    """Where nothing listens the answer is UNKNOWN, at once; when the server is back the same guard answers again."""
    server = own_redis()
    with connect(server.url) as client:
        owner = set_up(client)
        guard = Guard(client, buckets=BUCKETS)
        assert answers(guard) == [SUPPRESSED, ALLOWED]
        server.stop()
        with within(TIMEOUT + 1):
            assert answers(guard) == [unknown(Unknown.UNREACHABLE)] * 2
        server.start()
        assert answers(guard) == [unknown(Unknown.OTHER_SERVER)] * 2
        owner.vouch()
        assert answers(guard) == [SUPPRESSED, ALLOWED]


def test_a_hung_server_is_unknown_in_time(own_redis: MakeRedis) -> None:
    """A server that accepts and does not answer is UNKNOWN within the timeout, on an old connection or a new one."""
    server = own_redis()
    with connect(server.url) as client, connect(server.url) as another:
        set_up(client)
        guard = Guard(client, buckets=BUCKETS)
        assert answers(guard) == [SUPPRESSED, ALLOWED]
        with paused(server.pid):
            for asking in (guard, Guard(another, buckets=BUCKETS)):
                with within(TIMEOUT + 1):
                    assert answers(asking) == [unknown(Unknown.TIMEOUT)] * 2
        assert answers(guard) == [SUPPRESSED, ALLOWED]


def test_a_guard_of_a_url_answers_in_time(own_redis: MakeRedis) -> None:
    """A guard made from a URL keeps its timeout, asks no hung server twice, and makes a lost connection once more."""
    server = own_redis()
    with connect(server.url) as client:
        set_up(client)
    guard = Guard.from_url(server.url, timeout=1.0, buckets=BUCKETS)
    assert answers(guard) == [SUPPRESSED, ALLOWED]
    with paused(server.pid), within(1.8):
        assert answers(guard) == [unknown(Unknown.TIMEOUT)] * 2
    assert answers(guard) == [SUPPRESSED, ALLOWED]
    server.kill()
    server.start()
    assert answers(guard) == [unknown(Unknown.OTHER_SERVER)] * 2


def test_a_server_that_refuses_us_is_unknown(own_redis: MakeRedis) -> None:
    """A server that refuses the guard's user, or has no such database, is UNKNOWN, and not taken to be away."""
    server = own_redis()
    with connect(server.url) as client:
        set_up(client)
        elsewhere = Guard.from_url(f"{server.url.removesuffix('/0')}/99", buckets=BUCKETS)
        assert answers(elsewhere) == [unknown(Unknown.REFUSED)] * 2
        client.config_set("requirepass", "secret")
        with connect(server.url) as stranger:
            assert answers(Guard(stranger, buckets=BUCKETS)) == [unknown(Unknown.REFUSED)] * 2
        wrong = Guard.from_url(server.url.replace("redis://", "redis://:wrong@"), buckets=BUCKETS)
        assert answers(wrong) == [unknown(Unknown.REFUSED)] * 2


@pytest.mark.parametrize("url", ["redis://localhost:1/abc", "redis://localhost:1/1_0", "rediss://localhost/%C2%B2"])
def test_a_database_without_a_number_is_refused(url: str) -> None:
    """A database that is named wrongly is not quietly number 0."""
    with pytest.raises(ValueError, match="database is named by its number"):
        Guard.from_url(url)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restarted_server_is_another_one(own_redis: MakeRedis, how: str) -> None:
    """A server started again has its data and is not believed, not even for members, until it is vouched for."""
    server = own_redis(settings={"appendfsync": "always"})
    with connect(server.url) as client:
        owner = set_up(client)
        getattr(server, how)()
        server.start()
        guard = Guard(client, buckets=BUCKETS)
        assert client.exists(SET)
        assert answers(guard) == [unknown(Unknown.OTHER_SERVER)] * 2
        owner.vouch()
        assert answers(guard) == [SUPPRESSED, ALLOWED]


def test_a_promoted_replica_is_another_server(own_redis: MakeRedis) -> None:
    """A replica does not answer for its primary, nor does it when it is promoted without the last opt-outs.

    Once its buckets are caught up from the ledger and vouched for, it does; the old primary, demoted, does not.
    """
    primary, replica = own_redis(settings=REPLICATING), own_redis(settings=REPLICATING)
    with connect(primary.url) as old, connect(replica.url) as new:
        follow(new, primary.port)  # the first replica gives a primary another replication id
        owner = set_up(old)
        wait_for(lambda: new.hgetall(META) == old.hgetall(META))
        guard = Guard(new, buckets=BUCKETS)
        assert answers(Guard(old, buckets=BUCKETS)) == [SUPPRESSED, ALLOWED]
        assert answers(guard) == [unknown(Unknown.OTHER_SERVER)] * 2

        promote(new)
        owner.write(Action.OPT_OUT, HERE, FINE)  # still into the old one, which nobody follows any more
        owner.vouch()
        primary.kill()
        assert answers(guard) == [unknown(Unknown.OTHER_SERVER)] * 2

        owner.view = View(new, buckets=BUCKETS, ledger=LOG)
        owner.catch_up()
        assert answers(guard) == [unknown(Unknown.OTHER_SERVER)] * 2
        owner.vouch()
        assert answers(guard) == [SUPPRESSED, SUPPRESSED]

        primary.start()
        follow(old, replica.port)
        assert answers(Guard(old, buckets=BUCKETS)) == [unknown(Unknown.OTHER_SERVER)] * 2
        assert answers(guard) == [SUPPRESSED, SUPPRESSED]


def test_a_demoted_primary_is_another_server(own_redis: MakeRedis) -> None:
    """A primary that has swapped roles with its replica answers no more, though it never restarted.

    Its run id is still the one in the marker that came back to it.
    """
    first, second = own_redis(settings=REPLICATING), own_redis(settings=REPLICATING)
    with connect(first.url) as old, connect(second.url) as new:
        follow(new, first.port)
        run = set_up(old).view.server().run
        wait_for(lambda: new.hgetall(META) == old.hgetall(META))
        guard = Guard(old, buckets=BUCKETS)
        assert answers(guard) == [SUPPRESSED, ALLOWED]
        promote(new)
        follow(old, second.port)
        assert old.hget(META, "run") == run.encode()
        assert View(old, buckets=BUCKETS, ledger=LOG).server().run == run
        assert answers(guard) == [unknown(Unknown.OTHER_SERVER)] * 2


def follow(replica: Any, port: int) -> None:
    """Make the client's server a replica of the one on that port, and wait until it holds its data."""
    replica.execute_command("REPLICAOF", "127.0.0.1", port)
    wait_for(lambda: replica.info("replication").get("master_link_status") == "up")


def promote(replica: Any) -> None:
    """Make the client's server a primary, as a failover does."""
    replica.execute_command("REPLICAOF", "NO", "ONE")


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
