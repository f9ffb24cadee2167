"""View and guard on a real Redis Cluster: each bucket is asked for at its own server, and only there."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from consumer.cli import run
from consumer.domain.bucket import Entry
from consumer.domain.buckets import bucket_of, bucket_prefix, meta_key
from consumer.domain.events import Action
from consumer.guard import Guard, Unknown, VerdictKind
from consumer.nodes import cluster as cluster_nodes
from consumer.nodes import cluster_at
from consumer.suppression.answers import Batch, Status
from consumer.suppression.scripts import ViewMisaddressed, ViewRefused, ViewUnavailable
from consumer.suppression.view import View
from tests.parts.redis_cluster import SHARDS
from tests.parts.system import location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.parts.redis_cluster import RedisCluster

pytestmark = pytest.mark.every_server

BUCKETS = 16
EVERY = range(BUCKETS)
LOG = "topic-id/appliers"
LOCATIONS = [location_in(bucket, BUCKETS) for bucket in EVERY]
STOPPED, FINE = "+12025550143", "+12025550144"
TIMEOUT = 0.5
MUCH = 0.4
"""Seconds that a busy machine may add."""
MOVED = 0
"""A bucket whose slot moves."""


def connect(url: str) -> redis.Redis:
    retry = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=retry)


def view_of(cluster: RedisCluster) -> View:
    return View(cluster_at(cluster.url, connect), buckets=BUCKETS, ledger=LOG)


def guard_of(cluster: RedisCluster, *servers: int) -> Guard:
    return Guard.from_url(cluster.url_of(*(servers or (0,))), mode="cluster", timeout=TIMEOUT, buckets=BUCKETS)


def slot_of(bucket: int) -> int:
    return key_slot(meta_key(bucket_prefix(bucket, BUCKETS)).encode())


def served_by(cluster: RedisCluster, *servers: int) -> list[int]:
    slots = set().union(*(cluster.slots(server) for server in servers))
    return [bucket for bucket in EVERY if slot_of(bucket) in slots]


def stop(offset: int, location: str, number: str = STOPPED) -> Entry:
    return Entry(offset, location, number[1:], Action.OPT_OUT, 1_000 + offset, "STOP", b"raw")


def vouch(view: View, buckets: Iterable[int] = EVERY) -> dict[int, Status]:
    statuses: dict[int, Status] = {}
    for bucket, server in view.servers(list(buckets)).items():
        meta = view.metas([bucket])[bucket]
        assert meta is not None
        statuses |= view.vouch(server, server.time, {bucket: (meta.epoch, meta.applied)})
    return statuses


def filled(view: View) -> None:
    """Opt one patient out at a location of each bucket, and vouch for it."""
    view.begin_all(dict.fromkeys(EVERY), {})
    applied = view.apply([Batch(bucket, 0, 1, [stop(0, LOCATIONS[bucket])]) for bucket in EVERY])
    assert {one.status for one in applied} == {Status.OK}
    assert set(vouch(view).values()) == {Status.OK}


def answers(guard: Guard, buckets: Iterable[int] = EVERY, number: str = STOPPED) -> Counter[tuple[str, str | None]]:
    verdicts = [guard.check(LOCATIONS[bucket], number) for bucket in buckets]
    return Counter((str(verdict.kind), verdict.reason and str(verdict.reason)) for verdict in verdicts)


SUPPRESSED, ALLOWED = {("SUPPRESSED", None)}, {("ALLOWED", None)}


def test_each_bucket_is_asked_for_at_its_server(redis_cluster: RedisCluster) -> None:
    """Each server is identified for its own buckets, all are applied and vouched for, and guards of any make answer."""
    view = view_of(redis_cluster)
    filled(view)
    for server in range(SHARDS):
        info: Any = redis_cluster.client(server).info()
        mine = {bucket for bucket, one in view.servers(EVERY).items() if one.run == info["run_id"]}
        assert mine == set(served_by(redis_cluster, server)) != set()
    assert {len(taken.changes) for taken in view.take(dict.fromkeys(EVERY, 0), 9).values()} == {1}
    view.trim(dict.fromkeys(EVERY, 1))
    metas = view.metas(EVERY)
    assert all(meta is not None and meta.waiting == 0 for meta in metas.values())
    assert {view.audit(bucket, meta.epoch).status for bucket, meta in metas.items() if meta} == {Status.OK}
    with redis.RedisCluster.from_url(redis_cluster.url) as client:
        for guard in (guard_of(redis_cluster), guard_of(redis_cluster, 5), Guard(client, buckets=BUCKETS)):
            assert answers(guard).keys() == SUPPRESSED
            assert answers(guard, number=FINE).keys() == ALLOWED
        assert View(client, buckets=BUCKETS, ledger=LOG).metas(EVERY) == metas


def took(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_a_hung_shard_is_waited_for_once(redis_cluster: RedisCluster) -> None:
    """Where no server of a shard answers each caller waits for one timeout, then not at all; the others answer."""
    view, guard = view_of(redis_cluster), guard_of(redis_cluster)
    filled(view)
    assert answers(guard).keys() == SUPPRESSED
    lost, others = served_by(redis_cluster, 1), served_by(redis_cluster, 0, 2)
    redis_cluster.pause(SHARDS + 1)
    redis_cluster.pause(1)
    assert took(lambda: guard.check(LOCATIONS[lost[0]], STOPPED)) < TIMEOUT + MUCH
    assert took(lambda: answers(guard, lost * 20)) < MUCH
    assert answers(guard, lost).keys() == {("UNKNOWN", "timeout")}
    assert answers(guard, others * 20).keys() == SUPPRESSED
    assert took(lambda: view.metas(EVERY)) < TIMEOUT + MUCH
    assert took(lambda: view.servers(EVERY)) < MUCH
    assert view.metas(EVERY).keys() == view.servers(EVERY).keys() == set(others)
    with pytest.raises(ViewUnavailable):
        view.metas(lost)
    late = guard_of(redis_cluster, 2)  # one that begins now
    assert answers(late, others).keys() == SUPPRESSED
    blind = guard_of(redis_cluster, 1)  # and one that knows nobody but the server that is lost
    assert took(lambda: blind.check(LOCATIONS[others[0]], STOPPED)) < TIMEOUT + MUCH
    assert answers(blind, others[:1]).keys() == {("UNKNOWN", "timeout")}
    assert answers(guard_of(redis_cluster, 1, 4, 2), others).keys() == SUPPRESSED  # one of those it knows is enough
    redis_cluster.resume(1)
    for one in (guard, late, blind):
        wait_for("it answers again", lambda one=one: answers(one).keys() == SUPPRESSED, 10)  # type: ignore[misc]
    redis_cluster.resume(SHARDS + 1)  # not before: it might take the shard over, and nobody here vouches for its data
    assert view.metas(EVERY).keys() == set(EVERY)


def test_who_is_away_is_not_looked_for_for_ever(redis_cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread beside ends when nobody asks for the lost shard any more, and the next one to ask finds it again."""
    monkeypatch.setattr(cluster_nodes, "IDLE_AFTER", 1.0)
    cluster = cluster_at(redis_cluster.url, connect)
    view = View(cluster, buckets=BUCKETS, ledger=LOG)
    filled(view)
    lost = served_by(redis_cluster, 1)
    redis_cluster.kill(SHARDS + 1)
    redis_cluster.kill(1)
    assert lost[0] not in view.metas(EVERY)
    assert cluster._mender is not None
    wait_for("it has ended", lambda: cluster._mender is None, 10)
    redis_cluster.servers[1].start()
    wait_for("all answer", lambda: view.metas(EVERY).keys() == set(EVERY), 15)


def test_a_slot_that_has_moved_is_followed(redis_cluster: RedisCluster) -> None:
    """Whoever knew the old server is served by the new one in the same call; vouching for the old one is refused."""
    view, guard = view_of(redis_cluster), guard_of(redis_cluster)
    filled(view)
    assert answers(guard).keys() == SUPPRESSED
    source = redis_cluster.primary_of(slot_of(MOVED))
    target = (source + 1) % SHARDS
    before = view.servers([MOVED])[MOVED]
    list(redis_cluster.move_slot(slot_of(MOVED), source, target))
    assert view.server(MOVED) == before or view.server(MOVED).run == before.run  # nobody has told it yet
    assert answers(guard, [MOVED]).keys() == {("UNKNOWN", "other server")}
    meta = view.metas([MOVED])[MOVED]
    assert meta is not None
    assert view.vouch(before, before.time, {MOVED: (meta.epoch, 1)}) == {MOVED: Status.CHANGED}
    assert view.apply([Batch(MOVED, 1, 2, [stop(1, LOCATIONS[MOVED], FINE)])])[0].status is Status.OK
    wait_for("it is vouched for", lambda: vouch(view, [MOVED]) == {MOVED: Status.OK})
    assert view.server(MOVED).run != before.run
    assert answers(guard, [MOVED]).keys() == answers(guard, [MOVED], FINE).keys() == SUPPRESSED


def test_a_slot_on_its_way_is_never_half_there(redis_cluster: RedisCluster) -> None:
    """While keys move one by one each call is carried out whole or not at all, and no guard allows a wrong send."""
    view, guard = view_of(redis_cluster), guard_of(redis_cluster)
    filled(view)
    source = redis_cluster.primary_of(slot_of(MOVED))
    old, new = LOCATIONS[MOVED], [location_in(MOVED, BUCKETS, number) for number in range(1, 30)]
    position, seen = 1, Counter[str]()
    for step in redis_cluster.move_slot(slot_of(MOVED), source, (source + 1) % SHARDS):
        for locations in ([old], [old, new.pop()]):
            entries = [stop(position + i, location, FINE) for i, location in enumerate(locations)]
            try:
                (applied,) = view.apply([Batch(MOVED, position, position + len(entries), entries)])
            except ViewUnavailable as problem:
                seen[str(problem)] += 1
            else:
                assert applied.status is Status.OK, (step, applied)
                position = applied.applied
                seen["OK"] += 1
        assert guard.check(old, STOPPED).kind is not VerdictKind.ALLOWED, step
    assert seen.keys() > {"OK"}, seen  # some were refused, and some not
    print(dict(seen))  # noqa: T201
    meta = view.metas([MOVED])[MOVED]
    assert meta is not None
    assert meta.applied == position
    assert view.audit(MOVED, meta.epoch).status is Status.OK
    wait_for("it is vouched for", lambda: vouch(view, [MOVED]) == {MOVED: Status.OK})
    assert answers(guard, [MOVED]).keys() == SUPPRESSED


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run([*arguments])
    streams = capsys.readouterr()
    assert "Traceback" not in streams.err
    return code, streams.out, streams.err


def test_the_wrong_mode_is_refused(
    redis_cluster: RedisCluster,
    redis_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client for one server on a cluster, or the other way round, is refused in a sentence that names the setting."""
    for mode, right, url in (("standalone", "cluster", redis_cluster.url), ("cluster", "standalone", redis_url)):
        cluster = mode == "cluster"
        view = View(cluster_at(url, connect) if cluster else connect(url), buckets=BUCKETS, ledger=LOG)
        with pytest.raises(ViewMisaddressed, match=f"set OPTOUT_REDIS_MODE to {right}"):
            view.metas(EVERY)
        with pytest.raises(ViewMisaddressed, match=f"set OPTOUT_REDIS_MODE to {right}"):
            view.begin_all(dict.fromkeys(EVERY), {})
        guard = Guard.from_url(url, mode="cluster" if cluster else "standalone", buckets=BUCKETS)
        reasons = Counter(guard.check(location, FINE).reason for location in LOCATIONS)
        assert reasons.keys() <= {Unknown.WRONG_MODE, Unknown.UNVOUCHED}  # some buckets may be where it asks
        assert reasons[Unknown.WRONG_MODE] > BUCKETS // 3
        misled = next(place for place in LOCATIONS if guard.check(place, FINE).reason is Unknown.WRONG_MODE)
        for name, value in {"URL": url, "MODE": mode}.items():
            monkeypatch.setenv(f"OPTOUT_REDIS_{name}", value)
        monkeypatch.setenv("OPTOUT_BUCKETS", str(BUCKETS))
        code, out, err = said(capsys, "check", misled, FINE)
        assert (code, out) == (2, "")
        assert f"OPTOUT_REDIS_MODE is {mode}, and this Redis wants {right}" in err
        code, out, err = said(capsys, "check-config")
        assert code == 1
        assert f"set OPTOUT_REDIS_MODE to {right}" in out + err


def test_check_config_looks_at_every_primary(
    redis_cluster: RedisCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one server of the cluster has set wrongly is said, with its address; a shard that is away is said, too."""
    monkeypatch.setenv("OPTOUT_REDIS_URL", redis_cluster.url)
    monkeypatch.setenv("OPTOUT_REDIS_MODE", "cluster")
    code, out, err = said(capsys, "check-config")
    assert code == 1  # there is no Kafka
    assert "Redis 127" not in out + err
    assert "OPTOUT_REDIS" not in out + err
    redis_cluster.call(1, "CONFIG SET", "maxmemory-policy", "allkeys-lru")
    redis_cluster.call(2, "CONFIG SET", "cluster-require-full-coverage", "yes")
    code, out, err = said(capsys, "check-config")
    ports = [server.port for server in redis_cluster.servers]
    assert f"Redis 127.0.0.1:{ports[1]} has maxmemory-policy allkeys-lru" in out + err
    assert f"Redis 127.0.0.1:{ports[2]} has cluster-require-full-coverage yes" in out + err
    redis_cluster.kill(SHARDS + 1)
    redis_cluster.kill(1)
    code, out, err = said(capsys, "check-config")
    assert f"Redis 127.0.0.1:{ports[1]} cannot be reached" in out + err
    monkeypatch.setenv("OPTOUT_REDIS_URL", f"{redis_cluster.url[:-1]}3")
    code, out, err = said(capsys, "check", "loc-1", FINE)
    assert (code, out) == (2, "")
    assert "a cluster has no database but 0" in err


def test_check_answers_from_a_cluster(
    redis_cluster: RedisCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`optout check` finds the bucket's server through any other one."""
    filled(view_of(redis_cluster))
    monkeypatch.setenv("OPTOUT_REDIS_URL", redis_cluster.servers[4].url)
    monkeypatch.setenv("OPTOUT_REDIS_MODE", "cluster")
    monkeypatch.setenv("OPTOUT_BUCKETS", str(BUCKETS))
    for location in LOCATIONS:
        code, out, _ = said(capsys, "check", location, STOPPED, "--json")
        assert (code, json.loads(out)["verdict"]) == (3, "SUPPRESSED")
    assert bucket_of(LOCATIONS[3], BUCKETS) == 3


def test_a_sender_with_few_rights(redis_cluster: RedisCluster) -> None:
    """A user who may only read needs one more right on a cluster, and each server is asked with the URL's password."""
    view, address = view_of(redis_cluster), redis_cluster.url.removeprefix("redis://")
    filled(view)
    rights = (
        "resetkeys %R~optout:{*}:meta %R~optout:{*}:set:* -@all +evalsha_ro +eval_ro +info +time +hmget +smismember"
    )
    for server in redis_cluster.running():
        redis_cluster.call(server, "ACL", "SETUSER", "sender", "on", ">p@ss/word#1", *rights.split(), "+cluster|slots")
    sender = Guard.from_url(f"redis://sender:p%40ss%2Fword%231@{address}", mode="cluster", buckets=BUCKETS)
    assert answers(sender).keys() == SUPPRESSED
    stranger = Guard.from_url(f"redis://sender:wrong@{address}", mode="cluster", buckets=BUCKETS)
    assert answers(stranger).keys() == {("UNKNOWN", "refused")}
    refused = View(cluster_at(f"redis://sender:wrong@{address}", connect), buckets=BUCKETS, ledger=LOG)
    with pytest.raises(ViewRefused, match="user or password"):
        refused.metas(EVERY)
    redis_cluster.kill(1)  # whether it is back is found out with these rights, too
    wait_for("its replica is asked", lambda: answers(sender).keys() == SUPPRESSED | {("UNKNOWN", "other server")}, 20)
