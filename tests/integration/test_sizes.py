"""No record is too large: what is copied is cut, what cannot be kept is kept in part, and nobody else has to wait."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from consumer.domain.events import Action, KeywordRecord, Origin, PatientKeyword
from consumer.domain.evidence import LARGEST_RECORD
from tests.parts.system import Applying, Classifying, System, inbound, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.kafka import Kafka

BUCKETS = 2
HERE, THERE = location_in(0, BUCKETS), location_in(1, BUCKETS)
PATIENT, OTHER = "+12025550143", "+12025550144"
MEGABYTE = "m" * 1_000_000


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """Two buckets in a ledger that takes what an inbound record barely held, and topics of the broker's own limit."""
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.make_topics(inbound=1, requests=1, changed=1, confirmations=1, reviews=1)
        wide = {"max.message.bytes": "2097152"}
        kafka.create_topic(deployment.topics["ledger"], BUCKETS, wide | {"retention.ms": "-1", "retention.bytes": "-1"})
        kafka.create_topic(deployment.topics["dead"], 1, wide)
        yield deployment


def produce(system: System, role: str, *records: dict[str, Any]) -> None:
    """Write records of any size, as some other client would."""
    producer = Producer({"bootstrap.servers": system.bootstrap, "message.max.bytes": 100_000_000})
    for record in records:
        producer.produce(system.topics[role], **record)
    assert producer.flush(60) == 0


def line(system: System, location: str, patient: str, **long: Any) -> dict[str, Any]:
    """Return a line of the ledger as a version wrote it that cut nothing."""
    now = time.time_ns() // 1_000_000
    origin: dict[str, Any] = {"message_id": "m", "topic": "t", "partition": 0, "offset": 0}
    origin |= {"received_at": now, "kafka_timestamp": now}
    record = KeywordRecord(
        location_id=location,
        patient_number=patient,
        location_number="+12025550100",
        cause=PatientKeyword(
            action=Action.OPT_OUT, keyword="STOP", raw_body="STOP", rule="whole-body", pack="standard", pack_version=1
        ),
        event_time=now,
        recorded_at=now,
        origin=Origin(**origin | long),
    )
    return {"value": system.codec.encode(record), "partition": 0 if location == HERE else 1}


def told(system: System) -> set[tuple[str, str, int]]:
    return {
        (each.record["location_id"], each.record["patient_number"], each.record["version"])
        for each in system.read("changed")
    }


def settle(member: Applying, system: System) -> None:
    """Apply and publish until all of the ledger is in force and told."""

    def settled() -> bool:
        member.apply()
        member.publish()
        ends = system.ends("ledger")
        return system.metas("applied") == ends and not any(system.metas("outbox").values())

    wait_for("all is applied and told", settled)


def test_a_megabyte_of_evidence_keeps_nothing_from_being_told(system: System) -> None:
    """A STOP with a megabyte in a field is in force and told, one that the ledger holds whole is told, too."""
    produce(system, "ledger", line(system, HERE, PATIENT, message_id=MEGABYTE))
    produce(system, "inbound", {"value": system.text(inbound(THERE, PATIENT, "STOP", message_id=MEGABYTE[:900_000]))})
    classifier = Classifying(system)
    classifier.until(lambda: system.committed("classify", "inbound") == system.ends("inbound"))
    classifier.die()
    member = Applying(system)
    settle(member, system)
    assert told(system) == {(HERE, PATIENT, 1), (THERE, PATIENT, 1)}
    assert system.members() == {(HERE, PATIENT), (THERE, PATIENT)}
    events = system.messages("changed")
    assert max(len(event.value() or b"") for event in events) < LARGEST_RECORD
    assert all("…[cut: " in event.record["origin"]["message_id"] for event in system.read("changed"))
    (line_,) = (each for each in system.messages("ledger") if each.partition() == 1)
    assert len(line_.value() or b"") < LARGEST_RECORD
    member.die()
