"""The product's Kafka classes on a real cluster and on the one in memory, built in the same way, for one contract."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, cast

from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined] # public all the same

from consumer.kafka.committed import CommittedReader, KeptOffsets
from consumer.kafka.inbox import Inbox
from consumer.kafka.offsets import Offsets
from consumer.kafka.producers import LedgerProducer, TransactionalOutbox
from tests.parts.fake_kafka import Admin, Place
from tests.parts.system import Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from consumer.kafka.inbox import Partition, Read
    from tests.parts.fake_kafka import Broker
    from tests.parts.kafka import Kafka

DEADLINE = 60.0
ROUNDS = 20
SLOW = {"session.timeout.ms": 1500, "max.poll.interval.ms": 1500}
"""Of a member that the group takes for dead once it has not read for a moment."""


class Heard:
    """A listener that begins everywhere at the start, and remembers what it was told."""

    def __init__(self) -> None:
        self.assigned_: list[list[int]] = []
        self.revoked_: list[tuple[list[int], bool]] = []

    def assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        self.assigned_.append([partition.number for partition in partitions])
        return dict.fromkeys(partitions, 0)

    def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> None:
        self.revoked_.append(([partition.number for partition in partitions], lost))


class Member:
    """A member of a group and all that it heard and read."""

    def __init__(self, inbox: Inbox, topic: str) -> None:
        self.inbox = inbox
        self.heard = Heard()
        self.values: list[tuple[int, bytes | None]] = []
        self.ends: dict[Partition, int] = {}
        inbox.subscribe([topic], self.heard)

    @property
    def owned(self) -> set[int]:
        return {partition.number for partition in self.inbox.owned}

    def read(self) -> Read:
        read = self.inbox.read(100, 0.05)
        self.values += [(message.partition() or 0, message.value()) for message in read.messages]
        self.ends.update(read.ends)
        return read


class Interrupted(TransactionalOutbox):
    """The real outbox, with the hands of a test between the calls of its producer."""

    before: Mapping[str, Callable[[], object]] = {}
    after: Mapping[str, Callable[[], object]] = {}

    def _ready(self) -> Any:
        return Watched(super()._ready(), before=self.before, after=self.after)


class Kit(Protocol):
    """One cluster, with topics and groups of the test's own."""

    def config(self) -> dict[str, Any]: ...
    def topic(self, partitions: int) -> str: ...
    def add_partition(self, topic: str, partitions: int) -> None: ...
    def append(self, topic: str, number: int, *values: bytes) -> None: ...
    def admin(self) -> Any: ...
    def until(self, condition: Callable[[], object], *members: Member) -> None: ...
    def take_for_dead(self, member: Member, *heirs: Member) -> None: ...
    def let_transactions_time_out(self, over: Callable[[], object]) -> None: ...


def member(kit: Kit, topic: str, **properties: Any) -> Member:
    """Join the group of the topic's name."""
    return Member(Inbox(kit.config() | properties | {"group.id": topic}, lambda *_: None), topic)


def reader(kit: Kit, topic: str) -> CommittedReader:
    return CommittedReader(kit.config(), topic)


def offsets(kit: Kit, topic: str, timeout: float = 20.0) -> Offsets:
    return Offsets(kit.admin(), KeptOffsets(kit.config(), topic), timeout=timeout)


def outbox(kit: Kit, timeout: float = 10.0) -> Interrupted:
    return Interrupted(kit.config(), timeout=timeout)


def ledger_producer(kit: Kit) -> LedgerProducer:
    return LedgerProducer(kit.config(), lambda *_: None)


class RealKit:
    """On a real cluster."""

    def __init__(self, kafka: Kafka, prefix: str) -> None:
        self._kafka = kafka
        self._prefix = prefix
        self._topics = 0

    def config(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self._kafka.bootstrap,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 300,
            "log_level": 0,
            "topic.metadata.refresh.interval.ms": 500,
        }

    def topic(self, partitions: int) -> str:
        self._topics += 1
        name = f"{self._prefix}{self._topics}"
        self._kafka.create_topic(name, partitions)
        return name

    def add_partition(self, topic: str, partitions: int) -> None:
        admin = self._kafka.admin()  # held until the answer is there: without it there is none
        admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(DEADLINE)

    def append(self, topic: str, number: int, *values: bytes) -> None:
        producer = Producer({"bootstrap.servers": self._kafka.bootstrap, "enable.idempotence": True})
        for value in values:
            producer.produce(topic, value, partition=number)
        assert producer.flush(DEADLINE) == 0

    def admin(self) -> Any:
        return self._kafka.admin()

    def until(self, condition: Callable[[], object], *members: Member) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline
            for one in members:
                one.read()
            if not members:
                time.sleep(0.05)

    def take_for_dead(self, member: Member, *heirs: Member) -> None:
        self.until(lambda: {n for heir in heirs for n in heir.owned} >= {0, 1}, *heirs)

    def let_transactions_time_out(self, over: Callable[[], object]) -> None:
        self.until(over)


class MemoryKit:
    """On the cluster in memory."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def config(self) -> dict[str, Any]:
        return {}

    def topic(self, partitions: int) -> str:
        name = f"topic-{len(self._broker.topics)}"
        self._broker.create_topic(name, partitions)
        return name

    def add_partition(self, topic: str, partitions: int) -> None:
        assert partitions == len(self._broker.topics[topic]) + 1
        self._broker.add_partition(topic)
        self._broker.group(topic).rebalance()

    def append(self, topic: str, number: int, *values: bytes) -> None:
        for value in values:
            self._broker.append(Place(topic, number), value)

    def admin(self) -> Any:
        return Admin(self._broker)

    def until(self, condition: Callable[[], object], *members: Member) -> None:
        for _ in range(ROUNDS):
            if condition():
                return
            for one in members:
                one.read()
        assert condition()

    def take_for_dead(self, member: Member, *heirs: Member) -> None:
        consumer = cast("Any", member.inbox._consumer)
        consumer.hears = False
        consumer._group.remove(consumer.member)
        self.until(lambda: {n for heir in heirs for n in heir.owned} >= {0, 1}, *heirs)
        consumer.hears = True

    def let_transactions_time_out(self, over: Callable[[], object]) -> None:
        for transaction in self._broker.pending:
            self._broker.time_out(transaction)
        assert over()


def committed(kit: Kit, topic: str, partition: Partition) -> int | str | None:
    """Return a committed offset, or that it is pending."""
    asked = reader(kit, topic)
    try:
        found = asked.committed(partition, 1.0)
    except TimeoutError:
        return "pending"
    finally:
        asked.close()
    return None if found is None else found.offset


def read_all(kit: Kit, topic: str, partitions: int) -> list[bytes | None]:
    """Return what a read_committed reader sees of a topic now, each partition to its end."""
    ends = offsets(kit, topic).stable_ends(offsets(kit, topic).partitions([topic]))
    one = Member(Inbox(kit.config() | {"group.id": f"{topic}.reader"}, lambda *_: None), topic)
    kit.until(lambda: len(one.owned) == partitions and all(one.ends.get(p) == end for p, end in ends.items()), one)
    one.inbox.close()
    return [value for _, value in sorted(one.values, key=lambda found: found[0])]


def closed(*members: Member) -> None:
    """Let them leave."""
    for one in members:
        with suppress(Exception):
            one.inbox.close()
