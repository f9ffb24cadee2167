"""The view on real servers: what is vouched for and what is not, and what becomes of damage, strangers and outages."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consumer.domain.bucket import Entry, fold
from consumer.domain.buckets import bucket_prefix, locations_key, meta_key, outbox_key, set_key, state_key
from consumer.domain.events import Action
from consumer.domain.subscription import Decision
from consumer.suppression.answers import Batch, OtherLedger, Server, Status
from consumer.suppression.scripts import ViewUnavailable
from consumer.suppression.view import MOST_RECORDS, View

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from tests.parts.redis import MakeRedis

pytestmark = pytest.mark.every_server

LOG = "topic-id/appliers"
BUCKETS, BUCKET = 4, 2
PREFIX = bucket_prefix(BUCKET, BUCKETS)
META = meta_key(PREFIX)
LOCATION = "loc-1"
OTHERS = "loc-0"
TIMEOUT = 0.5
REPLICATING = {"repl-diskless-sync-delay": "0", "shutdown-timeout": "0", "appendonly": "no"}
"""A replica is served at once, and in the end nobody waits for it or for its first file."""
KEYS = {
    "meta": META,
    "outbox": outbox_key(PREFIX),
    "locations": locations_key(PREFIX),
    "set": set_key(PREFIX, LOCATION),
    "state": state_key(PREFIX, LOCATION),
}


def connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
    )


def on(client: redis.Redis, log: str = LOG) -> View:
    return View(client, buckets=BUCKETS, ledger=log)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def view(client: redis.Redis) -> View:
    return on(client)


def ledger(count: int, *, locations: Sequence[str] = (OTHERS, LOCATION), patients: int = 3) -> list[Entry]:
    """Return a ledger in which patients opt out and in, at two locations in turn."""
    return [
        Entry(
            offset=offset,
            location_id=locations[offset % len(locations)],
            digits=f"1202555{offset // len(locations) % patients:04}",
            action=Action.OPT_IN if offset // (len(locations) * patients) % 2 else Action.OPT_OUT,
            event_time=offset,
            keyword="STOP",
            raw=b"record %d" % offset,
        )
        for offset in range(count)
    ]


def batch(entries: Sequence[Entry], position: int = 0, end: int | None = None, bucket: int = BUCKET) -> Batch:
    end = len(entries) if end is None else end
    return Batch(bucket, position, end, entries[position:end])


def filled(view: View, entries: Sequence[Entry]) -> str:
    """Begin the bucket, apply the ledger and return the epoch."""
    view.begin(BUCKET)
    applied = view.apply([batch(entries)])[0]
    assert applied.status is Status.OK
    return applied.epoch


def dump(client: Any) -> dict[bytes, object]:
    """Return every key with its serialised value."""
    return {key: client.dump(key) for key in client.scan_iter("*")}


def marker(client: Any) -> list[bytes | None]:
    """Return what is vouched for: run, replication, fresh."""
    found: list[bytes | None] = client.hmget(META, "run", "replication", "fresh")
    return found


def assert_holds(client: Any, entries: Sequence[Entry]) -> None:
    """Assert that the bucket holds what this ledger leads to: each set, and each change exactly once."""
    expected = fold(entries)
    found = {
        (location.decode(), member.decode())
        for location in client.smembers(KEYS["locations"])
        for member in client.smembers(set_key(PREFIX, location.decode()))
    }
    assert found == expected.members()
    view = on(client)
    taken = view.take({BUCKET: 0}, 10**6)[BUCKET]
    assert (taken.status, taken.applied, list(taken.changes)) == (Status.OK, len(entries), expected.outbox)
    meta = view.metas([BUCKET])[BUCKET]
    assert meta is not None
    assert view.audit(BUCKET, meta.epoch).status is Status.OK


@contextmanager
def paused(pid: int) -> Generator[None]:
    """Stop a process as a hung host would."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# Vouching


def test_a_bucket_that_has_read_its_log_is_vouched_for(client: redis.Redis, view: View) -> None:
    """A bucket that has reached the ledger's end is vouched for, up to the time that was asked for, on this server."""
    epoch, server = filled(view, ledger(6)), view.server()
    assert view.vouch(server, server.time - 5000, {BUCKET: (epoch, 6)}) == {BUCKET: Status.OK}
    assert marker(client) == [server.run.encode(), server.replication.encode(), b"%d" % (server.time - 5000)]


def test_an_empty_bucket_is_vouched_for(client: redis.Redis, view: View) -> None:
    """A bucket whose partition holds nothing is vouched for, too: its locations may be texted."""
    view.begin(BUCKET)
    meta, server = view.metas([BUCKET])[BUCKET], view.server()
    assert meta is not None
    assert view.vouch(server, 1000, {BUCKET: (meta.epoch, 0)}) == {BUCKET: Status.OK}
    assert marker(client)[2] == b"1000"


def test_a_bucket_that_is_behind_is_not(client: redis.Redis, view: View) -> None:
    """A bucket that lacks even one record of its log is not vouched for."""
    epoch, server = filled(view, ledger(6)), view.server()
    assert view.vouch(server, server.time, {BUCKET: (epoch, 7)}) == {BUCKET: Status.BEHIND}
    assert marker(client) == [None] * 3


def test_another_identity_is_not_vouched_for(client: redis.Redis, view: View) -> None:
    """A bucket of another epoch, run or replication history than the voucher saw is not vouched for, nor is none."""
    epoch, server = filled(view, ledger(6)), view.server()
    empty = (BUCKET + 1) % BUCKETS
    for seen, bucket, of_epoch in (
        (server, BUCKET, "another epoch"),
        (Server("0" * 40, server.replication, server.time), BUCKET, epoch),
        (Server(server.run, "0" * 40, server.time), BUCKET, epoch),
        (server, empty, epoch),
    ):
        assert view.vouch(seen, server.time, {bucket: (of_epoch, 6)}) == {bucket: Status.CHANGED}
    assert marker(client) == [None] * 3
    assert not client.exists(meta_key(bucket_prefix(empty, BUCKETS)))


def test_another_ledger_is_not_vouched_for(client: redis.Redis, view: View) -> None:
    """A bucket that was made from another ledger is never vouched for: whoever tries is told so."""
    epoch, server = filled(view, ledger(6)), view.server()
    with pytest.raises(OtherLedger, match="another ledger"):
        on(client, log="recreated/appliers").vouch(server, server.time, {BUCKET: (epoch, 6)})
    assert marker(client) == [None] * 3


def test_buckets_are_vouched_for_each_on_its_own(client: redis.Redis, view: View) -> None:
    """In one pass each bucket gets its own answer."""
    epochs = {}
    for bucket in range(BUCKETS):
        view.begin(bucket)
        meta = view.metas([bucket])[bucket]
        assert meta is not None
        epochs[bucket] = meta.epoch
    statuses = view.vouch(view.server(), 1000, {0: (epochs[0], 0), 1: (epochs[1], 1), 2: ("", 0), 3: (epochs[3], 0)})
    assert statuses == {0: Status.OK, 1: Status.BEHIND, 2: Status.CHANGED, 3: Status.OK}


def test_nothing_is_vouched_for_where_keys_may_vanish(own_redis: MakeRedis) -> None:
    """A server that may evict keys is not vouched for, under any policy but noeviction, from the moment it may."""
    with connect(own_redis().url) as client:
        view = on(client)
        epoch, server = filled(view, ledger(6)), view.server()
        for policy in ("allkeys-lru", "allkeys-random", "volatile-lfu", "volatile-ttl"):
            client.config_set("maxmemory-policy", policy)
            assert view.vouch(server, server.time, {BUCKET: (epoch, 6)}) == {BUCKET: Status.EVICTS}
        assert marker(client) == [None] * 3
        client.config_set("maxmemory-policy", "noeviction")
        assert view.vouch(server, server.time, {BUCKET: (epoch, 6)}) == {BUCKET: Status.OK}


def test_nobody_vouches_by_a_clock_that_was_set_back(client: redis.Redis, view: View) -> None:
    """A time that lies ahead of the server's clock, or was learned behind one, was read before that was set back."""
    epoch, seen = filled(view, ledger(6)), view.server()
    for server, fresh in (
        (seen, seen.time + 60_000),
        (replace(seen, time=seen.time + 60_000), seen.time + 59_000),
        (replace(seen, time=seen.time + 60_000), seen.time - 1000),
    ):
        assert view.vouch(server, fresh, {BUCKET: (epoch, 6)}) == {BUCKET: Status.CHANGED}
        assert view.vouch(server, fresh, {BUCKET: (epoch, 7)}) == {BUCKET: Status.CHANGED}  # nor waits for the end
        assert marker(client) == [None] * 3
    assert view.vouch(seen, seen.time, {BUCKET: (epoch, 6)}) == {BUCKET: Status.OK}


def test_fresh_does_not_go_back_under_one_identity(client: redis.Redis, view: View) -> None:
    """What was vouched for once stays vouched for: a slower voucher, or an older sample, takes nothing back."""
    epoch, server = filled(view, ledger(6)), view.server()
    for fresh, written in ((2000, 2000), (1000, 2000), (3000, 3000)):
        assert view.vouch(server, fresh, {BUCKET: (epoch, 6)}) == {BUCKET: Status.OK}
        assert marker(client)[2] == b"%d" % written


def test_fresh_begins_anew_with_the_identity(own_redis: MakeRedis) -> None:
    """Neither a restarted server nor a bucket begun anew inherits a later `fresh` from before."""
    server = own_redis()
    with connect(server.url) as client:
        view = on(client)
        epoch = filled(view, ledger(6))
        assert view.vouch(view.server(), 9000, {BUCKET: (epoch, 6)}) == {BUCKET: Status.OK}
        server.kill()
        server.start()
        assert marker(client)[2] == b"9000"
        assert view.vouch(view.server(), 1000, {BUCKET: (epoch, 6)}) == {BUCKET: Status.OK}
        assert marker(client)[2] == b"1000"
        view.begin(BUCKET, damaged=epoch)
        assert marker(client) == [None] * 3


def test_a_voucher_that_saw_the_server_before_its_restart_is_refused(own_redis: MakeRedis) -> None:
    """A server that restarts between the voucher's first look and its last step is not vouched for."""
    server = own_redis()
    with connect(server.url) as client:
        view = on(client)
        epoch, seen = filled(view, ledger(6)), view.server()
        server.stop()
        server.start()
        assert view.vouch(seen, seen.time, {BUCKET: (epoch, 6)}) == {BUCKET: Status.CHANGED}
        assert marker(client) == [None] * 3


def test_a_window_is_opened_where_somebody_vouches(client: redis.Redis, view: View) -> None:
    """A maintenance window needs a bucket that is vouched for on this server; it goes on when it is opened again."""
    other = (BUCKET + 1) % BUCKETS
    epoch, server = filled(view, ledger(6)), view.server()
    assert {w.status for w in view.open_window([BUCKET, other], 60_000).values()} == {Status.CHANGED}
    view.vouch(server, server.time, {BUCKET: (epoch, 6)})
    first = view.open_window([BUCKET], 60_000)[BUCKET]
    assert (first.status, first.end - first.begin, first.left) == (Status.OK, 60_000, 60_000)
    again = view.open_window([BUCKET], 120_000)[BUCKET]
    assert (again.begin, again.left) == (first.begin, 120_000)
    assert 0 < view.windows([BUCKET])[BUCKET].left <= 120_000
    with pytest.raises(OtherLedger):
        on(client, log="recreated/appliers").open_window([BUCKET], 1)
    view.close_window([BUCKET])
    assert view.windows([BUCKET])[BUCKET].left == 0
    assert view.audit(BUCKET, epoch).status is Status.OK


def test_a_window_ends_when_the_workers_are_back(client: redis.Redis, view: View) -> None:
    """While vouching goes on a window stays; the first vouching after a minute of silence ends it."""
    meta = meta_key(bucket_prefix(BUCKET, BUCKETS))
    epoch, server = filled(view, ledger(6)), view.server()
    view.vouch(server, server.time, {BUCKET: (epoch, 6)})
    view.open_window([BUCKET], 600_000)
    view.vouch(server, view.server().time, {BUCKET: (epoch, 6)})
    assert view.windows([BUCKET])[BUCKET].left > 0
    client.hset(meta, "fresh", server.time - 61_000)
    view.vouch(server, view.server().time, {BUCKET: (epoch, 6)})
    assert view.windows([BUCKET])[BUCKET].left == 0
    assert not client.hexists(meta, "window_from")


def test_a_bucket_begun_anew_has_no_window(view: View) -> None:
    """A bucket that is replayed is UNKNOWN, window or not, and does not inherit one."""
    epoch, server = filled(view, ledger(6)), view.server()
    view.vouch(server, server.time, {BUCKET: (epoch, 6)})
    view.open_window([BUCKET], 600_000)
    view.begin(BUCKET, damaged=epoch)
    assert view.windows([BUCKET])[BUCKET].status is Status.CHANGED


def test_the_clock_is_the_servers(client: redis.Redis, view: View) -> None:
    """The time of the identity is the server's own, in milliseconds."""
    clock: Any = client.time()
    before = clock[0] * 1000 + clock[1] // 1000
    assert before <= view.server().time < before + 10_000


# Scripts


def test_scripts_survive_being_forgotten(client: redis.Redis, view: View) -> None:
    """A server that forgot the scripts, before any call, is given them again, and every step does what it does."""
    entries = ledger(12)
    client.script_flush()
    view.begin(BUCKET)
    for cut in range(0, 12, 4):
        client.script_flush()
        assert view.apply([batch(entries, cut, cut + 4)])[0].status is Status.OK
    client.script_flush()
    assert [change.offset for change in view.take({BUCKET: 0}, 2)[BUCKET].changes] == [0, 1]
    client.script_flush()
    view.trim({BUCKET: 0})
    assert_holds(client, entries)
    meta = view.metas([BUCKET])[BUCKET]
    assert meta is not None
    client.script_flush()
    assert view.audit(BUCKET, meta.epoch).status is Status.OK
    client.script_flush()
    assert view.vouch(view.server(), 1000, {BUCKET: (meta.epoch, 12)}) == {BUCKET: Status.OK}


def test_a_forgotten_script_runs_once_for_each_bucket(client: redis.Redis, view: View) -> None:
    """When one round trip for many buckets finds the script forgotten, each batch is applied once, in its own place."""
    entries = ledger(4)
    for bucket in range(BUCKETS):
        view.begin(bucket)
    client.script_flush()
    sizes = {3: 1, 0: 4, 2: 2, 1: 3}
    applied = view.apply([batch(entries, 0, size, bucket) for bucket, size in sizes.items()])
    assert [one.applied for one in applied] == list(sizes.values())
    assert [len(one.decisions) for one in applied] == list(sizes.values())


@pytest.mark.parametrize("places", [1, MOST_RECORDS])
def test_a_full_batch_is_applied_in_one_step(client: redis.Redis, view: View, places: int) -> None:
    """As many records as an applier reads at once are applied together, all of one location or each of its own."""
    entries = ledger(MOST_RECORDS, locations=[f"loc-{n}" for n in range(places)], patients=MOST_RECORDS)
    view.begin(BUCKET)
    applied = view.apply([batch(entries)])[0]
    assert (applied.status, applied.applied, applied.waiting) == (Status.OK, MOST_RECORDS, MOST_RECORDS)
    assert_holds(client, entries)


def test_owners_that_do_not_know_of_each_other_do_no_harm(redis_url: str, client: redis.Redis, view: View) -> None:
    """Appliers that all believe to own a bucket and apply at once apply every record once, and in order."""
    entries = ledger(400, patients=5)
    view.begin(BUCKET)
    failures: list[BaseException] = []

    def own(seed: int) -> None:
        random, position = Random(seed), 0
        try:
            with connect(redis_url) as connection:
                while position < len(entries):
                    end = min(len(entries), position + random.randrange(1, 9))
                    start = max(0, position - random.randrange(3))
                    position = on(connection).apply([batch(entries, start, end)])[0].applied
                    position += random.randrange(2) * (position + 2 < len(entries))  # sometimes with a gap
        except BaseException as problem:  # noqa: BLE001 - it is the test's, which waits for it
            failures.append(problem)

    owners = [threading.Thread(target=own, args=(seed,)) for seed in range(4)]
    for thread in owners:
        thread.start()
    for thread in owners:
        thread.join()
    assert failures == []
    assert_holds(client, entries)


# Damage


@pytest.mark.parametrize("kind", ["string", "list"])
@pytest.mark.parametrize("name", KEYS)
def test_a_strangers_value_is_damage_and_is_healed(client: redis.Redis, view: View, name: str, kind: str) -> None:
    """A key of ours that holds another type is found by the next apply, which changes nothing; a beginning heals it."""
    entries = ledger(12)
    epoch = filled(view, entries[:6])
    client.delete(KEYS[name])
    if kind == "string":
        client.set(KEYS[name], "another system's")
    else:
        client.lpush(KEYS[name], "another", "system's")
    before = dump(client)
    applied = view.apply([batch(entries, 6)])[0]
    assert applied.status is Status.DAMAGED
    assert dump(client) == before
    if name != "meta":
        assert view.audit(BUCKET, epoch).status is Status.DAMAGED
    assert view.begin(BUCKET, damaged=applied.epoch) == 0
    assert view.apply([batch(entries)])[0].status is Status.OK
    assert_holds(client, entries)


@pytest.mark.parametrize("name", ["meta", "outbox"])
def test_a_strangers_value_stops_the_publisher_and_the_voucher(client: redis.Redis, view: View, name: str) -> None:
    """What cannot be read is never taken for an empty outbox, is not vouched for, and survives a trim."""
    epoch = filled(view, ledger(6))
    client.delete(KEYS[name])
    client.set(KEYS[name], "another system's")
    assert view.take({BUCKET: 0}, 9)[BUCKET].status is Status.DAMAGED
    view.trim({BUCKET: 6})
    if name == "meta":
        assert view.metas([BUCKET]) == {BUCKET: None}
        assert view.vouch(view.server(), 1000, {BUCKET: (epoch, 6)}) == {BUCKET: Status.CHANGED}


@pytest.mark.parametrize("field", ["log", "epoch", "applied", "published", "members", "states", "outbox", "locations"])
def test_a_bucket_that_is_not_whole_is_begun(client: redis.Redis, view: View, field: str) -> None:
    """A bucket whose meta lacks a field, and so is reported as not there, is begun anew by whoever takes it over."""
    entries = ledger(6)
    filled(view, entries)
    client.hdel(META, field)
    assert view.metas([BUCKET]) == {BUCKET: None}
    assert view.begin(BUCKET) == 0
    assert view.metas([BUCKET])[BUCKET] is not None
    assert view.apply([batch(entries)])[0].status is Status.OK
    assert_holds(client, entries)


@pytest.mark.parametrize("field", ["applied", "published", "members", "states", "outbox", "locations"])
def test_a_meta_that_is_no_number_is_damage(client: redis.Redis, view: View, field: str) -> None:
    """A field of meta that cannot be read as a number is damage, not an outage that nobody ends."""
    entries = ledger(6)
    epoch = filled(view, entries)
    client.hset(META, field, "another system's")
    view.trim({BUCKET: 0})
    if field in {"applied", "published", "outbox"}:
        assert view.take({BUCKET: 0}, 1)[BUCKET].status is Status.DAMAGED
        assert view.metas([BUCKET]) == {BUCKET: None}
    else:
        assert view.audit(BUCKET, epoch).status is Status.DAMAGED
    if field == "applied":
        assert view.vouch(view.server(), 1000, {BUCKET: (epoch, 6)}) == {BUCKET: Status.CHANGED}
    assert view.apply([batch(entries)])[0].status is Status.DAMAGED
    assert view.begin(BUCKET, damaged=epoch) == 0
    assert view.apply([batch(entries)])[0].status is Status.OK
    assert_holds(client, entries)


@pytest.mark.parametrize("status", [Action.OPT_OUT, Action.OPT_IN])
def test_the_set_follows_the_state_on_every_touch(client: redis.Redis, view: View, status: Action) -> None:
    """A member lost by hand, or put in by hand, is set right by the next record of that patient, even a STALE one."""
    opposite = Action.OPT_IN if status is Action.OPT_OUT else Action.OPT_OUT
    entries = [
        Entry(0, LOCATION, "12025550000", status, 9, "first"),
        Entry(1, LOCATION, "12025550000", opposite, 1, "sent before, delivered late"),
    ]
    epoch = filled(view, entries[:1])
    by_hand = client.srem if status is Action.OPT_OUT else client.sadd
    assert by_hand(KEYS["set"], "12025550000") == 1
    assert view.audit(BUCKET, epoch).status is Status.DAMAGED
    applied = view.apply([batch(entries, 1)])[0]
    assert [decided.decision for decided in applied.decisions] == [Decision.STALE]
    assert view.audit(BUCKET, epoch).status is Status.OK
    assert_holds(client, entries)


def test_a_state_that_cannot_be_read_is_damage(client: redis.Redis, view: View) -> None:
    """A packed record that is none is found by the next apply that needs it, which changes nothing."""
    entries = ledger(12)
    filled(view, entries[:6])
    client.hset(KEYS["state"], "12025550000", "O:many:1:1:STOP")
    before = dump(client)
    assert view.apply([batch(entries, 6)])[0].status is Status.DAMAGED
    assert dump(client) == before


def test_a_location_that_is_no_text_is_damage(client: redis.Redis, view: View) -> None:
    """A location that no ledger can name, for it is not UTF-8, is found by counting, and keeps nobody from it."""
    epoch = filled(view, ledger(6))
    client.srem(KEYS["locations"], LOCATION)
    client.sadd(KEYS["locations"], b"\xff")
    assert view.audit(BUCKET, epoch).status is Status.DAMAGED


def test_an_audit_of_another_epoch_says_nothing(client: redis.Redis, view: View) -> None:
    """A bucket that was begun anew since the auditor looked is not called damaged."""
    epoch = filled(view, ledger(6))
    view.begin(BUCKET, damaged=epoch)
    assert view.audit(BUCKET, epoch).status is Status.CHANGED


def test_only_the_damaged_epoch_is_begun_anew(client: redis.Redis, view: View) -> None:
    """When two find the same damage, the second leaves alone what the first has begun."""
    entries = ledger(6)
    epoch = filled(view, entries)
    assert view.begin(BUCKET, damaged=epoch) == 0
    assert view.apply([batch(entries)])[0].status is Status.OK
    assert view.begin(BUCKET, damaged=epoch) == 6
    assert_holds(client, entries)


# Servers that cannot answer


def steps(view: View, entries: Sequence[Entry]) -> dict[str, Callable[[], object]]:
    return {
        "apply": lambda: view.apply([batch(entries)]),
        "begin": lambda: view.begin(BUCKET),
        "metas": lambda: view.metas([BUCKET]),
        "take": lambda: view.take({BUCKET: 0}, 1),
        "trim": lambda: view.trim({BUCKET: 0}),
        "server": view.server,
        "vouch": lambda: view.vouch(Server("", "", 0), 0, {BUCKET: ("", 0)}),
        "audit": lambda: view.audit(BUCKET, ""),
    }


def test_every_step_says_that_redis_is_away(own_redis: MakeRedis) -> None:
    """Each step says so from a stopped, hung or refusing server, in one type of exception, and works again."""
    server = own_redis()
    with connect(server.url) as client:
        view, entries = on(client), ledger(6)
        filled(view, entries)
        with paused(server.pid):
            assert failing(view, entries) == {"ViewAway"}
        assert_holds(client, entries)
        server.stop()
        assert failing(view, entries) == {"ViewAway"}
        server.start()
        assert_holds(client, entries)
        client.config_set("requirepass", "secret")
        with connect(server.url) as stranger:
            assert failing(on(stranger), entries) == {"ViewRefused"}


def failing(view: View, entries: Sequence[Entry]) -> set[str]:
    """Return what the steps raise."""
    raised = set()
    for name, step in steps(view, entries).items():
        with pytest.raises(Exception, match=r"(?s).*") as problem:
            step()
        assert isinstance(problem.value, ViewUnavailable), name
        assert "record 0" not in str(problem.value)
        raised.add(type(problem.value).__name__)
    return raised


def test_a_replica_cannot_be_written(own_redis: MakeRedis) -> None:
    """A server that was demoted to a replica refuses whatever would write: its primary is asked again later."""
    primary, replica = own_redis(settings=REPLICATING), own_redis(settings=REPLICATING)
    with connect(primary.url) as client, connect(replica.url) as demoted:
        entries = ledger(12)
        filled(on(client), entries[:6])
        follow(demoted, primary.port)
        before, view = dump(demoted), on(demoted)
        for step in (
            lambda: view.apply([batch(entries, 6)]),
            lambda: view.begin(BUCKET + 1),
            lambda: view.trim({BUCKET: 1}),
        ):
            with pytest.raises(ViewUnavailable, match="ReadOnly"):
                step()
        assert dump(demoted) == before


def follow(replica: Any, port: int) -> None:
    """Make the client's server a replica of the one on that port, and wait until it holds its data."""
    replica.execute_command("REPLICAOF", "127.0.0.1", port)
    deadline = time.monotonic() + 20
    while replica.info("replication").get("master_link_status") != "up":
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("places", [(OTHERS, LOCATION), ("loc-8", "loc-9")], ids=["known", "new"])
def test_a_full_server_applies_a_batch_whole_or_not_at_all(own_redis: MakeRedis, places: tuple[str, str]) -> None:
    """A server that is out of memory applies all of a batch or nothing, and the rest when it has memory again."""
    with connect(own_redis().url) as client:
        view, entries = on(client), [*ledger(6), *ledger(12, locations=places)[6:]]
        filled(view, entries[:6])
        client.sadd(set_key(PREFIX, "loc-9"), "1")  # left over from before, and dropped first
        before = dump(client)
        client.config_set("maxmemory", 1)
        try:
            applied = view.apply([batch(entries, 6)])[0]
        except ViewUnavailable as problem:
            assert "OutOfMemory" in str(problem)  # noqa: PT017 - either end is in order
            assert dump(client) == before
        else:
            assert (applied.status, applied.applied) == (Status.OK, 12)
            assert_holds(client, entries)
        client.config_set("maxmemory", 0)
        assert view.apply([batch(entries)])[0].status is Status.OK
        assert_holds(client, entries)
