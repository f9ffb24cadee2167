"""The parts that the bench runs on: a real Kafka, a real Redis, and the two inbound topics with their texts."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import secrets
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import confluent_kafka
import redis
from confluent_kafka import Producer

from consumer.embedded.redis_server import RedisServer
from consumer.kafka import topics
from consumer.wire.codec import Codec
from consumer.wire.schemas import Schemas, schemas_directory
from tests.parts import available
from tests.parts.broker import Installation
from tests.parts.kafka import Kafka, KafkaCluster, wait_until
from tests.parts.kafka_jars import KAFKA_VERSION
from tests.parts.redis import flush, require_empty
from tests.parts.system import System

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.traffic import Traffic

BUCKETS = 64
# Unlike a test's broker it serves for minutes, and what it does slowly the clients would wait for: all of the JIT.
JVM_OPTIONS = ("-Xms1g", "-Xmx1g", "-XX:+UseSerialGC", "-Xshare:auto", "-Djava.awt.headless=true")
FILL_DEADLINE_S = 120.0
LEADERS_DEADLINE_S = 30.0
REMOVE_DEADLINE_S = 30.0


class Stage:
    """Where Kafka and Redis are, and a folder for what processes say."""

    def __init__(self, bootstrap: str, redis_url: str, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.redis_url = redis_url
        self.folder = folder
        self.prefix = f"bench-{secrets.token_hex(4)}."
        self._made: list[str] = []

    def fill(self, name: str, traffic: Traffic) -> str:
        """Create an inbound topic as the product creates it, publish the texts, and return its name."""
        topic = f"{self.prefix}inbound-{name}"
        as_made_by_us = next(
            spec for spec in topics.load(schemas_directory() / "topics.yaml") if spec.role == "inbound"
        )
        Kafka(self.bootstrap).create_topic(topic, as_made_by_us.partitions, as_made_by_us.configs)
        self._made.append(topic)
        codec = Codec(Schemas())
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 50,
                "queue.buffering.max.messages": 1_000_000,
                "partitioner": "murmur2_random",
                "log_level": 0,  # a cluster that has just started is asked too early, and one that ends is missed
            }
        )
        for key, text in traffic.records():
            value = codec.encode(text)
            while True:
                try:
                    producer.produce(topic, value, key)
                    break
                except BufferError:
                    producer.poll(0.1)
        if producer.flush(FILL_DEADLINE_S):
            raise TimeoutError(f"Kafka did not take all texts within {FILL_DEADLINE_S:.0f} s")
        return topic

    def system(self, name: str, inbound: str) -> System:
        """Return a deployment with groups and topics of its own, but for the inbound one, in an empty Redis."""
        flush(self.redis_url)
        system = System(self.bootstrap, self.redis_url, f"{self.prefix}{name}.", self.folder, buckets=BUCKETS)
        system.topics["inbound"] = inbound
        system.environment["OPTOUT_INBOUND_TOPICS"] = inbound
        for only_for_tests in ("OPTOUT_KAFKA_SESSION_TIMEOUT_MS", "OPTOUT_KAFKA_HEARTBEAT_INTERVAL_MS"):
            del system.environment[only_for_tests]
        self._made += [topic for topic in system.topics.values() if topic not in self._made]
        system.create_topics()
        # Created is not yet led, and a worker that meets a partition without a leader ends.
        wait_until(lambda: all(map(system.ends, system.topics)), "each partition has a leader", LEADERS_DEADLINE_S)
        return system

    def remove(self, names: list[str] | None = None) -> None:
        """Delete these topics, or all that were made."""
        gone = self._made if names is None else names
        if not gone:
            return
        admin = Kafka(self.bootstrap).admin()  # kept by a name: with the client its answers would be gone
        for deleted in admin.delete_topics(gone).values():
            deleted.exception(REMOVE_DEADLINE_S)  # one that was never made is gone as well
        self._made = [topic for topic in self._made if topic not in gone]

    def description(self) -> str:
        """Return the machine and the parts in one line."""
        with redis.Redis.from_url(self.redis_url) as client:
            server = client.info("server")
        kafka = "the Kafka of OPTOUT_TEST_KAFKA" if available.external_kafka() else f"Kafka {KAFKA_VERSION}, one broker"
        name = "Valkey" if "valkey_version" in server else "Redis"
        parts = (
            f"{os.cpu_count()} cores ({_processor()}), load {os.getloadavg()[0]:.1f}",
            f"Python {platform.python_version()}",
            f"confluent-kafka {importlib.metadata.version('confluent-kafka')}",
            f"librdkafka {confluent_kafka.libversion()[0]}",
            kafka,
            f"{name} {server.get('valkey_version', server['redis_version'])}",
        )
        return "; ".join(parts)


@contextmanager
def provided() -> Iterator[Stage]:
    """Start the parts, or take those that are named (OPTOUT_TEST_KAFKA, OPTOUT_TEST_REDIS); end all that was started.

    Raises PartMissing, PartRefused, KafkaNotStarted, EmbeddedError.
    """
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="optout-bench-")))
        redis_url = available.external_redis()
        if redis_url is None:
            executable = available.redis_executable(available.redis_kinds()[0])
            redis_url = started.enter_context(RedisServer(executable, folder / "redis")).url
        else:
            require_empty(redis_url)
            started.callback(flush, redis_url)
        bootstrap = available.external_kafka()
        if bootstrap is None:
            parts = available.kafka_parts().installation
            installation = Installation(parts.java, parts.jars, JVM_OPTIONS)
            bootstrap = started.enter_context(KafkaCluster(installation, 1)).bootstrap
        stage = Stage(bootstrap, redis_url, folder)
        if available.external_kafka():
            started.callback(stage.remove)
        yield stage


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
