"""A whole deployment for one test: topics and groups of its own, workers as processes, and eyes on what they did."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

import redis
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]
from prometheus_client import generate_latest
from redis.backoff import NoBackoff
from redis.retry import Retry
from structlog.testing import CapturingLogger

from consumer import deployment
from consumer.applier import MOST_WAITING, Applier
from consumer.changes import Changes
from consumer.classifier import Classifier
from consumer.deployment import probing
from consumer.domain.buckets import bucket_of
from consumer.domain.events import InboundMessage, KeywordRecord, Origin, PatientKeyword, Skip
from consumer.domain.keywords import Keywords
from consumer.domain.skips import Skips
from consumer.embedded.process import end, spawn
from consumer.guard import Guard
from consumer.holding import HeldBack
from consumer.inbound import Inbound
from consumer.intake import Intake, Topics
from consumer.kafka import topics
from consumer.kafka.committed import KeptOffsets
from consumer.kafka.inbox import Inbox
from consumer.kafka.producers import LedgerProducer, TransactionalOutbox
from consumer.kafka.topics import topic_ids
from consumer.ledger import Ledger
from consumer.ops.health import Health
from consumer.ops.losses import Losses
from consumer.ops.metrics import Metrics
from consumer.passage import Passage
from consumer.published import Published
from consumer.publisher import Publisher
from consumer.putting_aside import PuttingAside
from consumer.settings import load
from consumer.skips import Allowed, SkipLog
from consumer.suppression.view import View
from consumer.wire.codec import Codec
from consumer.wire.schemas import Schemas
from tests.parts import oracle
from tests.parts.kafka import Kafka, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from confluent_kafka import Message
    from structlog.typing import FilteringBoundLogger

    from consumer.domain.bad_records import BadRecords
    from consumer.kafka.producers import Outgoing, Publishing
    from consumer.wire.lookups import Lookups

TOPICS = {
    "inbound": "sms.inbound",
    "ledger": "sms.keyword-ledger",
    "changed": "sms.subscription-changed",
    "confirmations": "sms.confirmation-requested",
    "reviews": "sms.review-requested",
    "dead": "sms.inbound.dead-letter",
    "requests": "sms.opt-out-requested",
    "actions": "sms.operator-action",
    "skips": "sms.skip",
}
COMMAND = [sys.executable, "-m", "consumer"]
PATIENCE_S = float(os.environ.get("OPTOUT_TEST_PATIENCE", "30"))
"""How long a test waits for what has to come; less where it is known that it will not."""
LEDGER_SETTINGS = {"retention.ms": "-1", "retention.bytes": "-1", "message.timestamp.type": "CreateTime"}

_silent = logging.getLogger("tests.parts.system")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


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


def wait_for(what: str, condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Wait until it holds; fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


def location_in(bucket: int, buckets: int, number: int = 0) -> str:
    """Return the name of a location of this bucket; `number` tells several apart."""
    names = (f"loc-{number}-{i}" for i in range(100 * buckets))
    return next(name for name in names if bucket_of(name, buckets) == bucket)


class Watched:
    """A real part, and what a test does right before or after some of its methods."""

    def __init__(
        self,
        part: object,
        *,
        before: Mapping[str, Callable[[], object]] | None = None,
        after: Mapping[str, Callable[[], object]] | None = None,
    ) -> None:
        self._part = part
        self._before = before or {}
        self._after = after or {}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if name not in self._before and name not in self._after:
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            if name in self._before:
                self._before[name]()
            answer = found(*arguments, **named)
            if name in self._after:
                self._after[name]()
            return answer

        return call


class Rounds(threading.Event):
    """Lets a loop that runs until it is told to stop go round so many times."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self._left = rounds

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


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
        self.command = COMMAND
        self.workers: list[Worker] = []
        self.by_hand: list[Applying | Classifying] = []
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
            "OPTOUT_OPERATOR_ACTION_TOPIC": self.topics["actions"],
            "OPTOUT_SKIP_TOPIC": self.topics["skips"],
        }
        self.admin = AdminClient({"bootstrap.servers": bootstrap}, logger=_silent)
        if len(self.admin.list_topics(timeout=10).brokers) < 3:
            self.environment["OPTOUT_UNSAFE_LEDGER"] = "1"
        self.codec = Codec(Schemas())
        self.redis_timeout = 2.0
        self._ledger: Ledger | None = None
        self._producer: Producer | None = None
        self._strangers: dict[str, Consumer] = {}

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        end([worker.process for worker in self.workers], 10.0)
        for member in self.by_hand:  # a client that is collected without having been closed can hang
            with suppress(Exception):
                member.die()
        for stranger in self._strangers.values():
            stranger.close()
        self._remove_topics()

    def _remove_topics(self) -> None:
        """Take the topics away: a small cluster that is left with thousands of partitions gives new ones no leaders."""
        with suppress(KafkaException, TimeoutError):  # its brokers may be stopped
            ours = [name for name in self.admin.list_topics(timeout=5).topics if name.startswith(self.prefix)]
            for done in self.admin.delete_topics(ours, request_timeout=5).values() if ours else ():
                done.exception(6)

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
        """Create them as `optout topics create` does, here: a process of its own would take longer than the topics."""
        with patch.dict(os.environ, self.environment, clear=True):
            settings = load()
        deployment.create_topics(settings)

    def make_topics(self, **partitions: int) -> None:
        """Create only some of them, by role, with so many partitions: for tests that run no whole worker."""
        for role, number in partitions.items():
            settings = LEDGER_SETTINGS if role == "ledger" else {}
            Kafka(self.bootstrap).create_topic(self.topics[role], number, settings)
        for role, number in [*partitions.items()] * 5:  # a broker that has not heard of it yet may be asked next
            wait_until(lambda role=role, number=number: len(self.ends(role)) == number, f"{role} is there", 30)  # type: ignore[misc]

    def make_anew(self, role: str, *, pause: float = 0.0) -> None:
        """Delete a topic and create another one under its name, with as many partitions."""
        topic, partitions = self.topics[role], len(self.ends(role))
        self.admin.delete_topics([topic], operation_timeout=10)[topic].result(15)
        time.sleep(pause)

        def made() -> bool:  # not while its predecessor is still being deleted
            try:
                self.admin.create_topics([NewTopic(topic, partitions)], operation_timeout=10)[topic].result(15)
            except KafkaException:
                return False
            return True

        wait_until(made, f"{role} is made anew", 60)

    def start_worker(self, *arguments: str, **settings: str) -> Worker:
        """Start a worker process."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        process = spawn([*self.command, "worker", *arguments], environment={**self.environment, **settings}, output=log)
        worker = Worker(process, log)
        self.workers.append(worker)
        return worker

    def send(self, messages: Iterable[Mapping[str, Any]], *, raw: Sequence[bytes] = ()) -> None:
        """Publish inbound messages keyed by subscription, and raw bytes, and wait until Kafka has them."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5, "enable.idempotence": True})
        for message in messages:
            value = self.text(message)
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

    def read(self, role: str, *, without: Collection[bytes] = ()) -> list[oracle.Written]:
        """Return every record of a topic that a read_committed reader sees, decoded where it is ours."""
        found = []
        for message in self.messages(role):
            partition, offset, value = message.partition(), message.offset(), message.value() or b""
            if value in without:
                continue
            assert partition is not None
            assert offset is not None
            record = {"raw": value, "headers": message.headers()} if role == "dead" else oracle.decode(value)
            found.append(oracle.Written(partition, offset, message.timestamp()[1], record))
        return found

    def messages(self, role: str) -> list[Message]:
        """Return every message of a topic that a read_committed reader sees, as it is."""
        topic = self.topics[role]
        ends = self.ends(role)
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"{self.prefix}reader",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
            }
        )
        consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
        found: list[Message] = []
        left = set(ends)
        deadline = time.monotonic() + 60
        while left:
            assert time.monotonic() < deadline, f"{topic} cannot be read to its end"
            for message in consumer.consume(1000, 0.05):
                if message.error():
                    left.discard(message.partition() or 0)
                else:
                    found.append(message)
        consumer.close()
        return found

    def ends(self, role: str) -> dict[int, int]:
        """Return the high watermark of each partition of a topic: an open transaction holds no record back from it."""
        topic = self.topics[role]
        found: dict[int, int] = {}

        def answered() -> bool:  # a broker may not have heard yet who leads a partition that is new
            partitions = self.admin.list_topics(topic, timeout=10).topics[topic].partitions
            asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in partitions}  # type: ignore[no-untyped-call]
            futures = self.admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED)
            found.update({place.partition: future.result(10).offset for place, future in futures.items()})
            return True

        wait_until(answered, f"{topic} is there", 30)
        return found

    def committed(self, stage: str, role: str) -> dict[int, int]:
        """Return the offsets that a stage's group has committed, -1001 where there is none."""
        asked = [TopicPartition(self.topics[role], partition) for partition in self.ends(role)]
        answer: list[TopicPartition] = []

        def answered() -> bool:
            answer[:] = self._stranger(stage).committed(asked, timeout=5)
            return all(place.error is None for place in answer)

        wait_until(answered, "the group's coordinator answers", 30)
        return {place.partition: place.offset for place in answer}

    def commit_both(self, stage: str, role: str, offsets: Mapping[int, int]) -> None:
        """Set the offsets of a stage's group and of its copy, as `optout offsets set` does."""
        for name in (stage, f"{stage}.kept"):
            self.commit(name, role, offsets)

    def expire(self, stage: str) -> None:
        """Delete what a stage's group and its copy have committed; neither may have members."""
        groups = [f"{self.group}.{stage}", f"{self.group}.{stage}.kept"]
        for future in self.admin.delete_consumer_groups(groups).values():
            try:
                future.result(10)
            except KafkaException as problem:
                if problem.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                    raise

    def _stranger(self, stage: str) -> Consumer:
        """Return a client that speaks for a stage's group without being a member of it.

        The admin client could be asked as well, but dies with the process where the group has another coordinator.
        """
        if stage not in self._strangers:
            self._strangers[stage] = Consumer(
                {
                    "bootstrap.servers": self.bootstrap,
                    "logger": _silent,
                    "group.id": f"{self.group}.{stage}",
                    "enable.auto.commit": False,
                    "isolation.level": "read_uncommitted",  # what a pending transaction holds is not waited for
                }
            )
        return self._strangers[stage]

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

    # For tests that run the product's parts in their own process

    def client(self, **properties: Any) -> dict[str, Any]:
        """Return the properties of a Kafka client, with a session that ends soon."""
        return {
            "bootstrap.servers": self.bootstrap,
            "logger": _silent,
            "session.timeout.ms": 3000,
            "heartbeat.interval.ms": 300,
            **properties,
        }

    @property
    def ledger(self) -> Ledger:
        """The ledger as this deployment's applier sees it."""
        if self._ledger is None:
            self._ledger = Ledger(
                topic=self.topics["ledger"],
                topic_id=topics.topic_id(self.admin, self.topics["ledger"]),
                buckets=self.buckets,
                group=f"{self.group}.apply",
                decode=lambda value: self.codec.decode(KeywordRecord, value),
            )
        return self._ledger

    def skip_log(self) -> SkipLog:
        """Return the topic of skips, to be read from its beginning."""
        return SkipLog(self.client(), self.topics["skips"], lambda value: self.codec.decode(Skip, value))

    def redis(self) -> redis.Redis:
        """Return a client as the worker has it: it tries once."""
        retry = Retry(NoBackoff(), 0)
        wait = self.redis_timeout
        return redis.Redis.from_url(self.redis_url, socket_timeout=wait, socket_connect_timeout=wait, retry=retry)

    def view(self) -> View:
        """Return the view of the ledger's buckets."""
        return View(self.redis(), buckets=self.buckets, ledger=self.ledger.identity)

    def guard(self) -> Guard:
        """Return a guard that accepts any age."""
        return Guard(self.redis(), buckets=self.buckets, max_staleness=None)

    def line(self, location: str, number: str, word: str, at: int | None = None) -> bytes:
        """Return what the classifier writes into the ledger for this keyword."""
        keyword = Keywords().recognise(word)
        assert keyword is not None
        now = time.time_ns() // 1_000_000
        record = KeywordRecord(
            location_id=location,
            patient_number=number,
            location_number="+12025550100",
            cause=PatientKeyword(
                action=keyword.action,
                keyword=keyword.word,
                raw_body=word,
                rule=keyword.rule,
                pack=keyword.pack,
                pack_version=keyword.pack_version,
            ),
            event_time=now if at is None else at,
            recorded_at=now,
            origin=Origin(
                topic=self.topics["inbound"],
                partition=0,
                offset=0,
                message_id=os.urandom(8).hex(),
                received_at=now,
                kafka_timestamp=now,
            ),
        )
        return self.codec.encode(record)

    def text(self, message: Mapping[str, Any]) -> bytes:
        """Return the record of an inbound message."""
        return self.codec.encode(InboundMessage(**message))

    def append(self, *keywords: tuple[str, str, str]) -> None:
        """Write keywords (location, number, word) to the ledger, each a millisecond after the one before."""
        now = time.time_ns() // 1_000_000 - len(keywords)
        self.write(
            "ledger",
            *(
                (bucket_of(location, self.buckets), self.line(location, number, word, now + i))
                for i, (location, number, word) in enumerate(keywords)
            ),
        )

    def write(self, role: str, *records: tuple[int, bytes]) -> None:
        """Write records (partition, bytes) to a topic and wait until Kafka has them."""
        if self._producer is None:  # the first record of a client costs half a second
            self._producer = Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": True}, logger=_silent)
        for partition, value in records:
            self._producer.produce(self.topics[role], value, partition=partition)
        assert self._producer.flush(30) == 0

    def transaction(self, role: str, *values: bytes, partition: int = 0) -> Producer:
        """Return a producer with an open transaction that holds these records of a topic."""
        name = f"{self.prefix}{os.urandom(4).hex()}"
        producer = Producer(
            {"bootstrap.servers": self.bootstrap, "transactional.id": name, "retry.backoff.ms": 5}, logger=_silent
        )
        producer.init_transactions(20)
        producer.begin_transaction()
        for value in values:
            producer.produce(self.topics[role], value, partition=partition)
        assert producer.flush(20) == 0
        return producer

    def note(self, stage: str, role: str) -> str:
        """Return what our own offsets of a stage carry: the ledger's id, a classifier's that of its topic, too."""
        if stage.startswith("apply"):
            return self.ledger.topic_id
        return f"{self.ledger.topic_id}/{topics.topic_id(self.admin, self.topics[role])}"

    def commit(self, stage: str, role: str, offsets: Mapping[int, int], note: str | None = None) -> None:
        """Set the offsets of a stage's group, which must have no members: in our name, unless another note is given.

        The copy of a stage is a stage of its own, as in "apply.kept".
        """
        note = self.note(stage, role) if note is None else note
        places = [TopicPartition(self.topics[role], partition, offset, note) for partition, offset in offsets.items()]

        def done() -> bool:  # in a cluster that has just started the group's coordinator may not be ready
            answer = self._stranger(stage).commit(offsets=places, asynchronous=False)
            return all(place.error is None for place in answer or [])

        wait_until(done, "the offsets are set", 30)


class Ops:
    """What parts in this process say of themselves, and where a test reads it."""

    def __init__(self, log: CapturingLogger) -> None:
        self.metrics = Metrics()
        self.health = Health(self.metrics)
        self.losses = Losses(self.metrics, cast("FilteringBoundLogger", log))

    def value(self, name: str, **labels: str) -> float:
        """Return a metric's value, 0 if it was never set."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def exposed(self) -> str:
        """Return the metrics as a scraper sees them."""
        return generate_latest(self.metrics.registry).decode()

    def everywhere(self) -> dict[str, Any]:
        """Return what most parts are built with."""
        return {"metrics": self.metrics, "health": self.health, "losses": self.losses}


class Applying:
    """An applier with its publisher, in this process and moved by hand: a test decides what comes between two steps."""

    def __init__(
        self,
        system: System,
        *,
        view: View | None = None,
        outbox: Publishing | None = None,
        doubted: Callable[[], set[int]] = set,
        properties: Mapping[str, Any] | None = None,
        most_waiting: int = MOST_WAITING,
        confirms: bool = False,
        skips: bool = False,
        lookups: Lookups | None = None,
    ) -> None:
        self.logger = CapturingLogger()
        self.ops = Ops(self.logger)
        self.view = view or system.view()
        self.inbox = Inbox(system.client(**properties or {}) | {"group.id": system.ledger.group}, lambda *_: None)
        self.outbox = outbox or TransactionalOutbox(system.client())
        logger = cast("FilteringBoundLogger", self.logger)
        self.committed = Published(
            system.client(), system.ledger.group, system.ledger.topic_id, system.topics["changed"], logger
        )
        changes = Changes(
            system.ledger,
            system.codec,
            changed=system.topics["changed"],
            confirmations=system.topics["confirmations"] if confirms else None,
        )
        log = cast("FilteringBoundLogger", self.logger)
        self.publisher = Publisher(
            view=self.view,
            inbox=self.inbox,
            committed=self.committed,
            outbox=PuttingAside(self.outbox, system.topics["dead"], self.ops.metrics, log),
            render=changes.records,
            ledger=system.ledger.topic,
            **self.ops.everywhere(),
            log=log,
        )
        self.passage = Passage(
            Allowed([Skips(system.ledger.topic, system.ledger.topic_id)], system.skip_log() if skips else None),
            probing(system.client(**properties or {})),
            metrics=self.ops.metrics,
            log=log,
        )
        self.passage.read()
        self.applier = Applier(
            passage=self.passage,
            view=self.view,
            ledger=system.ledger,
            published=self.publisher.published,
            notice_publisher=self.publisher.notice,
            take_doubts=doubted,
            wake_voucher=lambda: None,
            look_at_ledger=lambda _positions: None,
            most_waiting=most_waiting,
            lookups=lookups,
            **self.ops.everywhere(),
            log=log,
        )
        self.inbox.subscribe([system.ledger.topic], self.applier)
        system.by_hand.append(self)

    @property
    def owned(self) -> set[int]:
        """The buckets that it owns, as far as it knows."""
        return {partition.number for partition in self.inbox.owned}

    def apply(self, rounds: int = 1) -> None:
        """Go round the applier's loop."""
        self.applier.run(self.inbox, Rounds(rounds))

    def publish(self) -> bool:
        """Publish what waits; False when it could not."""
        return self.publisher.publish_waiting()

    def said(self) -> list[str]:
        """Return what it logged, in short."""
        return [str(call.args[0]) for call in self.logger.calls]

    def die(self) -> None:
        """Leave the group at once, as a dead process would in the end; its transaction, if one is open, stays open."""
        self.inbox.close()
        self.committed.close()


class Classifying:
    """A classifier in this process, moved by hand."""

    def __init__(
        self,
        system: System,
        *topics: str,
        now: Callable[[], int] | None = None,
        region: str = "US",
        limits: BadRecords | None = None,
        properties: Mapping[str, Any] | None = None,
        lookups: Lookups | None = None,
        skips: bool = False,
    ) -> None:
        self.logger = CapturingLogger()
        self.ops = Ops(self.logger)
        intake = Intake(
            codec=system.codec if lookups is None else Codec(lookups),
            keywords=Keywords(),
            topics=Topics(
                ledger=system.topics["ledger"],
                reviews=system.topics["reviews"],
                dead_letters=system.topics["dead"],
                requests=system.topics["requests"],
            ),
            buckets=system.buckets,
            region=region,
            **({} if now is None else {"now": now}),
        )
        self.in_part: list[Outgoing] = []
        self.producer = LedgerProducer(system.client(), lambda *_: None, on_reduced=self.in_part.append)
        names = topics or (system.topics["inbound"],)
        allowed = Allowed(
            [Skips(name, of_topic) for name, of_topic in topic_ids(system.admin, names).items()],
            system.skip_log() if skips else None,
        )
        self.passage = Passage(
            allowed,
            probing(system.client(**properties or {})),
            metrics=self.ops.metrics,
            log=cast("FilteringBoundLogger", self.logger),
        )
        self.classifier = Classifier(
            intake=intake,
            producer=self.producer,
            passage=self.passage,
            inbound=Inbound(names, system.ledger.topic_id, lambda asked: topic_ids(system.admin, asked)),
            kept=KeptOffsets(system.client(), f"{system.group}.classify"),
            metrics=self.ops.metrics,
            health=self.ops.health,
            log=cast("FilteringBoundLogger", self.logger),
            limits=limits,
            held=HeldBack(lookups, cast("FilteringBoundLogger", self.logger)),
        )
        self.inbox = Inbox(
            system.client(**properties or {}) | {"group.id": f"{system.group}.classify"}, lambda *_: None
        )
        self.inbox.subscribe(names, self.classifier)
        system.by_hand.append(self)

    def classify(self, rounds: int = 1) -> None:
        """Go round the classifier's loop and commit, as it does at its end."""
        self.classifier.run(self.inbox, Rounds(rounds))

    def until(self, condition: Callable[[], bool]) -> None:
        """Go round until it holds."""

        def holds() -> bool:
            self.classify()
            return condition()

        wait_for("what was to be classified", holds)

    def die(self) -> None:
        """Leave the group; what is acknowledged is committed."""
        self.inbox.close()
