"""What the code relies on of the Kafka client and of the broker, on a real cluster: another version may differ."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from consumer.kafka.errors import Triage, triage
from tests.parts.downloads import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.parts.kafka import Kafka

pytestmark = pytest.mark.kafka

SECONDS = 30.0
EARLIEST_COOPERATIVE = {
    "partition.assignment.strategy": "cooperative-sticky",
    "isolation.level": "read_committed",
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "session.timeout.ms": 3000,
    "heartbeat.interval.ms": 300,
}


class Member:
    """A member of a cooperative group, and what its callbacks heard: how many partitions, and the group metadata."""

    def __init__(self, kafka: Kafka, topic: str, seek_to: int | None = None) -> None:
        self.heard: list[tuple[int, Any]] = []
        self.owned: set[int] = set()
        self.sought: KafkaException | str | None = None
        self._seek_to = seek_to
        self.consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": topic, **EARLIEST_COOPERATIVE})
        self.consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked)

    def _assigned(self, consumer: Consumer, received: list[TopicPartition]) -> None:
        consumer.incremental_assign([TopicPartition(place.topic, place.partition, 0) for place in received])
        self.owned |= {place.partition for place in received}
        self.heard.append((len(received), consumer.consumer_group_metadata()))
        if self._seek_to is not None and received:
            self.sought = self.seek(received[0], self._seek_to)

    def _revoked(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        consumer.incremental_unassign(given)
        self.owned -= {place.partition for place in given}

    def seek(self, place: TopicPartition, offset: int) -> KafkaException | str:
        """Return the error of a seek, or that it worked."""
        try:
            self.consumer.seek(TopicPartition(place.topic, place.partition, offset))
        except KafkaException as problem:
            return problem
        return "done"


def until(condition: Callable[[], bool], *members: Member) -> None:
    """Let the members poll in turn until it holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        for member in members:
            member.consumer.poll(0.05)


@pytest.fixture
def topic(kafka: Kafka, topic_prefix: str) -> str:
    name = f"{topic_prefix}topic"
    kafka.create_topic(name, 2)
    return name


def transactional(kafka: Kafka, name: str) -> Producer:
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "transactional.id": name, "retry.backoff.ms": 5, "log_level": 0}
    )
    producer.init_transactions(SECONDS)
    return producer


def test_every_generation_is_heard_of(kafka: Kafka, topic_prefix: str) -> None:
    """A member is called back in each generation, with an empty list where nothing of its own moved."""
    name = f"{topic_prefix}one"
    kafka.create_topic(name, 1)
    first = Member(kafka, name)
    until(lambda: first.owned == {0}, first)
    second = Member(kafka, name)
    until(lambda: len(first.heard) > 1 and bool(second.heard), first, second)
    assert [count for count, _ in first.heard] == [1, *[0] * (len(first.heard) - 1)]
    assert len({metadata for _, metadata in first.heard}) == len(first.heard)
    for member in (second, first):
        member.consumer.close()


def test_metadata_of_an_earlier_generation_is_refused(kafka: Kafka, topic: str) -> None:
    """Offsets under the metadata of before a rebalance abort their transaction; the producer can begin another."""
    first = Member(kafka, topic)
    until(lambda: first.owned == {0, 1}, first)
    _, earlier = first.heard[0]
    second = Member(kafka, topic)
    until(lambda: len(first.owned) == len(second.owned) == 1, first, second)
    producer = transactional(kafka, topic)
    producer.begin_transaction()
    with pytest.raises(KafkaException) as refused:
        producer.send_offsets_to_transaction([TopicPartition(topic, 0, 1)], earlier, SECONDS)
    assert refused.value.args[0].code() in {KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID}
    assert triage(refused.value) is Triage.ABORT
    producer.abort_transaction(SECONDS)
    (mine,) = first.owned
    producer.begin_transaction()
    producer.send_offsets_to_transaction(
        [TopicPartition(topic, mine, 1)], first.consumer.consumer_group_metadata(), SECONDS
    )
    producer.commit_transaction(SECONDS)
    for member in (second, first):
        member.consumer.close()


def test_pending_offsets_are_not_told(kafka: Kafka, topic: str) -> None:
    """While a transaction holds a partition's offset it cannot be asked for; another partition's can, on its own."""
    member = Member(kafka, topic)
    until(lambda: member.owned == {0, 1}, member)
    producer = transactional(kafka, topic)
    producer.begin_transaction()
    producer.send_offsets_to_transaction(
        [TopicPartition(topic, 0, 7)], member.consumer.consumer_group_metadata(), SECONDS
    )
    stranger = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": topic, "isolation.level": "read_committed"})
    (other,) = stranger.committed([TopicPartition(topic, 1)], timeout=SECONDS)
    assert other.offset < 0
    with pytest.raises(KafkaException) as pending:
        stranger.committed([TopicPartition(topic, 0)], timeout=0.5)
    assert triage(pending.value) is Triage.RETRY
    producer.commit_transaction(SECONDS)
    (told,) = stranger.committed([TopicPartition(topic, 0)], timeout=SECONDS)
    assert told.offset == 7
    stranger.close()
    member.consumer.close()


def test_note_stays_with_the_offset(kafka: Kafka, topic: str) -> None:
    """What is committed with an offset comes back with it, to members and to strangers."""
    member = Member(kafka, topic)
    until(lambda: member.owned == {0, 1}, member)
    member.consumer.commit(offsets=[TopicPartition(topic, 0, 3, "a ledger's id")], asynchronous=False)
    stranger = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": topic})
    for one in (member.consumer, stranger):
        first, second = one.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=SECONDS)
        assert (first.offset, first.metadata, second.offset) == (3, "a ledger's id", -1001)
    stranger.close()
    member.consumer.close()


def test_end_lies_behind_control_records(kafka: Kafka, topic: str) -> None:
    """The end of a partition is told at the offset behind the markers of transactions, committed and aborted."""
    producer = transactional(kafka, topic)
    for finish in (producer.commit_transaction, producer.abort_transaction):
        producer.begin_transaction()
        producer.produce(topic, b"value", partition=0)
        producer.flush(SECONDS)
        finish(SECONDS)
    member = Member(kafka, topic)
    ends: list[int | None] = []
    values = []
    deadline = time.monotonic() + SECONDS
    while 4 not in ends:
        assert time.monotonic() < deadline, ends
        for message in member.consumer.consume(10, 0.1):
            error = message.error()
            if error is None:
                values.append(message.value())
            elif error.code() == KafkaError._PARTITION_EOF and message.partition() == 0:
                ends.append(message.offset())
    assert values == [b"value"]
    member.consumer.close()


def test_seeking_too_early_is_no_disaster(kafka: Kafka, topic: str) -> None:
    """A seek right after the assignment works, or fails with an error that says to try again."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for value in (b"0", b"1", b"2"):
        producer.produce(topic, value, partition=0)
    producer.flush(SECONDS)
    member = Member(kafka, topic, seek_to=2)
    until(lambda: member.owned == {0, 1}, member)
    for outcome in (member.sought, member.seek(TopicPartition(topic, 0), 2)):
        assert outcome == "done" or (isinstance(outcome, KafkaException) and triage(outcome) is not Triage.FATAL)
    deadline = time.monotonic() + SECONDS
    while member.seek(TopicPartition(topic, 0), 2) != "done":
        assert time.monotonic() < deadline
        member.consumer.poll(0.1)
    found = None
    while found is None or found.error() or found.offset() != 2:
        assert time.monotonic() < deadline
        found = member.consumer.poll(0.1)
    assert found.value() == b"2"
    member.consumer.close()


MOVED_COORDINATOR = """
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient
from consumer.embedded.kafka_mock import MockKafka
from consumer.kafka.committed import KeptOffsets, Partition
from consumer.kafka.offsets import Offsets, OffsetsUnavailable

OFFSET_FETCH = 9
with MockKafka() as kafka:
    kafka.create_topic("topic", 1)
    config = {"bootstrap.servers": kafka.bootstrap, "log_level": 0}
    offsets = Offsets(AdminClient(config), KeptOffsets(config, "group"))
    for error in ("NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE"):
        kafka.push_request_errors(OFFSET_FETCH, [getattr(KafkaError, error)])
        for _ in range(2):
            try:
                print(offsets.classified([Partition("topic", 0)], {"topic": ""}))
            except OffsetsUnavailable as problem:
                print(problem)
"""


def test_moved_coordinator_kills_nobody() -> None:
    """A group whose coordinator has moved, as with each restart of a broker, is asked about without dying of it."""
    done = subprocess.run(
        [sys.executable, "-c", MOVED_COORDINATOR], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.splitlines()[-1] == "{Partition(topic='topic', number=0): None}"
