"""The real parts themselves: a test bench that lies makes every other test worthless."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
from confluent_kafka import Consumer, Producer

from tests.parts.available import EXTERNAL
from tests.parts.downloads import ROOT
from tests.parts.errors import PartRefused
from tests.parts.kafka import SIMULATION_ALLOWED, Kafka, KafkaCluster
from tests.parts.kafka_jars import KAFKA_VERSION, SUMS_FILE, checked_jars

if TYPE_CHECKING:
    from tests.parts.redis import MakeRedis

DEADLINE_S = 30.0


def transactional_producer(kafka: Kafka, transactional_id: str) -> Producer:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": transactional_id, "log_level": 0})
    producer.init_transactions(DEADLINE_S)
    return producer


def committed_values(kafka: Kafka, topic: str, count: int) -> list[bytes | None]:
    """Read a topic's first messages as an application sees them that reads only what was committed."""
    settings: dict[str, str | int | bool] = {
        "bootstrap.servers": kafka.bootstrap,
        "group.id": f"{topic}.reader",
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "log_level": 0,
    }
    with Consumer(settings) as consumer:
        consumer.subscribe([topic])
        return [message.value() for message in consumer.consume(count, DEADLINE_S)]


@pytest.mark.smoke
def test_reader_sees_committed_and_not_aborted(kafka: Kafka, topic_prefix: str) -> None:
    """A committed transaction is read by a read_committed consumer, an aborted one never."""
    topic = f"{topic_prefix}transactions"
    kafka.create_topic(topic)
    producer = transactional_producer(kafka, topic)
    for value, finish in ((b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush(DEADLINE_S)
        finish(DEADLINE_S)
    assert committed_values(kafka, topic, 1) == [b"committed"]


def test_killed_broker_comes_back_with_its_data(breakable_kafka: KafkaCluster, topic_prefix: str) -> None:
    """What was acknowledged before a broker was killed is read after it has come back."""
    topic = f"{topic_prefix}kept"
    breakable_kafka.create_topic(topic)
    producer = transactional_producer(breakable_kafka, topic)
    producer.begin_transaction()
    producer.produce(topic, b"kept")
    producer.commit_transaction(DEADLINE_S)
    leader = breakable_kafka.admin().list_topics(topic, timeout=DEADLINE_S).topics[topic].partitions[0].leader
    breakable_kafka.kill_broker(leader - 1)
    breakable_kafka.start_broker(leader - 1)
    breakable_kafka.heal()
    assert committed_values(breakable_kafka, topic, 1) == [b"kept"]


def test_paused_broker_is_replaced(breakable_kafka: KafkaCluster, topic_prefix: str) -> None:
    """A cluster of three takes writes while one broker stands still, and counts it in again afterwards."""
    if breakable_kafka.size < 3:
        pytest.skip("one broker alone: this machine has too little memory for three")
    topic = f"{topic_prefix}paused"
    breakable_kafka.create_topic(topic, partitions=3)  # so that one of them is led by the broker that is paused
    breakable_kafka.pause_broker(0)
    settings: dict[str, str | int | bool] = {
        "bootstrap.servers": breakable_kafka.bootstrap,
        "topic.metadata.refresh.interval.ms": 500,  # or it waits 10 s for the leader that stands still
        "log_level": 0,
    }
    producer = Producer(settings)
    for partition in range(3):
        producer.produce(topic, b"written", partition=partition)
    assert producer.flush(DEADLINE_S) == 0
    breakable_kafka.heal()
    partitions = breakable_kafka.admin().list_topics(topic, timeout=DEADLINE_S).topics[topic].partitions
    assert all(len(partition.isrs) == 3 for partition in partitions.values())


def test_own_cluster_allows_simulation(kafka_cluster: KafkaCluster) -> None:
    """A cluster of the tests carries the topic without which `optout simulate` refuses to write."""
    topics = kafka_cluster.admin().list_topics(timeout=DEADLINE_S).topics
    assert len(topics[SIMULATION_ALLOWED].partitions) == 1


@pytest.mark.smoke
@pytest.mark.parametrize("round_", [1, 2])
def test_each_test_finds_an_empty_redis(redis_url: str, redis_kind: str, round_: int) -> None:
    """A test finds nothing of the test before it, on the server that it was promised."""
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left behind", round_)
        kind = client.info("server").get("server_name", "redis")
    assert redis_kind in {kind, EXTERNAL}


def test_own_redis_keeps_its_data_over_a_kill(own_redis: "MakeRedis") -> None:
    """A private server comes back on its port with its append-only file, and with the settings it was given."""
    server = own_redis(settings={"maxmemory-policy": "allkeys-lru"})
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "yes")
    server.kill()
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.get("kept") == b"yes"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize(("ci", "exit_status"), [("", 0), ("true", 1)])
def test_absent_parts_leave_tests_out_in_words(tmp_path: Path, ci: str, exit_status: int, processes: int) -> None:
    """Where a part cannot be had its tests are left out and the last line says why; in CI that is a failure."""
    environment = {
        "PATH": str(tmp_path),
        "HOME": str(tmp_path),
        "OPTOUT_TEST_KAFKA_LIBS": str(tmp_path),
        "OPTOUT_TEST_OFFLINE": "1",
        "CI": ci,
    }
    run = run_pytest(environment, __file__, "-k", "test_reader_sees", "-n", str(processes))
    assert run.returncode == exit_status, run.stdout
    assert "passed" not in run.stdout
    last_line = run.stdout.splitlines()[-1]
    assert last_line.startswith("Left out")
    assert last_line.endswith(f"1 x Kafka: 47 of the 47 jars of Kafka {KAFKA_VERSION} are not in {tmp_path}.")


@pytest.mark.parametrize("ci", ["", "true"])
def test_docker_may_be_absent(tmp_path: Path, ci: str) -> None:
    """Where no Docker engine answers, its tests are left out in words, and that is in order in CI too."""
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/nobody", "CI": ci}
    run = run_pytest(environment, str(Path(__file__).with_name("test_containers.py")))
    assert run.returncode == 0, run.stdout
    assert "passed" not in run.stdout
    assert run.stdout.splitlines()[-1] == "Left out: 2 x Docker: no Docker engine answers."


@pytest.mark.parametrize(("environment", "exit_status"), [({}, 0), ({"CI": "true"}, 1)])
def test_skipped_test_fails_in_ci(tmp_path: Path, environment: dict[str, str], exit_status: int) -> None:
    """A skipped test is in order on a laptop; in CI, where everything must run, it is a failure."""
    test = tmp_path / "test_skipped.py"
    test.write_text("import pytest\n\ndef test_nothing(): pytest.skip('a reason')\n", encoding="utf-8")
    run = run_pytest(environment, "-p", "tests.conftest", f"--rootdir={tmp_path}", str(test))
    assert run.returncode == exit_status, run.stdout
    assert run.stdout.splitlines()[-1].startswith("Skipped (with CI=true this is a failure)") == bool(exit_status)


@pytest.mark.parametrize("processes", [0, 2])
def test_refused_part_fails_everywhere(tmp_path: Path, processes: int) -> None:
    """A part that is not what it should be is a failure on a laptop too, and the last line says why."""
    for line in SUMS_FILE.read_text(encoding="ascii").splitlines():
        (tmp_path / line.split()[1]).write_bytes(b"tampered with")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OPTOUT_TEST_KAFKA_LIBS": str(tmp_path)}
    run = run_pytest(environment, __file__, "-k", "test_reader_sees", "-n", str(processes))
    assert run.returncode == 1, run.stdout
    assert run.stdout.splitlines()[-1].startswith("Refused: 1 x Kafka: ")


def test_jar_with_another_sum_is_refused(tmp_path: Path) -> None:
    """A jar that is not the one whose sum is committed never gets onto a class path."""
    jar = tmp_path / "some.jar"
    jar.write_bytes(b"as it should be")
    sums = {jar.name: hashlib.sha256(b"as it should be").hexdigest()}
    assert checked_jars(tmp_path, sums) == [jar]
    jar.write_bytes(b"tampered with")
    with pytest.raises(PartRefused, match=r"some\.jar is not the jar that kafka-jars\.sha256 names"):
        checked_jars(tmp_path, sums)


def run_pytest(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = ["-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *settings, *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
