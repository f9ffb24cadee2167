"""Ledger to view on a real Kafka and a real Redis: it goes on where the view stands, whatever became of either."""

from __future__ import annotations

import os
import signal
import time
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined] # public all the same
from fastavro import schemaless_writer

from consumer import applier as module
from consumer import catching_up, reading
from consumer.domain.events import KeywordRecord
from consumer.wire.records import to_datum
from tests.parts import oracle
from tests.parts.damage import pieces
from tests.parts.system import Applying, System, inbound, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from consumer.embedded.redis_server import RedisServer
    from tests.parts.kafka import Kafka
    from tests.parts.redis import MakeRedis

BUCKETS = 2
HERE, THERE = location_in(0, BUCKETS), location_in(1, BUCKETS)
PATIENT, OTHER = "+12025550143", "+12025550144"


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """Two buckets, and where their changes are told."""
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.make_topics(ledger=BUCKETS, changed=1)
        yield deployment


def until(member: Applying, condition: Callable[[], bool]) -> None:
    """Go round the applier's loop until it holds."""

    def holds() -> bool:
        member.apply()
        return condition()

    wait_for("it is applied", holds)


def whole(system: System) -> bool:
    """Whether all that is in the ledger is in the view."""
    return system.metas("applied") == system.ends("ledger")


def owner(system: System, **parts: Any) -> Applying:
    """Return a member that owns both buckets and has applied all."""
    member = Applying(system, **parts)
    until(member, lambda: member.owned == {0, 1} and whole(system))
    return member


def right(system: System) -> None:
    """Assert that the view holds what the ledger leads to: who is out, and what waits to be told."""
    changes = oracle.changes_of(system.read("ledger"))
    assert system.members() == oracle.members_of(changes)
    waiting = {bucket: sum(change.partition == bucket for change in changes) for bucket in range(BUCKETS)}
    assert system.metas("outbox") == waiting


def dumped(system: System) -> dict[bytes, bytes]:
    """Return all that Redis holds."""
    with system.redis() as client:
        return {key: client.dump(key) for key in client.scan_iter()}


def restore(system: System, keys: dict[bytes, bytes]) -> None:
    """Put Redis back to what it held."""
    with system.redis() as client:
        client.flushdb()
        for key, value in keys.items():
            client.restore(key, 0, value)


def test_view_that_fell_back_is_caught_up(system: System) -> None:
    """Where Redis came back with older data the next record is refused, and just what is missing is applied again."""
    system.append((HERE, PATIENT, "STOP"), (THERE, PATIENT, "STOP"))
    member = owner(system)
    older = dumped(system)
    system.append((HERE, PATIENT, "START"), (HERE, OTHER, "STOP"), (THERE, OTHER, "STOP"))
    until(member, lambda: whole(system))
    restore(system, older)
    assert system.members() == {(HERE, PATIENT), (THERE, PATIENT)}
    system.append((HERE, PATIENT, "quit"), (THERE, PATIENT, "yes"))
    until(member, lambda: whole(system))
    right(system)
    assert system.members() == {(HERE, PATIENT), (HERE, OTHER), (THERE, OTHER)}
    member.die()


def test_flushed_view_is_replayed(system: System) -> None:
    """After a flush a bucket is read again from its beginning: one with its next record, another when it is doubted."""
    system.append((HERE, PATIENT, "STOP"), (HERE, OTHER, "STOP"), (HERE, OTHER, "START"), (THERE, PATIENT, "STOP"))
    doubts = [{1}]
    flushed = False
    member = owner(system, doubted=lambda: doubts.pop() if flushed and doubts else set())
    system.flush_redis()
    system.append((HERE, OTHER, "END"))
    flushed = True
    until(member, lambda: whole(system))
    right(system)
    member.die()


def test_successor_goes_on_where_the_view_stands(system: System) -> None:
    """A new owner neither skips nor repeats: it reads on at what is applied, not at what was committed."""
    system.append((HERE, PATIENT, "STOP"), (THERE, PATIENT, "STOP"))
    owner(system).die()
    system.append((HERE, PATIENT, "START"), (THERE, OTHER, "STOP"))
    heir = owner(system)
    right(system)
    assert set(system.committed("apply", "ledger").values()) == {-1001}
    heir.die()


def test_partitions_that_are_added_to_the_ledger_are_nobodys(system: System) -> None:
    """Partitions beyond the number of buckets stop nobody: they are named, and what is written there is not read."""
    member = owner(system, properties={"topic.metadata.refresh.interval.ms": 500})
    topic = system.topics["ledger"]
    system.admin.create_partitions([NewPartitions(topic, BUCKETS + 2)])[topic].result(10)

    def named() -> bool:
        member.apply()
        return any("partitions were added to the ledger" in event for event in member.said())

    wait_for("they are named", named)
    system.write("ledger", (BUCKETS, system.line(HERE, OTHER, "STOP")))
    system.append((HERE, PATIENT, "STOP"), (THERE, PATIENT, "STOP"))
    until(member, lambda: system.metas("applied") == {0: 1, 1: 1})
    wait_for("they are told", lambda: member.publish() and not any(system.metas("outbox").values()))
    assert member.owned == {0, 1}
    assert system.members() == {(HERE, PATIENT), (THERE, PATIENT)}
    shown = [
        member.ops.metrics.registry.get_sample_value("optout_ledger_added_partition", {"partition": n}) for n in "23"
    ]
    assert shown == [1, 1]
    for command in ("topics", "create"), ("worker",):
        done = system.run(*command)
        assert (done.returncode != 0, "Traceback" in done.stderr) == (True, False)
        assert f"the ledger {topic} has {BUCKETS + 2} partitions" in done.stderr
    member.die()
    heir = Applying(system)
    until(heir, lambda: heir.owned == {0, 1})
    heir.die()


@pytest.fixture
def own(own_redis: MakeRedis, kafka: Kafka, topic_prefix: str, tmp_path: Path) -> Iterator[tuple[System, RedisServer]]:
    """The same on a Redis that the test may take away."""
    server = own_redis()
    with System(kafka.bootstrap, server.url, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.redis_timeout = 0.3
        deployment.make_topics(ledger=BUCKETS, changed=1)
        yield deployment, server


def paused(server: RedisServer) -> None:
    os.kill(server.pid, signal.SIGSTOP)


def resumed(server: RedisServer) -> None:
    os.kill(server.pid, signal.SIGCONT)


AWAY: dict[str, tuple[Callable[[RedisServer], None], Callable[[RedisServer], None]]] = {
    "stopped": (lambda server: server.stop(), lambda server: server.start()),
    "killed": (lambda server: server.kill(), lambda server: server.start()),
    "silent": (paused, resumed),
}


@pytest.mark.parametrize("how", AWAY)
def test_nothing_is_dropped_while_redis_is_away(own: tuple[System, RedisServer], how: str) -> None:
    """While Redis is away applying pauses and keeps its buckets; when it is back all is applied that came meanwhile."""
    system, server = own
    system.append((HERE, PATIENT, "STOP"), (THERE, PATIENT, "STOP"))
    member = owner(system)
    token = member.inbox.token
    take_away, bring_back = AWAY[how]
    take_away(server)
    try:
        system.append((HERE, PATIENT, "START"), (THERE, OTHER, "STOP"))
        member.apply(5)
        system.append((HERE, OTHER, "STOP"))
        member.apply(5)
        assert not member.publish()
    finally:
        bring_back(server)
    until(member, lambda: whole(system))
    assert member.inbox.token is token
    right(system)
    member.die()


def test_buckets_are_taken_over_while_redis_is_away(own: tuple[System, RedisServer]) -> None:
    """A worker that is given buckets while Redis is away keeps them, and applies all once it is there."""
    system, server = own
    system.append((HERE, PATIENT, "STOP"), (THERE, PATIENT, "STOP"))
    assert system.ledger.identity
    server.stop()
    member = Applying(system)
    until(member, lambda: member.owned == {0, 1})
    member.apply(5)
    server.start()
    until(member, lambda: whole(system))
    right(system)
    member.die()


def by_nobody(system: System) -> bytes:
    """Return an opt-in whose source is an import: no patient ever said it, and no code of ours can write it."""
    header, schema = system.codec._writer(KeywordRecord)
    datum = to_datum(system.codec.decode(KeywordRecord, system.line(HERE, PATIENT, "START")))
    stream = BytesIO(header)
    stream.seek(len(header))
    schemaless_writer(stream, schema, datum | {"source": "IMPORT"})
    return stream.getvalue()


def too_wide(system: System) -> bytes:
    """Return a record with an int of more than 32 bits, which the Avro library reads and does not write."""
    header, schema = system.codec._writer(KeywordRecord)
    datum = to_datum(system.codec.decode(KeywordRecord, system.line(HERE, PATIENT, "START")))
    return header + b"".join(pieces(schema, datum | {"pack_version": 2**40}))


FOREIGN: dict[str, tuple[Callable[[System], bytes], str]] = {
    "garbage": (lambda system: b"\x00garbage", "cannot be read"),
    "nothing": (lambda system: b"", "cannot be read"),
    "another bucket's": (lambda system: system.line(THERE, PATIENT, "STOP"), "belongs to another partition"),
    "an opt-in by nobody": (by_nobody, "cannot be read"),
    "a number that names a field": (lambda system: system.line(HERE, "+epoch", "STOP"), "no classifier wrote it"),
    "an int beyond 32 bits": (too_wide, "cannot be read"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_record_stops_its_bucket_only(system: System, what: str) -> None:
    """A record that nobody may skip stops its bucket in front of it, in words; the others go on."""
    record, why = FOREIGN[what]
    system.append((HERE, PATIENT, "STOP"))
    system.write("ledger", (0, record(system)))
    system.append((HERE, PATIENT, "START"), (THERE, PATIENT, "STOP"))
    member = Applying(system)
    until(member, lambda: system.metas("applied") == {0: 1, 1: 1})
    system.append((HERE, OTHER, "STOP"), (THERE, OTHER, "STOP"))
    until(member, lambda: system.metas("applied")[1] == 2)
    member.apply(5)
    assert system.metas("applied") == {0: 1, 1: 2}
    assert system.members() == {(HERE, PATIENT), (THERE, PATIENT), (THERE, OTHER)}
    (said,) = [event for event in member.said() if "stops at offset" in event]
    assert f"{system.topics['ledger']} [0] stops at offset 1: " in said
    assert why in said
    assert PATIENT[1:] not in said
    member.die()


def test_ledger_that_was_written_in_transactions_is_not_jumped(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an offset of the ledger has no record, its bucket stops in words instead of guessing; the others go on."""
    monkeypatch.setattr(reading, "GAP_SECONDS", 0.5)
    system.append((HERE, PATIENT, "STOP"))
    foreign = Producer({"bootstrap.servers": system.bootstrap, "transactional.id": system.prefix})
    foreign.init_transactions(10)
    foreign.begin_transaction()
    foreign.produce(system.topics["ledger"], system.line(HERE, OTHER, "STOP"), partition=0)
    foreign.commit_transaction(10)
    wait_for("the marker is written", lambda: system.ends("ledger")[0] == 3)
    system.append((HERE, PATIENT, "START"), (THERE, PATIENT, "STOP"))
    member = Applying(system)
    until(member, lambda: any("[0] has no record at offset 2" in event for event in member.said()))
    system.append((THERE, OTHER, "STOP"))
    until(member, lambda: system.metas("applied")[1] == 2)
    assert system.metas("applied")[0] == 2
    assert system.members() == {(HERE, PATIENT), (HERE, OTHER), (THERE, PATIENT), (THERE, OTHER)}
    member.die()


def test_a_bucket_behind_an_open_transaction_keeps_nobody_waiting(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that may not be read on takes no turn of those that catch up, however much stands behind."""
    for name, value in {"FAR": 1, "CAUGHT_UP": 0, "AT_ONCE": 1, "TURN_SECONDS": 1e6}.items():
        monkeypatch.setattr(catching_up, name, value)
    monkeypatch.setattr(module, "MOST_RECORDS", 1)
    monkeypatch.setattr(module, "LOOK_EVERY", 0.0)
    stranger = system.transaction("ledger", b"no record")
    system.append((HERE, PATIENT, "STOP"), (HERE, OTHER, "STOP"))
    member = Applying(system)
    until(member, lambda: member.owned == {0, 1})
    member.apply(10)
    system.append(*((THERE, PATIENT, word) for word in ("STOP", "START") * 3))
    until(member, lambda: system.metas("applied") == {0: 0, 1: 6})
    stranger.abort_transaction(10)
    member.die()


def test_full_outbox_is_waited_for(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket with too many changes waiting is not applied to until they are told; then it goes on by itself."""
    monkeypatch.setattr(module, "MOST_RECORDS", 2)
    system.append(*((HERE, f"+1202555{number:04d}", "STOP") for number in range(12)))
    member = Applying(system, most_waiting=3)
    until(member, lambda: system.metas("outbox")[0] > 3)
    member.apply(5)
    assert 3 < system.metas("applied")[0] < 12
    wait_for("all is told", lambda: member.publish() and member.apply() is None and whole(system))  # type: ignore[func-returns-value]
    wait_for("all is told", lambda: member.publish() and not any(system.metas("outbox").values()))
    assert oracle.told(system.read("changed")) == oracle.changes_of(system.read("ledger"))
    member.die()


def test_sleeper_leaves_cleanly(system: System) -> None:
    """A worker that slept through the loss of its buckets and is told to stop then leaves like any other."""
    sleeper = Applying(system, properties={"session.timeout.ms": 1500, "max.poll.interval.ms": 1500})
    until(sleeper, lambda: sleeper.owned == {0, 1})
    heir = owner(system)
    sleeper.die()
    heir.apply(5)
    assert heir.owned == {0, 1}
    heir.die()


@pytest.fixture
def deployment(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """All topics, as the product creates them."""
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as made:
        made.create_topics()
        yield made


def test_stages_run_apart(deployment: System) -> None:
    """A worker of each stage together do the whole; the one that classifies needs no Redis at all."""
    system = deployment
    nowhere = "redis://127.0.0.1:1/0"
    workers = [
        system.start_worker("--only", "classify", OPTOUT_REDIS_URL=nowhere),
        system.start_worker("--only", "apply"),
    ]
    now = time.time_ns() // 1_000_000
    bodies = [(HERE, PATIENT, "STOP"), (THERE, OTHER, "stop"), (THERE, OTHER, "START")]
    system.send(inbound(*body, received_at=now - 10 + i) for i, body in enumerate(bodies))
    wait_for("settled", lambda: system.metas("outbox") == {0: 0, 1: 0} and system.settled())
    assert system.members() == {(HERE, PATIENT)}
    assert len(oracle.told(system.read("changed"))) == 3
    wait_for("vouched", lambda: system.verdict(THERE, OTHER) == "ALLOWED")
    assert [worker.stop() for worker in workers] == [0, 0]

    stranger = system.start_worker("--only", "apply", OPTOUT_GROUP=f"{system.prefix}another")
    assert stranger.process.wait(30) == 1
    assert "Redis holds the view of another ledger" in stranger.log_file.read_text()
    assert "Traceback" not in stranger.log_file.read_text()
    assert system.members() == {(HERE, PATIENT)}
