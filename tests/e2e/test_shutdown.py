"""How a worker ends: when it is told to, whatever is away, and when it cannot begin. In time, in words, by code."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined] # public all the same
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tests.parts import oracle
from tests.parts.system import System, inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.kafka import KafkaCluster
    from tests.parts.redis import MakeRedis
    from tests.parts.system import Worker

PATIENT = "+12025550143"
DEADLINE = 15.0
"""What OPTOUT_SHUTDOWN_SECONDS is without being set."""
NOBODY = "127.0.0.1:1"


def ended(worker: Worker, *, after: float) -> int:
    """Send SIGTERM; return the exit code, after asserting that it came in time and that nothing was blurted out."""
    began = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    code = worker.process.wait(DEADLINE + 20)
    assert time.monotonic() - began < after + 2.0  # and what a busy machine takes
    log = worker.log_file.read_text()
    assert "Traceback" not in log
    assert "please report" not in log
    return code


def working(system: System) -> Worker:
    """Return a worker that has done something already."""
    worker = system.start_worker()
    system.send([inbound("loc-1", PATIENT, "STOP")])
    wait_for("in the set", lambda: ("loc-1", PATIENT) in system.members())
    return worker


def test_busy_worker_ends_in_time(system: System) -> None:
    """A worker in the middle of its work ends cleanly when it is told to, and its successor finishes the work, once."""
    worker = working(system)
    enough = threading.Event()

    def keep_sending() -> None:
        for batch in range(100):
            if enough.wait(0.05):
                return
            numbers = (f"+1202555{batch * 10 + i:04d}" for i in range(10))
            system.send(inbound(f"loc-{i % 7}", number, "STOP") for i, number in enumerate(numbers))

    patients = threading.Thread(target=keep_sending)
    patients.start()
    try:
        wait_for("it is busy", lambda: sum(system.metas("applied").values()) > 20)
        assert ended(worker, after=DEADLINE) == 0
    finally:
        enough.set()
        patients.join()
    assert "worker stopped" in worker.events()
    assert not system.settled()
    heir = system.start_worker()
    wait_for("settled", system.settled, 60)
    assert ended(heir, after=DEADLINE) == 0

    def told() -> list[tuple[str, str]]:
        return [(change.location, change.number) for change in oracle.told(system.read("changed"))]

    # A transaction that is committed can be read a moment later, when its markers are written.
    wait_for("each is told", lambda: {*told()} >= system.members())
    assert sorted(told()) == sorted(system.members())


@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_worker_ends_in_time_without_redis(system: System, own_redis: MakeRedis, how: str) -> None:
    """A worker whose Redis is away ends cleanly when it is told to."""
    server = own_redis()
    system.redis_url = system.environment["OPTOUT_REDIS_URL"] = server.url
    system.environment["OPTOUT_REDIS_TIMEOUT"] = "0.5"
    worker = working(system)
    if how == "stopped":
        server.stop()
    else:
        os.kill(server.pid, signal.SIGSTOP)
    try:
        system.send([inbound("loc-1", PATIENT, "START")])
        wait_for("noticed", lambda: any("Redis cannot answer" in event for event in worker.events()))
        assert ended(worker, after=DEADLINE) == 0
    finally:
        if how == "silent":
            os.kill(server.pid, signal.SIGCONT)


def test_worker_without_a_redis_ends_in_time(system: System) -> None:
    """A worker that never met its Redis waits for it, and ends cleanly when it is told to."""
    worker = system.start_worker(OPTOUT_REDIS_URL=f"redis://{NOBODY}/0")
    wait_for("it waits", lambda: any("waiting for Redis" in event for event in worker.events()))
    assert worker.process.poll() is None
    assert ended(worker, after=DEADLINE) == 0


@pytest.fixture
def paused(breakable_kafka: KafkaCluster) -> Iterator[KafkaCluster]:
    """A cluster whose brokers all stop when `pause_broker` says so, and go on after the test."""
    yield breakable_kafka
    for broker in range(breakable_kafka.size):
        breakable_kafka.resume_broker(broker)


def test_worker_ends_in_time_without_kafka(
    paused: KafkaCluster, redis_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    """A worker whose Kafka is silent ends within its deadline when it is told to."""
    with System(paused.bootstrap, redis_url, topic_prefix, tmp_path) as system:
        system.create_topics()
        worker = working(system)
        for broker in range(paused.size):
            paused.pause_broker(broker)
        time.sleep(2.0)
        assert ended(worker, after=DEADLINE) in (0, 1)


def refused(system: System, *arguments: str, **settings: str) -> tuple[int, str]:
    """Start a worker that cannot begin; return its exit code and what it says, which is one sentence."""
    done = system.run("worker", *arguments, **settings)
    assert "Traceback" not in done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("optout: ")]
    return done.returncode, said


def test_worker_that_cannot_begin_says_why(system: System) -> None:
    """A worker without Kafka, topics, the right number of buckets or a decision ends at once, in a sentence each."""
    nowhere, ledger = f"{system.prefix}nowhere", system.topics["ledger"]
    cases = [
        (1, f"Kafka at {NOBODY} cannot be reached", {"OPTOUT_KAFKA_BOOTSTRAP_SERVERS": NOBODY}),
        (1, f"there is no topic {nowhere}: run `optout topics create`", {"OPTOUT_INBOUND_TOPICS": nowhere}),
        (1, f"there is no topic {nowhere}: run `optout topics create`", {"OPTOUT_SKIP_TOPIC": nowhere}),
        (1, f"the ledger {ledger} has 8 partitions and OPTOUT_BUCKETS is 4", {"OPTOUT_BUCKETS": "4"}),
        (2, "OPTOUT_CONFIRMATIONS is not set", {"OPTOUT_CONFIRMATIONS": "none"}),
    ]
    for code, sentence, settings in cases:
        found, said = refused(system, **settings)
        assert found == code, said
        assert sentence in said


def test_ledger_that_forgets_is_refused(system: System) -> None:
    """A ledger that would lose its records ends either stage with exit code 1 and says which setting it is."""
    entry = ConfigEntry("retention.ms", "604800000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, system.topics["ledger"], incremental_configs=[entry])
    system.admin.incremental_alter_configs([resource])[resource].result(10)
    for only in ("apply", "classify"):
        code, said = refused(system, "--only", only)
        assert code == 1
        assert "has retention.ms=604800000: it must be -1, or records can be lost" in said
