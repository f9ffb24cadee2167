"""A whole deployment for one test: topics and groups of its own, workers as processes, and eyes on what they did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import redis
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from consumer.domain.events import InboundMessage
from consumer.embedded.process import end, spawn
from consumer.wire.codec import Codec
from consumer.wire.schemas import Schemas
from tests.parts import oracle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

TOPICS = {
    "inbound": "sms.inbound",
    "ledger": "sms.keyword-ledger",
    "changed": "sms.subscription-changed",
    "confirmations": "sms.confirmation-requested",
    "reviews": "sms.review-requested",
    "dead": "sms.inbound.dead-letter",
    "requests": "sms.opt-out-requested",
}
COMMAND = [sys.executable, "-m", "consumer"]


def inbound(location: str, number: str, body: str, **fields: Any) -> dict[str, Any]:
    """Return an inbound message as upstream would send it, received now unless said otherwise."""
    return {
        "message_id": os.urandom(8).hex(),
        "location_id": location,
        "patient_number": number,
        "location_number": "+12025550100",
        "body": body,
        "received_at": time.time_ns() // 1_000_000,
        "provider": "test",
        "provider_opt_out_type": None,
        **fields,
    }


def wait_for(what: str, condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until it holds; fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


class Worker:
    """One `optout worker` process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log_file = log

    def log(self) -> list[dict[str, Any]]:
        """Return the lines that it logged."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines() if line.startswith("{")]

    def events(self) -> list[str]:
        """Return what it logged, in short."""
        return [line["event"] for line in self.log()]

    def kill(self) -> None:
        """SIGKILL, as a machine that is gone."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


class System(AbstractContextManager["System"]):
    """Topics, groups and settings under a prefix, on a real cluster and a real Redis."""

    def __init__(self, bootstrap: str, redis_url: str, prefix: str, folder: Path, *, buckets: int = 8) -> None:
        self.bootstrap = bootstrap
        self.redis_url = redis_url
        self.prefix = prefix
        self.folder = folder
        self.buckets = buckets
        self.topics = {role: prefix + name for role, name in TOPICS.items()}
        self.group = f"{prefix}sms-optout"
        self.workers: list[Worker] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OPTOUT_")},
            "OPTOUT_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "OPTOUT_KAFKA_SESSION_TIMEOUT_MS": "3000",
            "OPTOUT_KAFKA_HEARTBEAT_INTERVAL_MS": "500",
            "OPTOUT_REDIS_URL": redis_url,
            "OPTOUT_BUCKETS": str(buckets),
            "OPTOUT_CONFIRMATIONS": "ours",
            "OPTOUT_GROUP": self.group,
            "OPTOUT_INBOUND_TOPICS": self.topics["inbound"],
            "OPTOUT_KEYWORD_LEDGER_TOPIC": self.topics["ledger"],
            "OPTOUT_SUBSCRIPTION_CHANGED_TOPIC": self.topics["changed"],
            "OPTOUT_CONFIRMATION_REQUESTED_TOPIC": self.topics["confirmations"],
            "OPTOUT_REVIEW_REQUESTED_TOPIC": self.topics["reviews"],
            "OPTOUT_DEAD_LETTER_TOPIC": self.topics["dead"],
            "OPTOUT_OPT_OUT_REQUESTED_TOPIC": self.topics["requests"],
        }
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        if len(self.admin.list_topics(timeout=10).brokers) < 3:
            self.environment["OPTOUT_UNSAFE_LEDGER"] = "1"
        self._codec = Codec(Schemas())

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        end([worker.process for worker in self.workers], 10.0)

    def run(self, *arguments: str, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, under these settings."""
        return subprocess.run(
            [*COMMAND, *arguments],
            env={**self.environment, **settings},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def create_topics(self) -> None:
        """Create them with the product's own command."""
        done = self.run("topics", "create")
        assert done.returncode == 0, done.stderr

    def start_worker(self, *arguments: str, **settings: str) -> Worker:
        """Start a worker process."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        process = spawn([*COMMAND, "worker", *arguments], environment={**self.environment, **settings}, output=log)
        worker = Worker(process, log)
        self.workers.append(worker)
        return worker

    def send(self, messages: Iterable[Mapping[str, Any]], *, raw: Sequence[bytes] = ()) -> None:
        """Publish inbound messages keyed by subscription, and raw bytes, and wait until Kafka has them."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5, "enable.idempotence": True})
        for message in messages:
            value = self._codec.encode(InboundMessage(**message))
            key = f"{message['location_id']}:{message['patient_number']}"
            while True:
                try:
                    producer.produce(self.topics["inbound"], value, key)
                    break
                except BufferError:
                    producer.poll(0.1)
        for value in raw:
            producer.produce(self.topics["inbound"], value)
        assert producer.flush(60) == 0

    def verdict(self, location: str, number: str) -> str:
        """Return what `optout check` says."""
        done = self.run("check", location, number)
        return done.stdout.split()[1] if done.stdout else done.stderr

    def read(self, role: str) -> list[oracle.Written]:
        """Return every record of a topic that a read_committed reader sees, decoded where it is ours."""
        topic = self.topics[role]
        ends = self.ends(role)
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"{self.prefix}reader",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
        found, left = [], set(ends)
        deadline = time.monotonic() + 60
        while left:
            assert time.monotonic() < deadline, f"{topic} cannot be read to its end"
            for message in consumer.consume(1000, 0.2):
                partition, offset = message.partition(), message.offset()
                assert partition is not None
                assert offset is not None
                if message.error():
                    left.discard(partition)
                    continue
                value = message.value() or b""
                record = {"raw": value, "headers": message.headers()} if role == "dead" else oracle.decode(value)
                found.append(oracle.Written(partition, offset, message.timestamp()[1], record))
        consumer.close()
        return found

    def ends(self, role: str) -> dict[int, int]:
        """Return the end of each partition of a topic, for a read_committed reader."""
        topic = self.topics[role]
        partitions = self.admin.list_topics(topic, timeout=10).topics[topic].partitions
        asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in partitions}  # type: ignore[no-untyped-call]
        futures = self.admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED)
        return {place.partition: future.result(10).offset for place, future in futures.items()}

    def committed(self, stage: str, role: str) -> dict[int, int]:
        """Return the offsets that a stage's group has committed."""
        group = f"{self.group}.{stage}"
        asked = [TopicPartition(self.topics[role], partition) for partition in self.ends(role)]
        answer = self.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, asked)])[group].result(10)
        return {place.partition: place.offset for place in answer.topic_partitions}

    def settled(self) -> bool:
        """Whether everything is read, applied and told: a change leaves the outbox when it is known to be told."""
        if self.committed("classify", "inbound") != self.ends("inbound"):
            return False
        return self.metas("applied") == self.ends("ledger") and not any(self.metas("outbox").values())

    def metas(self, field: str) -> dict[int, int]:
        """Return a number that each bucket keeps of itself, -1 where there is none."""
        with redis.Redis.from_url(self.redis_url) as client:
            values = {b: client.hget(f"optout:{{{b}.{self.buckets}}}:meta", field) for b in range(self.buckets)}
        return {b: int(value) if isinstance(value, bytes) else -1 for b, value in values.items()}

    def flush_redis(self) -> None:
        """Lose everything that Redis held."""
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushdb()

    def members(self) -> set[oracle.Subscription]:
        """Return who is opted out, as the sets in Redis say it."""
        found = set()
        with redis.Redis.from_url(self.redis_url) as client:
            for key in client.scan_iter("optout:*:set:*", count=1000):
                location = key.decode().split(":set:", 1)[1]
                found |= {(location, f"+{member.decode()}") for member in client.smembers(key)}
        return found
