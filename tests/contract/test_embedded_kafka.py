"""What the code assumes of librdkafka's mock cluster, and what must not be assumed of it."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import confluent_kafka
import pytest
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined] # public all the same
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from consumer.embedded import kafka_mock
from consumer.embedded.errors import EmbeddedError
from consumer.embedded.kafka_mock import MockKafka, library_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from confluent_kafka import Message

CLASSIC: dict[str, Any] = {
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 2000,
    "heartbeat.interval.ms": 300,
}
KIP_848: dict[str, Any] = {"group.protocol": "consumer"}
PROTOCOLS = [pytest.param(CLASSIC, id="classic"), pytest.param(KIP_848, id="kip-848")]
PRODUCE, OFFSET_COMMIT = 0, 8
EARLIEST, LATEST = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    with MockKafka(session_timeout_ms=2000) as kafka:
        kafka.create_topic("in", 4)
        yield kafka


@pytest.fixture
def admin(kafka: MockKafka) -> AdminClient:
    """Return a client that outlives the futures which it returns: they fail when it goes."""
    return AdminClient(client(kafka))


def client(kafka: MockKafka, **more: Any) -> dict[str, Any]:
    return {"bootstrap.servers": kafka.bootstrap, "log_level": 0, **more}


class Member:
    """A member of the group `g` on the topic `in`, which notes what happens to it."""

    def __init__(self, kafka: MockKafka, protocol: dict[str, Any]) -> None:
        self.consumer = Consumer(
            client(
                kafka,
                **protocol,
                **{
                    "group.id": "g",
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "enable.partition.eof": True,
                    "isolation.level": "read_committed",
                },
            )
        )
        self.messages: list[Message] = []
        self.ends: dict[int | None, int | None] = {}
        self.errors: list[KafkaError] = []
        self.metadata: list[Any] = []
        self.consumer.subscribe(["in"], on_assign=self._assigned)

    def _assigned(self, consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self.metadata.append(consumer.consumer_group_metadata())

    def poll(self) -> None:
        message = self.consumer.poll(0.05)
        if message is None:
            return
        error = message.error()
        if error is None:
            self.messages.append(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            self.ends[message.partition()] = message.offset()
        else:
            self.errors.append(error)

    def owns(self, count: int) -> bool:
        return len(self.consumer.assignment()) == count


def until(condition: Callable[[], bool], *members: Member, within: float = 15.0) -> float:
    """Poll the members until the condition holds; returns after how many seconds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, "it did not happen"
        for member in members:
            member.poll()
    return time.monotonic() - began


def produce(kafka: MockKafka, topic: str, values: Sequence[bytes], **more: Any) -> list[Message]:
    reports: list[Message] = []
    producer = Producer(client(kafka, **{"linger.ms": 1}))
    for value in values:
        producer.produce(topic, value, partition=0, on_delivery=lambda _e, message: reports.append(message), **more)
    assert producer.flush(10) == 0
    return reports


def in_zero(offset: int | None = None) -> list[TopicPartition]:
    return [TopicPartition("in", 0) if offset is None else TopicPartition("in", 0, offset)]


def error_code(problem: pytest.ExceptionInfo[KafkaException]) -> int:
    code: int = problem.value.args[0].code()
    return code


# The cluster itself


def test_the_library_is_the_one_that_the_client_uses() -> None:
    """The mock cluster comes from the very library file that confluent_kafka has loaded."""
    assert kafka_mock._load().rd_kafka_version_str().decode() == confluent_kafka.libversion()[0]
    assert library_path().name.startswith("librdkafka")


def test_an_untried_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A librdkafka of another minor version is refused in one sentence, before anything experimental is called."""
    monkeypatch.setattr(kafka_mock, "TRIED_VERSION", "2.99.")
    with pytest.raises(EmbeddedError, match=r"tried with librdkafka 2\.99\.x only, and this is 2\.16"):
        MockKafka().start()


def test_what_is_not_running_says_so() -> None:
    """Before start and after stop every call says that the cluster is not running; stop can be repeated."""
    kafka = MockKafka()
    kafka.start()
    kafka.stop()
    kafka.stop()
    with pytest.raises(EmbeddedError, match="not running"):
        _ = kafka.bootstrap


def test_topics_are_what_was_asked_for() -> None:
    """Three brokers hold a topic of 64 partitions with three replicas each, and tell a cluster id."""
    with MockKafka(brokers=3) as kafka:
        kafka.create_topic("ledger", 64, 3)
        cluster = AdminClient(client(kafka)).list_topics(timeout=5)
        assert sorted(cluster.brokers) == [1, 2, 3]
        assert str(cluster.cluster_id).startswith("mockCluster")
        assert list(cluster.topics) == ["ledger"]
        assert [len(partition.replicas) for partition in cluster.topics["ledger"].partitions.values()] == [3] * 64
        with pytest.raises(EmbeddedError, match="already exists"):
            kafka.create_topic("ledger", 64, 3)
        with pytest.raises(EmbeddedError, match="has 3 brokers"):
            kafka.create_topic("other", 1, 4)


def test_another_process_joins_by_address(kafka: MockKafka) -> None:
    """A producer in another process writes to the cluster, and this one reads it."""
    script = (
        "import sys; from confluent_kafka import Producer; p = Producer({'bootstrap.servers': sys.argv[1]});"
        "p.produce('in', b'from outside', partition=0); sys.exit(p.flush(10))"
    )
    subprocess.run([sys.executable, "-c", script, kafka.bootstrap], check=True, timeout=30)
    member = Member(kafka, CLASSIC)
    until(lambda: bool(member.messages), member)
    assert member.messages[0].value() == b"from outside"
    member.consumer.close()


# Who makes topics


def test_asking_by_name_creates_a_topic(kafka: MockKafka) -> None:
    """An admin client that asks for an unknown topic by name creates it, unless allow.auto.create.topics is false."""
    careful = AdminClient(client(kafka, **{"allow.auto.create.topics": False}))
    answer = careful.list_topics("typo", timeout=5).topics["typo"].error
    assert answer is not None
    assert answer.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert "typo" not in careful.list_topics(timeout=5).topics
    AdminClient(client(kafka)).list_topics("typo", timeout=5)
    assert len(careful.list_topics(timeout=5).topics["typo"].partitions) == 4


def test_subscribing_creates_no_topic(kafka: MockKafka) -> None:
    """A consumer that subscribes to an unknown topic hears that it is unknown, and does not create it."""
    consumer = Consumer(client(kafka, **{"group.id": "g"}))
    consumer.subscribe(["typo"])
    message = consumer.poll(10)
    assert message is not None
    error = message.error()
    assert error is not None
    assert error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert "typo" not in consumer.list_topics(timeout=5).topics
    consumer.close()


# Records


def test_records_come_back_as_they_were_written(kafka: MockKafka) -> None:
    """Key, value, headers and creation time reach the reader, and the end of a partition is told with its offset."""
    headers = [("id", b"1"), ("none", None), ("id", b"2")]
    produce(kafka, "in", [b"STOP"], key=b"+1555", headers=headers, timestamp=1_700_000_000_123)
    member = Member(kafka, CLASSIC)
    until(lambda: len(member.ends) == 4, member)
    (message,) = member.messages
    assert (message.key(), message.value(), message.headers()) == (b"+1555", b"STOP", headers)
    assert message.timestamp() == (confluent_kafka.TIMESTAMP_CREATE_TIME, 1_700_000_000_123)
    assert member.ends == {0: 1, 1: 0, 2: 0, 3: 0}
    member.consumer.close()


def test_delivery_reports_have_the_offset_and_a_made_up_time(kafka: MockKafka) -> None:
    """A delivery report tells the right offset; its time is the mock's constant, not the record's."""
    reports = produce(kafka, "in", [b"a", b"b"], timestamp=1_700_000_000_123)
    assert [report.offset() for report in reports] == [0, 1]
    assert {report.timestamp() for report in reports} == {(confluent_kafka.TIMESTAMP_LOG_APPEND_TIME, 1234)}


def test_a_retried_batch_of_an_idempotent_producer_is_stored_once(kafka: MockKafka, admin: AdminClient) -> None:
    """An idempotent producer whose connection is cut before the answer delivers each record once."""
    producer = Producer(client(kafka, **{"enable.idempotence": True}))
    kafka.push_request_errors(PRODUCE, [KafkaError._TRANSPORT])
    producer.produce("in", b"once", partition=0)
    assert producer.flush(15) == 0
    (end,) = admin.list_offsets({in_zero()[0]: LATEST}).values()
    assert end.result(5).offset == 1


def test_old_records_go_silently(kafka: MockKafka) -> None:
    """A partition keeps about 5 MiB of batches: the first offset moves up, and a reader of the old ones is told."""
    for _ in range(8):
        produce(kafka, "in", [bytes(100_000)] * 10)
    reader = Consumer(client(kafka, **{"group.id": "r", "auto.offset.reset": "error"}))
    low, high = reader.get_watermark_offsets(in_zero()[0], timeout=5)
    assert high == 80
    assert 20 <= low <= 40
    reader.assign(in_zero(0))
    message = reader.poll(10)
    assert message is not None
    error = message.error()
    assert error is not None
    assert error.code() == KafkaError._AUTO_OFFSET_RESET
    reader.close()


# Groups


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_first_member_has_its_partitions_at_once(kafka: MockKafka, protocol: dict[str, Any]) -> None:
    """The first member of a group is assigned within a second, with group metadata already in the callback."""
    member = Member(kafka, protocol)
    assert until(lambda: member.owns(4), member) < 1
    assert all(metadata is not None for metadata in member.metadata)
    member.consumer.close()


@pytest.mark.parametrize(("protocol", "limit"), [(CLASSIC, 6.0), (KIP_848, 3.0)], ids=["classic", "kip-848"])
def test_two_members_share(kafka: MockKafka, protocol: dict[str, Any], limit: float) -> None:
    """A second member gets half within 6 s (classic, session timeout 2 s) or 3 s (KIP-848), and gives it back."""
    first = Member(kafka, protocol)
    until(lambda: first.owns(4), first)
    second = Member(kafka, protocol)
    assert until(lambda: first.owns(2) and second.owns(2), first, second) < limit
    second.consumer.close()
    assert until(lambda: first.owns(4), first) < limit
    first.consumer.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_killed_members_partitions_are_taken_over(kafka: MockKafka, protocol: dict[str, Any]) -> None:
    """A member that a SIGKILL ends is given up after the session timeout, and the other one takes all partitions."""
    script = (
        "import ast, sys; from confluent_kafka import Consumer; c = Consumer(ast.literal_eval(sys.argv[1]));"
        "c.subscribe(['in'])\nwhile True: c.poll(0.1)"
    )
    first = Member(kafka, protocol)
    until(lambda: first.owns(4), first)
    configuration = client(kafka, **protocol, **{"group.id": "g"})
    with subprocess.Popen([sys.executable, "-c", script, repr(configuration)]) as other:
        until(lambda: first.owns(2), first)
        other.kill()
    assert until(lambda: first.owns(4), first) < 8
    first.consumer.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_committed_offsets_are_resumed_from(kafka: MockKafka, admin: AdminClient, protocol: dict[str, Any]) -> None:
    """What a member commits, `committed` returns with its metadata, an admin client sees, and its heir begins at."""
    produce(kafka, "in", [b"0", b"1", b"2"])
    member = Member(kafka, protocol)
    until(lambda: len(member.messages) == 3, member)
    assert [answer.offset for answer in member.consumer.committed(in_zero(), timeout=5)] == [
        confluent_kafka.OFFSET_INVALID
    ]
    member.consumer.commit(offsets=[TopicPartition("in", 0, 2, metadata="note")], asynchronous=False)
    (committed,) = member.consumer.committed(in_zero(), timeout=5)
    assert (committed.offset, committed.metadata) == (2, "note")
    asked = [ConsumerGroupTopicPartitions("g", [TopicPartition("in", number) for number in range(4)])]
    answer = admin.list_consumer_group_offsets(asked)["g"].result(5).topic_partitions
    assert [partition.offset for partition in answer] == [2, *[confluent_kafka.OFFSET_INVALID] * 3]
    member.consumer.close()
    heir = Member(kafka, protocol)
    until(lambda: bool(heir.messages), heir)
    assert heir.messages[0].offset() == 2
    heir.consumer.close()


def test_a_groups_offsets_must_be_asked_for_by_partition(kafka: MockKafka, admin: AdminClient) -> None:
    """Asked for all partitions of a group at once, the mock answers with none."""
    member = Member(kafka, CLASSIC)
    until(lambda: member.owns(4), member)
    member.consumer.commit(offsets=in_zero(1), asynchronous=False)
    asked = [ConsumerGroupTopicPartitions("g")]
    assert admin.list_consumer_group_offsets(asked)["g"].result(5).topic_partitions == []
    member.consumer.close()


@pytest.mark.parametrize(
    ("protocol", "errors"),
    [
        pytest.param(CLASSIC, {KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION}, id="classic"),
        pytest.param(KIP_848, set(), id="kip-848"),
    ],
)
def test_a_classic_rebalance_refuses_commits(kafka: MockKafka, protocol: dict[str, Any], errors: set[int]) -> None:
    """While a classic group rebalances commits are refused, more than by a real broker; with KIP-848 they are taken."""
    first = Member(kafka, protocol)
    until(lambda: first.owns(4), first)
    second = Member(kafka, protocol)
    refused: set[int] = set()

    def shared() -> bool:
        try:
            first.consumer.commit(
                offsets=[TopicPartition("in", first.consumer.assignment()[0].partition, 0)], asynchronous=False
            )
        except KafkaException as problem:
            refused.add(problem.args[0].code())
        return second.owns(2)

    until(shared, first, second)
    assert refused <= errors
    assert (KafkaError.REBALANCE_IN_PROGRESS in refused) == bool(errors)
    first.consumer.close()
    second.consumer.close()


def test_who_is_no_member_cannot_commit(kafka: MockKafka) -> None:
    """Once a group has had members, a client that never joined cannot set its offsets, not even when all have left."""
    member = Member(kafka, CLASSIC)
    until(lambda: member.owns(4), member)
    member.consumer.close()
    outsider = Consumer(client(kafka, **{"group.id": "g"}))
    with pytest.raises(KafkaException) as problem:
        outsider.commit(offsets=in_zero(1), asynchronous=False)
    assert error_code(problem) == KafkaError.UNKNOWN_MEMBER_ID
    outsider.close()


# Offsets


def test_list_offsets_is_live(kafka: MockKafka, admin: AdminClient) -> None:
    """`list_offsets` tells the first and the next offset of each partition in far less than a second."""
    produce(kafka, "in", [b"0", b"1"])
    began = time.monotonic()
    for spec, expected in ((LATEST, [2, 0, 0, 0]), (EARLIEST, [0, 0, 0, 0])):
        asked = {TopicPartition("in", number): spec for number in range(4)}
        answers = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED)
        assert [answers[partition].result(5).offset for partition in asked] == expected
    assert time.monotonic() - began < 1


def test_there_is_no_offset_for_a_time(kafka: MockKafka) -> None:
    """`offsets_for_times` finds nothing, whatever is there."""
    produce(kafka, "in", [b"0"])
    consumer = Consumer(client(kafka, **{"group.id": "r"}))
    assert [answer.offset for answer in consumer.offsets_for_times(in_zero(1), timeout=5)] == [
        confluent_kafka.OFFSET_END
    ]
    consumer.close()


# What it does not do


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(
            lambda admin: admin.describe_topics(TopicCollection(["in"]), request_timeout=1)["in"], id="describe_topics"
        ),
        pytest.param(
            lambda admin: next(
                iter(admin.describe_configs([ConfigResource(ResourceType.TOPIC, "in")], request_timeout=1).values())
            ),
            id="describe_configs",
        ),
        pytest.param(lambda admin: admin.describe_cluster(request_timeout=1), id="describe_cluster"),
        pytest.param(
            lambda admin: admin.create_topics([NewTopic("new", 1, 1)], request_timeout=1)["new"], id="create_topics"
        ),
    ],
)
def test_administration_times_out(admin: AdminClient, call: Callable[[AdminClient], Any]) -> None:
    """Calls for the controller end with their time, not with an answer: whoever uses the mock must not need them."""
    with pytest.raises(KafkaException) as problem:
        call(admin).result(5)
    assert error_code(problem) == KafkaError._TIMED_OUT


def test_transactions_isolate_nothing(kafka: MockKafka) -> None:
    """Transactions run, but an aborted record is read, a sent offset is not stored, and a zombie's commit succeeds."""
    kafka.create_topic("out", 1)
    produce(kafka, "in", [b"0"])
    member = Member(kafka, CLASSIC)
    until(lambda: bool(member.messages), member)
    producer = Producer(client(kafka, **{"transactional.id": "t"}))
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce("out", b"aborted")
    assert producer.flush(10) == 0
    producer.abort_transaction(10)
    producer.begin_transaction()
    producer.produce("out", b"zombie")
    producer.send_offsets_to_transaction(in_zero(1), member.consumer.consumer_group_metadata(), 10)
    Producer(client(kafka, **{"transactional.id": "t"})).init_transactions(10)  # the successor
    producer.commit_transaction(10)
    (committed,) = member.consumer.committed(in_zero(), timeout=5)
    assert committed.offset == confluent_kafka.OFFSET_INVALID
    member.consumer.close()
    reader = Consumer(client(kafka, **{"group.id": "r", "isolation.level": "read_committed"}))
    reader.assign([TopicPartition("out", 0, 0)])
    assert [message.value() for message in reader.consume(2, 10)] == [b"aborted", b"zombie"]
    reader.close()


# Faults


def test_pushed_errors_are_answered_once(kafka: MockKafka) -> None:
    """A retriable error that was pushed is met once, retried by the client, and the record arrives."""
    kafka.push_request_errors(PRODUCE, [KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.NOT_ENOUGH_REPLICAS])
    (report,) = produce(kafka, "in", [b"late"])
    assert (report.error(), report.offset()) == (None, 0)


def test_a_pushed_error_of_a_commit_reaches_its_caller(kafka: MockKafka) -> None:
    """A commit that is answered with an error raises it."""
    member = Member(kafka, CLASSIC)
    until(lambda: member.owns(4), member)
    kafka.push_request_errors(OFFSET_COMMIT, [KafkaError.ILLEGAL_GENERATION])
    with pytest.raises(KafkaException) as problem:
        member.consumer.commit(offsets=in_zero(0), asynchronous=False)
    assert error_code(problem) == KafkaError.ILLEGAL_GENERATION
    member.consumer.close()


def test_a_broker_that_was_down_comes_back(kafka: MockKafka) -> None:
    """While the broker is down a record waits in its producer, and arrives after it is up again."""
    producer = Producer(client(kafka, **{"reconnect.backoff.max.ms": 200}))
    assert producer.list_topics(timeout=5).topics
    kafka.set_broker_down(1)
    producer.produce("in", b"waits", partition=0)
    assert producer.flush(1) == 1
    kafka.set_broker_up(1)
    assert producer.flush(10) == 0
