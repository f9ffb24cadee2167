"""The view in a Redis Cluster: the path over all shards, a shard lost, a failover, a slot moved under load.

In each of them guards are asked all the time: one that lives as long as the test, and fresh ones.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, defaultdict
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any, Self

import pytest
from redis.crc import key_slot

from consumer.domain.buckets import bucket_of, bucket_prefix, meta_key
from consumer.guard import Guard, VerdictKind
from tests.parts import oracle
from tests.parts.chance import seed_of
from tests.parts.redis_cluster import SHARDS
from tests.parts.system import System, inbound, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tests.parts.kafka import Kafka
    from tests.parts.redis_cluster import RedisCluster

pytestmark = pytest.mark.timeout(300)

BUCKETS = 16
LOCATIONS = [location_in(bucket, BUCKETS) for bucket in range(BUCKETS)]
TIMEOUT = 1.0
Subscription = tuple[str, str]


def slot_of(location: str) -> int:
    return key_slot(meta_key(bucket_prefix(bucket_of(location, BUCKETS), BUCKETS)).encode())


def number(patient: int) -> str:
    return f"+1202555{patient:04d}"


class ClusterSystem(System):
    """A deployment on a Redis Cluster, whose content is read from the servers one by one."""

    def __init__(self, kafka: Kafka, cluster: RedisCluster, prefix: str, folder: Path) -> None:
        super().__init__(kafka.bootstrap, cluster.url, prefix, folder, buckets=BUCKETS)
        self.environment |= {"OPTOUT_REDIS_MODE": "cluster", "OPTOUT_REDIS_TIMEOUT": str(TIMEOUT)}
        self.cluster = cluster
        self.sent: list[dict[str, Any]] = []
        self.partitions = 1

    def __enter__(self) -> Self:
        return self

    def text(self, message: Mapping[str, Any]) -> bytes:
        self.sent.append(dict(message))
        return super().text(message)

    def metas(self, field: str) -> dict[int, int]:
        values = dict.fromkeys(range(BUCKETS), -1)
        for primary in self.primaries():
            with self.cluster.client(primary) as client:
                for bucket in values:
                    with suppress(Exception):  # another server's
                        values[bucket] = int(client.hget(meta_key(bucket_prefix(bucket, BUCKETS)), field) or -1)
        return values

    def members(self) -> set[oracle.Subscription]:
        found = set()
        for primary in self.primaries():
            with self.cluster.client(primary) as client:
                for key in client.scan_iter("optout:*:set:*", count=1000):
                    found |= {(key.split(":set:", 1)[1], f"+{member}") for member in client.smembers(key)}
        return found

    def primaries(self) -> list[int]:
        return [n for n in self.cluster.running() if self.cluster.client(n).info("replication")["role"] == "master"]

    def stop_each(self, patient: int, word: str, locations: Iterable[str] = LOCATIONS) -> None:
        """Send one text of this patient to each location."""
        texts = [(location, self.text(inbound(location, number(patient), word))) for location in locations]
        self.write("inbound", *((bucket_of(location, self.partitions), text) for location, text in texts))

    def begin(self, workers: int = 2) -> None:
        self.create_topics()
        self.partitions = len(self.ends("inbound"))
        for _ in range(workers):
            self.start_worker()
        wait_for("all is vouched for", lambda: all(fresh > 0 for fresh in self.metas("fresh").values()), 60)

    def right(self) -> None:
        """Assert that every change was told once, and that Redis holds what was texted."""
        wait_for("settled", self.settled, 60)
        changes = oracle.changes_of(self.read("ledger"))
        wait_for("every change can be read", lambda: len(self.read("changed")) >= len(changes))
        told = oracle.told(self.read("changed"))
        assert not oracle.twice(told)
        assert told == changes
        assert self.members() == oracle.members_of(changes) == oracle.members_after(self.sent)


class Probe(threading.Thread):
    """Asks about patients who texted STOP, over and over: once SUPPRESSED, ALLOWED is wrong until they text START."""

    def __init__(self, cluster: RedisCluster) -> None:
        super().__init__(daemon=True)
        self._cluster = cluster
        self._chance = Random(seed_of("probe"))
        self._guard = self._new()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._asked: list[Subscription] = []
        self.suppressed: set[Subscription] = set()
        self.wrong: list[tuple[Subscription, float]] = []
        self.verdicts: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.unknown_at: dict[str, set[str]] = defaultdict(set)
        self.slowest = 0.0
        self.failure: BaseException | None = None

    def _new(self) -> Guard:
        url = self._cluster.url_of(*self._chance.sample(range(2 * SHARDS), 2 * SHARDS))
        return Guard.from_url(url, mode="cluster", timeout=TIMEOUT, buckets=BUCKETS)

    def add(self, subscriptions: Iterable[Subscription]) -> None:
        with self._lock:
            self._asked += subscriptions

    def drop(self, subscription: Subscription) -> None:
        """Forget somebody, who is about to text START."""
        with self._lock:
            self._asked.remove(subscription)

    def run(self) -> None:
        try:
            for turn in itertools.count():
                if self._ended.is_set():
                    return
                guard = self._new() if turn % 100 == 99 else self._guard
                with self._lock:
                    if self._asked:
                        self._ask(guard, self._chance.choice(self._asked))
                time.sleep(0.002)
        except BaseException as problem:  # noqa: BLE001 - told at the end
            self.failure = problem

    def _ask(self, guard: Guard, who: Subscription) -> None:
        began = time.monotonic()
        verdict = guard.check(*who)
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.verdicts[verdict.kind] += 1
        if verdict.kind is VerdictKind.UNKNOWN:
            self.unknown[str(verdict.reason)] += 1
            self.unknown_at[who[0]].add(f"{verdict.reason}, {'kept' if guard is self._guard else 'fresh'}")
        if verdict.kind is VerdictKind.SUPPRESSED:
            self.suppressed.add(who)
        if verdict.kind is VerdictKind.ALLOWED and who in self.suppressed:
            self.wrong.append((who, time.monotonic()))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join(10)
        print(dict(self.verdicts), dict(self.unknown), f"slowest {self.slowest:.2f} s")  # noqa: T201 - the figures
        assert self.failure is None, self.failure
        assert not self.wrong
        assert sum(self.verdicts.values()) > 100


@pytest.fixture
def system(kafka: Kafka, redis_cluster: RedisCluster, topic_prefix: str, tmp_path: Path) -> Iterator[ClusterSystem]:
    with ClusterSystem(kafka, redis_cluster, topic_prefix, tmp_path) as deployment:
        deployment.begin()
        yield deployment


@pytest.fixture
def probe(redis_cluster: RedisCluster, system: ClusterSystem) -> Iterator[Probe]:
    with Probe(redis_cluster) as thread:
        yield thread


def guard_of(cluster: RedisCluster) -> Guard:
    return Guard.from_url(cluster.url, mode="cluster", timeout=TIMEOUT, buckets=BUCKETS)


def answers(guard: Guard, patient: int, locations: Iterable[str] = LOCATIONS) -> set[str]:
    return {str(guard.check(location, number(patient)).kind) for location in locations}


def shards(cluster: RedisCluster) -> dict[int, list[str]]:
    """Return the locations that each primary serves."""
    served = {primary: cluster.slots(primary) for primary in range(SHARDS)}
    return {n: [location for location in LOCATIONS if slot_of(location) in slots] for n, slots in served.items()}


def test_the_path(system: ClusterSystem, redis_cluster: RedisCluster, probe: Probe) -> None:
    """STOP suppresses and START allows again, at locations of every shard."""
    assert all(shards(redis_cluster).values())
    wrong = system.run("worker", OPTOUT_REDIS_MODE="standalone")
    assert (wrong.returncode, "set OPTOUT_REDIS_MODE to cluster" in wrong.stderr) == (2, True), wrong.stderr
    assert "Traceback" not in wrong.stderr
    guard = guard_of(redis_cluster)
    assert answers(guard, 1) == {"ALLOWED"}
    system.stop_each(1, "STOP")
    system.stop_each(2, "STOP")
    probe.add((location, number(2)) for location in LOCATIONS)
    wait_for("all are suppressed", lambda: answers(guard, 1) == answers(guard, 2) == {"SUPPRESSED"})
    assert system.verdict(LOCATIONS[0], number(1)) == "SUPPRESSED"
    system.stop_each(1, "START")
    wait_for("all are allowed", lambda: answers(guard, 1) == {"ALLOWED"})
    assert answers(guard, 2) == {"SUPPRESSED"}
    system.right()
    assert all(worker.stop() == 0 for worker in system.workers)


def test_a_shard_is_lost(system: ClusterSystem, redis_cluster: RedisCluster, probe: Probe) -> None:
    """Where a shard has no server left its locations alone are UNKNOWN; the others are applied, told and answered."""
    served = shards(redis_cluster)
    lost, others = served[1], served[0] + served[2]
    guard = guard_of(redis_cluster)
    system.stop_each(1, "STOP")
    probe.add((location, number(1)) for location in LOCATIONS)
    wait_for("all are suppressed", lambda: answers(guard, 1) == {"SUPPRESSED"})
    redis_cluster.kill(SHARDS + 1)
    redis_cluster.kill(1)
    assert answers(guard, 1, lost) == {"UNKNOWN"}
    began = time.monotonic()
    system.stop_each(2, "STOP")
    wait_for("the others' STOPs are in force", lambda: answers(guard, 2, others) == {"SUPPRESSED"}, 10)
    print(f"in force beside the lost shard after {time.monotonic() - began:.1f} s")  # noqa: T201
    told = {(location, number(patient)) for patient in (1, 2) for location in others}
    wait_for("and told", lambda: told <= {change[:2] for change in oracle.told(system.read("changed"))}, 10)
    until = time.monotonic() + 5
    while time.monotonic() < until:  # vouched for all the while, too
        assert answers(guard, 2, others) == {"SUPPRESSED"}
        ages = [guard.check(location, number(2)).age for location in others]
        assert all(age is not None and age < 4 for age in ages), ages
        assert answers(guard, 2, lost) == {"UNKNOWN"}
        time.sleep(0.1)
    began = time.monotonic()
    redis_cluster.servers[1].start()
    wait_for("the lost shard is right again", lambda: answers(guard, 2) == {"SUPPRESSED"}, 60)
    print(f"right {time.monotonic() - began:.1f} s after its primary was started again")  # noqa: T201
    assert probe.unknown_at.keys() <= {*lost}, dict(probe.unknown_at)
    system.right()


def test_failover_that_lost_writes(system: ClusterSystem, redis_cluster: RedisCluster, probe: Probe) -> None:
    """A promoted replica that misses acknowledged writes is UNKNOWN until they are replayed; none lost or doubled."""
    served = shards(redis_cluster)
    guard = guard_of(redis_cluster)
    system.stop_each(1, "STOP")
    system.stop_each(2, "STOP")
    wait_for("all are suppressed", lambda: answers(guard, 1) == answers(guard, 2) == {"SUPPRESSED"})
    probe.add((location, number(patient)) for patient in (1, 3) for location in LOCATIONS)
    redis_cluster.cut_off(0)
    system.stop_each(3, "STOP")
    system.stop_each(2, "START")
    wait_for("in force on the primary", lambda: answers(guard, 3, served[0]) == {"SUPPRESSED"})
    wait_for("told", lambda: answers(guard, 2, served[0]) == {"ALLOWED"})
    wait_for("all are seen to be suppressed", lambda: len(probe.suppressed) == 2 * BUCKETS)
    redis_cluster.kill(0)
    for location in served[0]:
        meta = meta_key(bucket_prefix(bucket_of(location, BUCKETS), BUCKETS))
        assert redis_cluster.field(SHARDS, meta, "applied") == "2"  # of the four that were acknowledged
    began = time.monotonic()
    system.stop_each(4, "STOP")
    wait_for("the others' are in force", lambda: answers(guard, 4, served[1] + served[2]) == {"SUPPRESSED"}, 10)
    wait_for("right again by itself", lambda: answers(guard, 4, served[0]) == {"SUPPRESSED"}, 60)
    print(f"right {time.monotonic() - began:.1f} s after the primary was killed")  # noqa: T201
    assert answers(guard, 3) == answers(guard, 1) == {"SUPPRESSED"}
    assert answers(guard, 2) == {"ALLOWED"}
    assert probe.unknown_at.keys() <= {*served[0]}, dict(probe.unknown_at)
    assert redis_cluster.primary_of(slot_of(served[0][0])) == SHARDS
    redis_cluster.servers[0].start()  # it comes back as a replica, and nobody takes it for the primary
    redis_cluster.wait_whole()
    assert answers(guard, 4) == {"SUPPRESSED"}
    system.right()


def test_slot_moved_under_load(system: ClusterSystem, redis_cluster: RedisCluster, probe: Probe) -> None:
    """While a bucket's slot moves from one server to another, key by key, no answer is wrong and nothing is lost."""
    location = shards(redis_cluster)[0][0]
    guard = guard_of(redis_cluster)
    names = [location_in(bucket_of(location, BUCKETS), BUCKETS, n) for n in range(12)]
    system.stop_each(1, "STOP", [*LOCATIONS, *names])
    probe.add((name, number(1)) for name in [*LOCATIONS, *names])
    wait_for("all are suppressed", lambda: answers(guard, 1, [*LOCATIONS, *names]) == {"SUPPRESSED"})
    patients = itertools.count(2)
    chance = Random(seed_of("moved slot"))

    def texts() -> None:
        patient = next(patients)
        system.stop_each(patient, "STOP", [*LOCATIONS, chance.choice(names)])
        if patient % 3 == 0:
            system.stop_each(patient, "START", LOCATIONS)

    for _step in redis_cluster.move_slot(slot_of(location), 0, 1, pause=0.05):
        texts()
    began = time.monotonic()
    last = next(patients)
    system.stop_each(last, "STOP")
    wait_for("right again by itself", lambda: answers(guard, last) == answers(guard, 1, names) == {"SUPPRESSED"}, 30)
    print(f"right {time.monotonic() - began:.1f} s after the slot had moved")  # noqa: T201
    assert redis_cluster.primary_of(slot_of(location)) == 1
    assert probe.unknown_at.keys() <= {location, *names}, dict(probe.unknown_at)
    system.right()
