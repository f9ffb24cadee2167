"""Inbound to ledger on a real Kafka: nothing is committed before it is written, and nothing that was sent is lost."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import pytest
from confluent_kafka import KafkaError, Producer, TopicPartition

from consumer import classifier as module
from consumer.domain.buckets import bucket_of
from consumer.domain.events import OptOutRequested, Source
from consumer.embedded.kafka_mock import MockKafka
from consumer.kafka.committed import KeptOffsets
from consumer.kafka.errors import KafkaGone
from consumer.kafka.inbox import Partition
from consumer.ledger import LedgerFault
from tests.parts import oracle
from tests.parts.system import Classifying, System, inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from tests.parts.kafka import Kafka, KafkaCluster

BUCKETS = 4
LIST_OFFSETS = 2
"""The protocol's number of the request for a partition's ends."""
PATIENT = "+12025550143"
DAY_MS = 24 * 60 * 60 * 1000
NOWHERE = "redis://127.0.0.1:1/0"
"""A classifier knows nothing of Redis."""


@pytest.fixture
def system(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """What a classifier reads and writes, with two partitions of inbound."""
    with System(kafka.bootstrap, NOWHERE, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.make_topics(inbound=2, ledger=BUCKETS)
        yield deployment


@pytest.fixture
def full_system(system: System) -> System:
    """The same with everything else that a classifier may read or write."""
    system.make_topics(requests=1, reviews=1, dead=1)
    return system


def now() -> int:
    return time.time_ns() // 1_000_000


def ms(when: datetime) -> int:
    return round(when.timestamp() * 1000)


def text(system: System, body: str, location: str = "loc-1", number: str = PATIENT, **fields: Any) -> bytes:
    return system.text(inbound(location, number, body, **fields))


def until_committed(system: System, classifier: Classifying, role: str = "inbound") -> None:
    classifier.until(lambda: system.committed("classify", role) == system.ends(role))


def lines(system: System) -> list[dict[str, Any]]:
    """Return the records of the ledger in the order in which they were written."""
    return [written.record for written in sorted(system.read("ledger"), key=lambda one: (one.timestamp, one.offset))]


def test_everything_is_committed_when_taken_over(system: System) -> None:
    """A classifier that takes partitions over commits at once, an empty one too; what stood there is read."""
    system.write("inbound", (0, text(system, "hello")), (0, text(system, "STOP")))
    assert set(system.committed("classify", "inbound").values()) == {-1001}
    classifier = Classifying(system)
    classifier.until(lambda: system.committed("classify", "inbound") == {0: 2, 1: 0})
    assert [line["action"] for line in lines(system)] == ["OPT_OUT"]
    classifier.die()


def test_successor_goes_on_where_the_last_one_committed(system: System) -> None:
    """What came while nobody was there is read by the next classifier, once."""
    first = Classifying(system)
    system.write("inbound", (0, text(system, "STOP")), (1, text(system, "STOP", "loc-2")))
    until_committed(system, first)
    first.die()
    system.write("inbound", (0, text(system, "START")), (1, text(system, "see you at 3")))
    second = Classifying(system)
    until_committed(system, second)
    assert [line["action"] for line in lines(system)] == ["OPT_OUT", "OPT_OUT", "OPT_IN"]
    second.die()


def test_nothing_is_committed_before_it_is_written(
    breakable_kafka: KafkaCluster, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the ledger refuses writes no offset passes what it has not taken, and whoever reads it next writes it."""
    monkeypatch.setattr(module, "FLUSH_ON_REVOKE", 0.3)
    if breakable_kafka.size < 3:
        pytest.skip("a ledger on one broker cannot want more replicas than there are")
    with System(breakable_kafka.bootstrap, NOWHERE, topic_prefix, tmp_path, buckets=1) as system:
        system.make_topics(inbound=1)
        breakable_kafka.create_topic(system.topics["ledger"], 1, {"min.insync.replicas": "3"})
        first = Classifying(system)
        until_committed(system, first)
        breakable_kafka.stop_broker(2)
        system.write("inbound", (0, text(system, "hello")), (0, text(system, "STOP")), (0, text(system, "talk")))
        first.until(lambda: first.producer.waiting() > 0)
        first.classify(3)
        assert system.committed("classify", "inbound") == {0: 0}
        first.producer._producer.purge()  # it ends here, and what it had not written with it
        with suppress(KafkaGone):
            first.die()
        second = Classifying(system)
        second.until(lambda: second.producer.waiting() > 0)
        second.classify(3)
        assert system.committed("classify", "inbound") == {0: 0}
        breakable_kafka.start_broker(2)
        until_committed(system, second)
        assert [line["action"] for line in lines(system)] == ["OPT_OUT"]
        second.die()


def test_texts_of_another_ledger_are_not_read_on(system: System) -> None:
    """Where inbound was read into another ledger a classifier ends in words: this one lacks what that one holds."""
    elsewhere = Classifying(system)
    elsewhere.classifier._inbound.ledger_id = another = "AnotherLedgersTopicId0"
    system.write("inbound", (0, text(system, "STOP")))
    until_committed(system, elsewhere)
    elsewhere.die()
    system.write("inbound", (0, text(system, "hello")))
    classifier = Classifying(system)
    with pytest.raises(LedgerFault, match=rf"inbound \[\d\] was read up to \d into another ledger \(id {another};"):
        classifier.until(lambda: False)
    assert system.committed("classify", "inbound")[0] == 1


@pytest.mark.parametrize("note", ["", "anything/that another program notes"])
def test_offset_that_was_set_by_hand_does_not_count(system: System, note: str) -> None:
    """Where somebody set the group's offset with Kafka's own tools, or a program's, nothing is skipped, or stops."""
    system.write("inbound", (0, text(system, "STOP")), (0, text(system, "END")))
    system.commit("classify", "inbound", {0: 1}, note=note)
    classifier = Classifying(system)
    until_committed(system, classifier)
    assert [line["keyword"] for line in lines(system)] == ["STOP", "END"]
    said = [str(call.args[0]) for call in classifier.logger.calls]
    assert any("does not count" in event and "optout offsets set classify" in event for event in said)
    classifier.die()


def test_what_was_given_up_is_not_committed_for(system: System) -> None:
    """What was read of a partition that another classifier has meanwhile never takes the other's offset back."""
    system.write("inbound", *((partition, text(system, "STOP")) for partition in (0, 1)))
    former = Classifying(system)
    until_committed(system, former)
    system.write("inbound", *((partition, text(system, "START")) for partition in (0, 1)))
    read = former.inbox.read(500, 5.0)
    while len(read.messages) < 2:
        read.messages += former.inbox.read(500, 5.0).messages

    heir = Classifying(system)

    def shared() -> bool:
        heir.classify()
        former.inbox.read(1, 0.1)
        return len(former.inbox.owned) == len(heir.inbox.owned) == 1

    wait_for("the partitions are shared", shared)
    (given_up,) = heir.inbox.owned
    heir.until(lambda: system.committed("classify", "inbound")[given_up.number] == 2)
    system.write("inbound", (given_up.number, text(system, "quit")))
    heir.until(lambda: system.committed("classify", "inbound")[given_up.number] == 3)
    former.classifier.step(read)  # what it had in its hands when it lost the partition
    former.classifier.commit()
    assert system.committed("classify", "inbound")[given_up.number] == 3
    former.die()
    heir.die()


def test_end_behind_transactions_is_reached(system: System) -> None:
    """Where upstream writes in transactions the end is committed behind their markers; what they abort is not read."""
    topic = system.topics["inbound"]
    classifier = Classifying(system)
    upstream = Producer({"bootstrap.servers": system.bootstrap, "transactional.id": topic, "retry.backoff.ms": 5})
    upstream.init_transactions(10)
    for body, finish in (("STOP", upstream.abort_transaction), ("END", upstream.commit_transaction)):
        upstream.begin_transaction()
        upstream.produce(topic, text(system, body), partition=0)
        upstream.flush(10)
        finish(10)
        until_committed(system, classifier)
    wait_for("both markers are written", lambda: system.ends("inbound")[0] == 4)
    until_committed(system, classifier)
    assert [line["keyword"] for line in lines(system)] == ["END"]
    classifier.die()


def test_deleted_records_end_the_classifier(system: System) -> None:
    """Where texts were deleted before they were read, a classifier ends in one sentence instead of skipping them."""
    first = Classifying(system)
    until_committed(system, first)
    first.die()
    system.write("inbound", (0, text(system, "STOP")), (0, text(system, "hello")))
    place = TopicPartition(system.topics["inbound"], 0, 1)
    system.admin.delete_records([place])[place].result(10)
    heir = Classifying(system)
    with pytest.raises(
        KafkaGone,
        match=r"inbound \[0\] at offset 0 does not hold the offset to read on at .*`optout offsets set classify`",
    ):
        heir.until(lambda: False)
    heir.die()
    assert system.committed("classify", "inbound") == {0: 0, 1: 0}
    assert lines(system) == []


def test_deleted_records_that_nobody_waited_for_are_no_fault(system: System) -> None:
    """Where nothing was ever committed a classifier begins at the first record that there is."""
    system.write("inbound", (0, text(system, "STOP")), (0, text(system, "quit")))
    place = TopicPartition(system.topics["inbound"], 0, 1)
    system.admin.delete_records([place])[place].result(10)
    classifier = Classifying(system)
    until_committed(system, classifier)
    assert [line["keyword"] for line in lines(system)] == ["QUIT"]
    classifier.die()


def test_keywords_stand_in_their_locations_partition(system: System) -> None:
    """Every keyword stands in the partition of its location, under the key of its subscription, as it was said."""
    locations = [f"loc-{number}" for number in range(12)]
    system.write("inbound", *((i % 2, text(system, " Stop\n", location)) for i, location in enumerate(locations)))
    classifier = Classifying(system)
    until_committed(system, classifier)
    written = system.messages("ledger")
    assert {message.key() for message in written} == {f"{location}:{PATIENT}".encode() for location in locations}
    for message in written:
        line = oracle.decode(message.value() or b"")
        assert message.partition() == bucket_of(line["location_id"], BUCKETS)
        assert (line["raw_body"], line["keyword"], line["source"]) == (" Stop\n", "STOP", "PATIENT_KEYWORD")
        assert line["origin"]["topic"] == system.topics["inbound"]
    classifier.die()


def test_requests_opt_out(full_system: System) -> None:
    """An opt-out that was asked for elsewhere stands in the ledger as what it is, beside the texts of another topic."""
    system = full_system
    long_ago = now() - 400 * DAY_MS
    sources: list[tuple[Literal[Source.IMPORT, Source.PROVIDER_BLOCK], str]] = [
        (Source.IMPORT, PATIENT),
        (Source.PROVIDER_BLOCK, "(202) 555-0144"),
    ]
    requests = [
        OptOutRequested(
            request_id=f"r-{source}",
            location_id="loc-1",
            patient_number=number,
            source=source,
            occurred_at=long_ago,
            keyword="recare",
        )
        for source, number in sources
    ]
    system.write("requests", *((0, system.codec.encode(request)) for request in requests))
    system.write("inbound", (0, text(system, "STOP")))
    classifier = Classifying(system, system.topics["inbound"], system.topics["requests"])
    until_committed(system, classifier)
    until_committed(system, classifier, "requests")
    found = {line["source"]: line for line in lines(system)}
    assert {line["action"] for line in found.values()} == {"OPT_OUT"}
    assert ms(found["IMPORT"]["event_time"]) == ms(found["PROVIDER_BLOCK"]["event_time"]) == long_ago
    assert found["PROVIDER_BLOCK"]["patient_number"] == "+12025550144"
    assert found["PATIENT_KEYWORD"]["keyword"] == "STOP"
    assert found["IMPORT"]["raw_body"] is None
    classifier.die()


def test_wrong_dates_only_suppress_more(full_system: System) -> None:
    """A date that cannot be right never holds a STOP back and never lifts one: such a START goes to review."""
    system = full_system
    began = now()
    system.write(
        "inbound",
        (0, text(system, "STOP", "ahead", received_at=began + 30 * DAY_MS)),
        (0, text(system, "STOP", "long ago", received_at=began - 30 * DAY_MS)),
        (0, text(system, "STOP", "late", received_at=began - DAY_MS)),
        (0, text(system, "START", "ahead", received_at=began + 30 * DAY_MS)),
        (0, text(system, "START", "long ago", received_at=began - 30 * DAY_MS)),
    )
    classifier = Classifying(system)
    until_committed(system, classifier)
    times = {(line["location_id"], line["action"]): ms(line["event_time"]) for line in lines(system)}
    assert times.keys() == {
        ("ahead", "OPT_OUT"),
        ("long ago", "OPT_OUT"),
        ("late", "OPT_OUT"),
        ("ahead", "OPT_IN"),
    }
    assert times["late", "OPT_OUT"] == began - DAY_MS
    assert all(began <= times[place] <= now() for place in times if place[0] != "late")
    (review,) = system.read("reviews")
    assert (review.record["location_id"], review.record["reason"]) == ("long ago", "IMPLAUSIBLE_OPT_IN")
    classifier.die()


def test_start_ahead_of_the_clock_goes_to_review(full_system: System) -> None:
    """A START whose Kafka time lies ahead of the classifier's clock changes nothing, a STOP does."""
    system = full_system
    system.write("inbound", (0, text(system, "STOP")), (0, text(system, "START")))
    classifier = Classifying(system, now=lambda: now() - 60_000)
    until_committed(system, classifier)
    assert [line["action"] for line in lines(system)] == ["OPT_OUT"]
    assert [written.record["reason"] for written in system.read("reviews")] == ["IMPLAUSIBLE_OPT_IN"]
    classifier.die()


def test_padded_stop_of_any_length_opts_out(full_system: System) -> None:
    """A STOP in 900 kB of white space is a STOP, and fits into the ledger; in front of a word more it is none."""
    system = full_system
    padding = " \t\u00a0\r\n" * 75_000  # 450 kB
    bodies = [padding + "StOp" + padding, padding + "stop messages"]
    system.write("inbound", *((0, text(system, body, f"loc-{i}")) for i, body in enumerate(bodies)))
    classifier = Classifying(system)
    until_committed(system, classifier)
    (line,) = lines(system)
    assert (line["location_id"], line["action"]) == ("loc-0", "OPT_OUT")
    assert system.read("dead") == []
    classifier.die()


def test_a_partition_without_a_leader_is_asked_again() -> None:
    """On a topic that was created a moment ago a classifier waits for leaders instead of ending its worker."""
    with MockKafka() as kafka:
        kafka.create_topic("sms.inbound", 1)
        kept = KeptOffsets({"bootstrap.servers": kafka.bootstrap}, "g")
        place = Partition("sms.inbound", 0)
        kafka.push_request_errors(LIST_OFFSETS, [KafkaError.NOT_LEADER_FOR_PARTITION] * 2)
        assert kept.firsts([place], 10.0) == {place: 0}
        kafka.push_request_errors(LIST_OFFSETS, [KafkaError.TOPIC_AUTHORIZATION_FAILED] * 2)
        with pytest.raises(TimeoutError, match="TOPIC_AUTHORIZATION_FAILED"):
            kept.firsts([place], 10.0)
        kept.close()
