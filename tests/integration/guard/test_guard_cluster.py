"""Both guards on a Redis Cluster: a shard that fails is nobody else's trouble, not even in the same call."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

import pytest

from consumer.domain.buckets import bucket_of
from consumer.domain.events import Action
from consumer.guard import Guard, Unknown
from consumer.nodes import cluster_at
from tests.parts.redis_cluster import SHARDS
from tests.parts.view import (
    ALLOWED,
    BUCKETS,
    FINE,
    MUCH,
    STOPPED,
    SUPPRESSED,
    TIMEOUT,
    Owner,
    connect,
    said,
    unknown,
    wait_for,
    within,
)

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from tests.parts.guards import AnyGuard, MakeGuard
    from tests.parts.redis_cluster import RedisCluster

pytestmark = pytest.mark.every_server

PLACES = [next(f"far-{n}" for n in range(999) if bucket_of(f"far-{n}", BUCKETS) == bucket) for bucket in range(BUCKETS)]
PAIRS = [(place, number) for place in PLACES for number in (STOPPED, FINE)]


def vouched(cluster: RedisCluster) -> list[int]:
    """Opt a patient out in each bucket, vouch for all, and return the buckets of shard 1."""
    owner = Owner(cluster_at(cluster.url, connect))
    for bucket in range(BUCKETS):
        owner.view.begin(bucket)
    for place in PLACES:
        owner.write(Action.OPT_OUT, place, STOPPED)
    servers = owner.view.servers(range(BUCKETS))
    metas = owner.view.metas(range(BUCKETS))
    for bucket, server in servers.items():
        meta = metas[bucket]
        assert meta is not None
        owner.view.vouch(server, server.time, {bucket: (meta.epoch, meta.applied)})
    with cluster.client(1) as client:
        run = client.info("server")["run_id"]
    return [bucket for bucket, server in servers.items() if server.run == run]


def asked(guard: AnyGuard) -> list[list[tuple[object, object]]]:
    """Return what is said in each bucket of the one who opted out and of the other."""
    found = [said(verdict) for verdict in guard.check_each(PAIRS)]
    return [list(found[i : i + 2]) for i in range(0, len(found), 2)]


def test_a_server_that_is_no_node_hides_none(
    redis_cluster: RedisCluster, redis_url: str, make_guard: MakeGuard
) -> None:
    """Of the nodes that a URL names one that is none is passed over; where there is no other one, that is said."""
    vouched(redis_cluster)
    wrong = f"{redis_url.removesuffix('/0')},"
    guard = make_guard(redis_cluster.url_of(0).replace("redis://", wrong), mode="cluster")
    assert asked(guard) == [[SUPPRESSED, ALLOWED]] * BUCKETS
    only = make_guard(f"{wrong}127.0.0.1:1", mode="cluster")
    assert asked(only) == [[unknown(Unknown.WRONG_MODE)] * 2] * BUCKETS


@pytest.mark.parametrize("how", ["hung", "killed"])
def test_a_lost_shard_spoils_no_other_answer(redis_cluster: RedisCluster, make_guard: MakeGuard, how: str) -> None:
    """In the very call that meets the fault the other shards' verdicts are right, within one timeout."""
    lost = vouched(redis_cluster)
    assert 0 < len(lost) < BUCKETS
    guard = make_guard(redis_cluster.url, mode="cluster")
    right = [SUPPRESSED, ALLOWED]
    assert asked(guard) == [right] * BUCKETS
    for server in (SHARDS + 1, 1):
        redis_cluster.pause(server) if how == "hung" else redis_cluster.kill(server)
    reason = unknown(Unknown.TIMEOUT if how == "hung" else Unknown.UNREACHABLE)
    for _ in range(3):
        with within(TIMEOUT + MUCH):
            found = asked(guard)
        assert found == [[reason] * 2 if bucket in lost else right for bucket in range(BUCKETS)]
    if how == "hung":
        for server in (1, SHARDS + 1):
            redis_cluster.resume(server)
        wait_for(lambda: asked(guard) == [right] * BUCKETS)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_fork_finds_a_shard_that_is_back(redis_cluster: RedisCluster) -> None:
    """A process that was forked while a shard was away looks itself whether it is back."""
    lost = vouched(redis_cluster)
    place = PLACES[lost[0]]
    with Guard.from_url(redis_cluster.url, mode="cluster", timeout=TIMEOUT, buckets=BUCKETS) as guard:
        assert said(guard.check(place, FINE)) == ALLOWED
        for server in (SHARDS + 1, 1):
            redis_cluster.pause(server)
        assert said(guard.check(place, FINE)) == unknown(Unknown.TIMEOUT)
        context = multiprocessing.get_context("fork")
        near, far = context.Pipe()

        def look(end: Connection) -> None:
            end.recv()
            wait_for(lambda: said(guard.check(place, FINE)) == ALLOWED)
            end.send("it answers")

        child = context.Process(target=look, args=(far,))
        child.start()
        for server in (1, SHARDS + 1):
            redis_cluster.resume(server)
        near.send("go")
        assert near.poll(20)
        child.join()
