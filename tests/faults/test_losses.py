"""Each way in which Redis can lose something, on a worker that runs: named, counted, healed by itself.

One worker goes through all of them, while a guard asks about every patient whose STOP is applied: it may say UNKNOWN,
and never ALLOWED.
"""

from __future__ import annotations

import secrets
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
from confluent_kafka import KafkaException

from consumer.domain.buckets import bucket_prefix, meta_key, set_key, state_key
from consumer.embedded.redis_server import RedisServer
from consumer.guard import VerdictKind
from tests.parts import available, oracle
from tests.parts.forwarder import Forwarder
from tests.parts.system import System, inbound, location_in, wait_for
from tests.parts.watching import LISTEN, Eyes, Prober, patched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.parts.kafka import Kafka

BUCKETS = 4
LOCATIONS = [location_in(bucket, BUCKETS) for bucket in range(BUCKETS)]
AUDIT_SECONDS = 2.0


class World:
    """A deployment with one worker; the worker and the guard know Redis by an address that can be pointed elsewhere."""

    def __init__(self, system: System, server: RedisServer, forwarder: Forwarder, prober: Prober) -> None:
        self.system = system
        self.server = server
        self.forwarder = forwarder
        self.prober = prober
        self.eyes = Eyes(system.start_worker(**LISTEN))
        self.sent: list[dict[str, Any]] = []

    def stop_texts(self, count: int = 3) -> None:
        """Have so many patients of each location text STOP, and wait until that is in force and told."""
        first = len(self.sent)
        fresh = [
            inbound(location, f"+1202555{first + number:04d}", "STOP")
            for number in range(count)
            for location in LOCATIONS
        ]
        self.sent += fresh
        self.system.send(fresh)
        wait_for("settled", self.settled, 60)
        self.prober.ask_about(*((text["location_id"], text["patient_number"]) for text in fresh))

    def settled(self) -> bool:
        """Whether all is read, applied and told; a broker that has trouble of its own is asked again."""
        try:
            return self.system.settled()
        except KafkaException:
            return False

    def read(self) -> int:
        """Return how many ledger records are applied, those that stand there twice included."""
        return sum(self.system.metas("applied").values())

    def redis(self) -> redis.Redis:
        return redis.Redis(port=self.server.port)

    def lose(self, kind: str, how: Callable[[], object], heal: Callable[[], object] = lambda: None) -> dict[str, Any]:
        """Do something to Redis, and return the line that names it, once it is healed and all is as the ledger says."""
        before = self.eyes.metric("optout_losses_total", kind=kind)
        self.eyes.mark()
        began = time.monotonic()
        how()
        wait_for(f"{kind} is named", lambda: self.eyes.lines(loss=kind, level="error"), 30)
        named = time.monotonic() - began
        heal()
        wait_for(f"{kind} is healed", lambda: self.eyes.lines(loss=kind, level="info"), 60)
        wait_for("settled", self.settled, 60)
        print(f"{kind}: named after {named:.1f} s, healed after {time.monotonic() - began:.1f} s")  # noqa: T201
        assert self.eyes.metric("optout_losses_total", kind=kind) == before + 1, self.eyes.lines()
        assert self.system.members() == oracle.members_after(self.sent)
        assert not self.prober.allowed
        wait_for("it is ready again", lambda: not self.eyes.unready())
        (line,) = self.eyes.lines(loss=kind, level="error")
        (healed,) = self.eyes.lines(loss=kind, level="info")
        return {**line, "records_replayed": healed["records_replayed"]}


@pytest.fixture(scope="module")
def world(kafka: Kafka, redis_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("losses")
    with (
        RedisServer(available.redis_executable(redis_kind), folder / "redis") as server,
        Forwarder(server.port) as forwarder,
        System(
            kafka.bootstrap,
            f"redis://127.0.0.1:{forwarder.port}/0",
            f"t{secrets.token_hex(4)}.",
            folder,
            buckets=BUCKETS,
        ) as system,
        Prober(system) as prober,
    ):
        system.command = patched(voucher__AUDIT_EVERY=AUDIT_SECONDS)
        system.create_topics()
        world = World(system, server, forwarder, prober)
        wait_for("it is ready", lambda: not world.eyes.unready(), 60)
        world.stop_texts()
        yield world


def test_a_first_start_is_no_loss(world: World) -> None:
    """At the very first start buckets are begun without a warning, and no loss is counted."""
    (line,) = world.eyes.lines(event="buckets are begun for the first time")
    assert line["level"] == "info"
    assert line["of_buckets"] == BUCKETS
    assert not world.eyes.lines(level="error")
    assert not any(" 1.0" in line for line in world.eyes.get("/metrics")[1].splitlines() if "losses_total{" in line)


@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB", "SWAPDB 0 7"])
def test_missing(world: World, command: str) -> None:
    """A flushed Redis, and an empty database in the place of ours, are named as missing buckets and filled again."""
    everything = world.read()
    line = world.lose(
        "view-missing",
        lambda: world.redis().execute_command(command),  # type: ignore[no-untyped-call]
    )
    assert line["of_buckets"] == BUCKETS
    assert line["records_to_replay"] == line["records_replayed"] == everything


def test_restart_without_memory(world: World) -> None:
    """A Redis that started again with nothing is named as another server, with everything to replay."""

    def lose() -> None:
        world.server.kill()
        shutil.rmtree(world.server.folder / "appendonlydir")
        world.server.start()

    everything = world.read()
    line = world.lose("other-server", lose)
    assert line["fallen"] == line["missing"] == BUCKETS
    assert line["records_to_replay"] == line["records_replayed"] == everything


def test_restart_with_its_memory(world: World) -> None:
    """A Redis that lost nothing in a restart is named, with nothing to replay."""

    def restart() -> None:
        world.server.kill()
        world.server.start()

    line = world.lose("other-server", restart)
    assert line["fallen"] == line["missing"] == line["records_to_replay"] == 0


def test_truncated_file(world: World) -> None:
    """A Redis whose append-only file lost its tail is named, and just what is missing is replayed."""
    file = next((world.server.folder / "appendonlydir").glob("*.incr.aof"))
    size = file.stat().st_size
    before = world.read()
    world.stop_texts(5)
    more = world.read() - before

    def truncate() -> None:
        world.server.kill()
        with file.open("r+b") as handle:
            handle.truncate(size)
        world.server.start()

    line = world.lose("other-server", truncate)
    assert line["fallen"] == BUCKETS
    assert line["missing"] == 0
    assert line["records_to_replay"] == line["records_replayed"] == more >= 5 * BUCKETS


def test_restored_backup(world: World) -> None:
    """An old copy in the place of Redis's data is named, and just what is missing is replayed."""
    folder = world.server.folder / "appendonlydir"
    shutil.copytree(folder, backup := world.server.folder / "backup")
    before = world.read()
    world.stop_texts(4)
    more = world.read() - before

    def restore() -> None:
        world.server.kill()
        shutil.rmtree(folder)
        backup.rename(folder)
        world.server.start()

    line = world.lose("other-server", restore)
    assert line["fallen"] == BUCKETS
    assert line["records_to_replay"] == line["records_replayed"] == more >= 4 * BUCKETS


def test_restored_keys(world: World) -> None:
    """Keys that somebody restored under the running server are named as a view that fell back."""
    client = world.redis()
    prefix = bucket_prefix(1, BUCKETS)
    keys = client.keys(f"{prefix}*")
    copies = {key: client.dump(key) for key in keys}
    before = world.system.metas("applied")[1]
    world.stop_texts(2)
    more = world.system.metas("applied")[1] - before

    def restore() -> None:
        pipeline = client.pipeline()
        for key, copy in copies.items():
            assert copy is not None
            pipeline.restore(key, 0, copy, replace=True)
        pipeline.execute()

    world.prober.forget(LOCATIONS[1])  # nobody can see a restored key before the worker compares positions
    line = world.lose("view-fell-back", restore)
    assert line["buckets"] == [1]
    assert line["records_to_replay"] == line["records_replayed"] == more >= 2


def test_rolled_back_failover(world: World, tmp_path: Path) -> None:
    """A replica that was promoted without the last writes is named, and just those are replayed."""
    with RedisServer(world.server.executable, tmp_path) as replica:
        other = redis.Redis(port=replica.port)
        world.redis().config_set("repl-diskless-sync-delay", 0)
        # A primary begins a new history of replication with its first replica: seen from here it is another server.
        world.lose("other-server", lambda: other.replicaof("127.0.0.1", world.server.port))
        wait_for("the replica is in sync", lambda: other.info("replication")["master_link_status"] == "up")
        wait_for("settled", world.settled, 60)
        wait_for("it has it all", lambda: other.dbsize() == world.redis().dbsize())
        wait_for("it is ready again", lambda: not world.eyes.unready())
        other.replicaof("127.0.0.1", 1)  # cut off: what comes now it does not get
        before = world.read()
        world.stop_texts(6)
        more = world.read() - before

        def promote() -> None:
            other.replicaof("NO", "ONE")
            world.forwarder.point(replica.port)

        line = world.lose("other-server", promote)
        assert line["fallen"] == BUCKETS
        assert line["missing"] == 0
        assert line["records_to_replay"] == line["records_replayed"] == more >= 6 * BUCKETS
        world.lose("other-server", lambda: world.forwarder.point(world.server.port))


def test_read_only_replica(world: World) -> None:
    """A primary that becomes a replica is named as one that takes no writes, and healed when it is one again."""
    client = world.redis()

    def promote() -> None:
        time.sleep(2)  # long enough for it to be asked again and again
        assert "apply" in world.eyes.unready() or "vouch" in world.eyes.unready()
        client.replicaof("NO", "ONE")

    line = world.lose("read-only", lambda: client.replicaof("127.0.0.1", 1), promote)
    assert line["of_buckets"] == BUCKETS


def test_memory_full(world: World) -> None:
    """A Redis that reached maxmemory is named, takes up a STOP when it has memory again, and forgets none meanwhile."""
    client = world.redis()

    def fill() -> None:
        client.config_set("maxmemory", 1)
        text = inbound(LOCATIONS[0], "+12025559999", "STOP")
        world.sent.append(text)
        world.system.send([text])

    def give() -> None:
        wait_for("the applier waits", lambda: "apply" in world.eyes.unready())
        world.eyes.unready()
        client.config_set("maxmemory", 0)

    world.lose("out-of-memory", fill, give)


def test_evicting(world: World) -> None:
    """A policy that evicts, set while workers run, is named at once; nothing is vouched for until it is taken back."""
    client = world.redis()
    before = world.system.metas("fresh")

    def undo() -> None:
        time.sleep(1.5)
        assert all(fresh - before[b] < 3000 for b, fresh in world.system.metas("fresh").items())
        client.config_set("maxmemory-policy", "noeviction")

    before = world.system.metas("fresh")
    world.lose("evicting", lambda: client.config_set("maxmemory-policy", "allkeys-lru"), undo)


def test_keys_deleted(world: World) -> None:
    """Keys that are deleted one by one are found by the next count, and their bucket is begun anew."""
    prefix = bucket_prefix(2, BUCKETS)
    line = world.lose("view-damaged", lambda: world.redis().delete(state_key(prefix, LOCATIONS[2])))
    assert line["buckets"] == [2]
    assert line["records"] < line["records_expected"]
    world.prober.forget(LOCATIONS[2])  # a set that is gone says nothing of itself before it is counted
    line = world.lose("view-damaged", lambda: world.redis().delete(set_key(prefix, LOCATIONS[2])))
    assert line["members"] < line["members_expected"]


@pytest.mark.parametrize("key", ["meta", "set"])
def test_keys_of_another_system(world: World, key: str) -> None:
    """Another system's value under a name of ours is named as damage, and replaced by what the ledger says."""
    prefix = bucket_prefix(3, BUCKETS)
    name = meta_key(prefix) if key == "meta" else set_key(prefix, LOCATIONS[3])
    line = world.lose("view-damaged", lambda: world.redis().set(name, "a cached page"))
    assert line["buckets"] == [3]


def test_log_stays_small(world: World) -> None:
    """All of this together is told in some hundreds of lines, none of them a change that was told before."""
    assert len(world.eyes.worker.log()) < 600
    assert world.eyes.worker.process.poll() is None
    told = oracle.told(world.system.read("changed"))
    assert not oracle.twice(told)
    assert world.prober.kinds == {VerdictKind.SUPPRESSED, VerdictKind.UNKNOWN}
    assert told == oracle.changes_of(world.system.read("ledger"))
    assert world.eyes.worker.stop() == 0
