"""No record is too large: what is copied is cut, what cannot be kept is kept in part, and nobody else has to wait."""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING, Any, cast

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType  # type: ignore[attr-defined]

from consumer import letter
from consumer.domain.buckets import bucket_of
from consumer.domain.events import Action, KeywordRecord, Origin, PatientKeyword
from consumer.domain.evidence import LARGEST_RECORD
from consumer.kafka.producers import PlainOutbox, TransactionalOutbox
from consumer.letter import Place
from tests.integration.test_publisher import Killed
from tests.parts.kafka import Kafka
from tests.parts.system import Applying, Classifying, System, inbound, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from consumer.kafka.inbox import Partition, Token
    from consumer.kafka.producers import Outgoing

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


def line(
    system: System, location: str, patient: str, *, action: Action = Action.OPT_OUT, **long: Any
) -> dict[str, Any]:
    """Return a line of the ledger as a version wrote it that cut nothing."""
    now = time.time_ns() // 1_000_000
    origin: dict[str, Any] = {"message_id": "m", "topic": "t", "partition": 0, "offset": 0}
    origin |= {"received_at": now, "kafka_timestamp": now}
    record = KeywordRecord(
        location_id=location,
        patient_number=patient,
        location_number="+12025550100",
        cause=PatientKeyword(
            action=action, keyword="STOP", raw_body="STOP", rule="whole-body", pack="standard", pack_version=1
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


def moved(member: Applying) -> Applying:
    member.apply()
    return member


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


@pytest.mark.parametrize("refusing", ["client", "broker"])
def test_a_change_that_no_topic_takes_is_put_aside_by_name(system: System, refusing: str) -> None:
    """It stays in force, a dead letter stands for it, and all others of its transaction are told; nothing is repeated.

    No classifier writes such a line: whoever may write to the ledger does. The opt-out in it is in force all the same.
    """
    huge = long_location(1_200_000)
    produce(
        system,
        "ledger",
        *(line(system, HERE, f"+12025550{number}") for number in range(100, 130)),
        line(system, huge, PATIENT) | {"partition": 0},
        *(line(system, place, f"+12025550{number}") for number in range(130, 150) for place in (HERE, THERE)),
    )
    widest = 2_000_000 if refusing == "broker" else 1_000_000
    member = Applying(system, outbox=TransactionalOutbox(system.client(**{"message.max.bytes": widest})))
    settle(member, system)
    expected = {(HERE, f"+12025550{number}", 1) for number in range(100, 150)}
    expected |= {(THERE, f"+12025550{number}", 1) for number in range(130, 150)}
    assert told(system) == expected
    assert len(system.messages("changed")) == len(expected)
    assert (huge, PATIENT) in system.members()
    (aside,) = system.messages("dead")
    read = letter.read(aside)
    assert (read.reason, read.source) == ("unsendable-change", Place(system.topics["ledger"], 0, 30))
    assert read.exception == "MSG_SIZE_TOO_LARGE"
    assert read.whole is not None
    assert read.whole.value > len(huge) > read.size
    assert member.ops.value("optout_changes_put_aside_total") == 1
    (said,) = (call for call in member.logger.calls if call.method_name == "error")
    assert said.kwargs["where"] == f"{system.topics['ledger']} [0] 30"
    assert huge[:20] not in str(member.logger.calls)
    member.die()
    done = system.run("dead-letters", "replay", "--all", "--yes")
    assert "it stands for a change, which is in force" in done.stderr
    heir = Applying(system)  # a replay from the beginning puts nothing aside again
    system.flush_redis()
    settle(heir, system)
    assert len(system.messages("dead")) == 1
    assert len(system.messages("changed")) == len(expected)
    heir.die()


def long_location(length: int) -> str:
    """Return a location of the first bucket that no classifier would have let in."""
    name = "x" * length
    return next(f"{name}{i}" for i in range(100) if bucket_of(f"{name}{i}", BUCKETS) == 0)


@pytest.mark.parametrize("publishing", ["transactions", "at-least-once"])
def test_only_what_is_refused_is_put_aside(system: System, publishing: str) -> None:
    """A change whose confirmation no topic takes is told, one that no topic takes is confirmed; its version is used up.

    With and without transactions.
    """
    huge = long_location(40_000)
    member = Applying(system, confirms=True)
    if publishing == "at-least-once":
        aside = cast("Any", member.publisher._outbox)
        aside._outbox = member.outbox = PlainOutbox(system.client(), member.inbox)
    narrow, wide = "50000", "1048588"
    for action, limits in (
        (Action.OPT_OUT, {"confirmations": narrow}),
        (Action.OPT_IN, {"confirmations": wide, "changed": narrow}),
        (Action.OPT_OUT, {"changed": wide}),
    ):
        for role, limit in limits.items():
            configure(system, system.topics[role], "max.message.bytes", limit)
        produce(system, "ledger", line(system, huge, PATIENT, action=action) | {"partition": 0})
        settle(member, system)
    assert told(system) == {(huge, PATIENT, 1), (huge, PATIENT, 3)}
    answered = {each.record["ledger"]["offset"] for each in system.read("confirmations")}
    assert answered == {1, 2}
    letters = sorted((letter.read(each) for each in system.messages("dead")), key=lambda each: each.place)
    assert [(each.reason, each.source and each.source.offset) for each in letters] == [
        ("unsendable-confirmation", 0),
        ("unsendable-change", 1),
    ]
    member.die()


class Mortal(TransactionalOutbox):
    """Dies as soon as an offset is committed behind a change."""

    def publish(
        self, records: Sequence[Outgoing], offsets: Mapping[Partition, int], token: Token, note: str = ""
    ) -> None:
        super().publish(records, offsets, token, note)
        if any(offsets.values()):
            raise Killed


def test_offset_passes_no_change_without_its_letter(system: System) -> None:
    """Who dies in the moment in which an offset passes a change that is put aside has told of it by a dead letter."""
    huge = long_location(1_200_000)
    produce(system, "ledger", line(system, huge, PATIENT) | {"partition": 0})
    dead = Applying(system, outbox=Mortal(system.client()))
    with pytest.raises(Killed):
        settle(dead, system)
    dead.die()
    heir = Applying(system)
    settle(heir, system)
    assert [letter.read(each).reason for each in system.messages("dead")] == ["unsendable-change"]
    assert told(system) == set()
    heir.die()


def test_a_topic_that_takes_nothing_is_no_fault_of_the_changes(system: System) -> None:
    """Where the topic of changes takes less than any change may need, they wait, and it is said what to set."""
    system.topics["changed"] += ".narrow"
    Kafka(system.bootstrap).create_topic(system.topics["changed"], 1, {"max.message.bytes": "200"})
    produce(system, "ledger", line(system, HERE, PATIENT), line(system, HERE, OTHER))
    member = Applying(system)

    def applied() -> bool:
        member.apply()
        return system.metas("applied") == system.ends("ledger")

    wait_for("applied", applied)
    assert not [member.publish() for _ in range(3)][-1]
    assert "narrow does not take a record of " in str(member.ops.health.unready())
    assert system.messages("dead") == []
    configure(system, system.topics["changed"], "max.message.bytes", "100000")
    settle(member, system)
    assert told(system) == {(HERE, PATIENT, 1), (HERE, OTHER, 1)}
    member.die()


def test_a_record_too_large_for_the_dead_letters_is_kept_in_part(system: System) -> None:
    """Of what fits into no dead letter its place, size, digest and first bytes are kept, and all behind it counts."""
    system.topics["inbound"] += ".wide"
    Kafka(system.bootstrap).create_topic(system.topics["inbound"], 1, {"max.message.bytes": "20000000"})
    garbage = b"\xff" + os.urandom(17 * 1024 * 1024)
    produce(
        system,
        "inbound",
        {"value": garbage, "key": b"k", "headers": [("trace", b"1")]},
        {"value": system.text(inbound(THERE, PATIENT, "STOP", message_id="m" * 17_000_000))},
        {"value": b"\xff", "key": b"k" * 2_100_000},
        {"value": b"\xff", "headers": [(f"h{number}", b"v" * 100) for number in range(20_000)]},
        {"value": system.text(inbound("", PATIENT, "STOP", provider="p" * 3_000_000))},
        {"value": b"\xff", "headers": [("optout.first-kafka-timestamp", b"1"), ("optout.replay-of", b"9" * 2_100_000)]},
        {"value": system.text(inbound(HERE, PATIENT, "STOP"))},
    )
    classifier = Classifying(system)
    classifier.until(lambda: system.committed("classify", "inbound") == system.ends("inbound"))
    assert {each.record["location_id"] for each in system.read("ledger")} == {HERE, THERE}
    kept = sorted(map(letter.read, system.messages("dead")), key=lambda each: each.source or each.place)
    assert [each.source and each.source.offset for each in kept] == [0, 2, 3, 4, 5]
    assert [each.reason for each in kept] == [*["not-framed"] * 3, "unattributable-opt-out", "not-framed"]
    assert kept[0].whole == (len(garbage), hashlib.sha256(garbage).hexdigest(), 1, 6)
    assert kept[0].size == letter.FIRST_BYTES + 1
    assert [each.whole and each.whole[2:] for each in kept[1:3]] == [(2_100_000, 0), (0, 2_108_890)]
    assert kept[3].whole is not None
    assert kept[4].whole is None  # what somebody wrote as a header of ours is not taken over
    assert len(classifier.in_part) == 4
    classifier.die()
    beginning = next(each for each in system.messages("dead") if len(each.value() or b"") == letter.FIRST_BYTES)
    assert garbage.startswith(beginning.value() or b"")
    listed = system.run("dead-letters", "list").stdout
    assert "4 that hold only the beginning of a record" in listed
    shown = system.run("dead-letters", "show", f"0:{beginning.offset()}", "--content").stdout
    assert f"value {len(garbage)}, key 1, headers 6 bytes; SHA-256 of the value {kept[0].whole[1]}" in shown
    assert "value: its first bytes:" in shown
    done = system.run("dead-letters", "replay", "--all", "--dry-run")
    assert done.stderr.startswith("optout: 4 cannot be replayed: it holds only the beginning of a record")


def bomb(system: System, topic: str, partition: int) -> None:
    """Write 150 MB that are a batch of some kilobytes."""
    producer = Producer(
        {
            "bootstrap.servers": system.bootstrap,
            "message.max.bytes": 200_000_000,
            "compression.type": "zstd",
            "enable.idempotence": True,
        }
    )
    producer.produce(topic, bytes(150_000_000), partition=partition)
    assert producer.flush(60) == 0


def test_a_batch_that_cannot_be_unpacked_holds_back_its_partition_alone(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named with its place and nothing is committed past it; other partitions count, and it is tried again."""
    monkeypatch.setattr("consumer.kafka.inbox.TRY_AGAIN", 0.5)
    system.topics["inbound"] += ".two"
    Kafka(system.bootstrap).create_topic(system.topics["inbound"], 2)
    topic = system.topics["inbound"]
    produce(system, "inbound", {"value": system.text(inbound(HERE, PATIENT, "STOP")), "partition": 0})
    bomb(system, topic, 0)
    produce(
        system,
        "inbound",
        *({"value": system.text(inbound(THERE, f"+12025550{100 + n}", "STOP")), "partition": n} for n in (0, 1)),
    )
    classifier = Classifying(system)
    classifier.until(lambda: system.committed("classify", "inbound") == {0: 1, 1: 1} and bool(classifier.inbox.blocked))
    time.sleep(1)
    classifier.until(lambda: bool(classifier.inbox.blocked))  # it was tried again meanwhile, and is not read past
    (why,) = classifier.ops.health.unready()["classify"]
    assert why.startswith(f"{topic} [0] cannot be read from offset 1 on (_BAD_COMPRESSION: ")
    assert classifier.ops.value("optout_trouble", part="classify", kind="unreadable") == 1
    assert why in {call.args[0] for call in classifier.logger.calls if call.method_name == "error"}
    assert system.committed("classify", "inbound") == {0: 1, 1: 1}
    classifier.die()
    roomy = Classifying(system, properties={"receive.message.max.bytes": 300_000_000})
    roomy.until(lambda: system.committed("classify", "inbound") == {0: 3, 1: 1})
    (kept,) = map(letter.read, system.messages("dead"))
    assert kept.whole is not None
    assert kept.whole.value == 150_000_000
    assert len(system.read("ledger")) == 3
    assert not roomy.inbox.blocked
    roomy.die()


def test_a_batch_in_the_ledger_that_cannot_be_unpacked_stops_its_bucket_alone(system: System) -> None:
    """The bucket stands in front of it, named with its place, and the others are applied and told."""
    produce(system, "ledger", line(system, HERE, PATIENT))
    bomb(system, system.topics["ledger"], 0)
    produce(system, "ledger", line(system, HERE, OTHER), line(system, THERE, OTHER))
    member = Applying(system)
    wait_for("the bucket stops", lambda: moved(member).ops.value("optout_buckets", state="stopped") == 1)
    wait_for("the other one goes on", lambda: bool(moved(member)) and system.metas("applied") == {0: 1, 1: 1})
    (said,) = (call for call in member.logger.calls if call.method_name == "error")
    assert said.args[0].startswith(f"{system.topics['ledger']} [0] cannot be read from offset 1 on (_BAD_COMPRESSION")
    expected = {(HERE, PATIENT, 1), (THERE, OTHER, 1)}
    wait_for("what is applied is told", lambda: member.publish() and told(system) == expected)
    member.die()


def configure(system: System, topic: str, name: str, value: str) -> None:
    """Change a topic's setting, as an operator would."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    system.admin.incremental_alter_configs([resource])[resource].result(10)
