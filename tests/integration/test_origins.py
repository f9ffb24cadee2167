"""`optout verify --origins` on a real ledger: what a classifier made of a text is told from what somebody forged."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import TopicPartition
from fastavro import schemaless_writer

from consumer.domain.buckets import bucket_of
from consumer.domain.events import InboundMessage, KeywordRecord
from consumer.domain.keywords import Keywords
from consumer.intake import Intake, Topics
from consumer.wire.codec import Codec
from consumer.wire.framing import header
from consumer.wire.records import to_datum
from consumer.wire.registry import RegistrySchemas, connect
from consumer.wire.schemas import Schemas
from tests.integration.test_verify import apply, vouch
from tests.parts.kafka import Kafka
from tests.parts.system import Applying, System, inbound, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKETS = 2
HERE, THERE = location_in(0, BUCKETS), location_in(1, BUCKETS)
PATIENT, OTHER, THIRD = "+12025550143", "+12025550144", "+12025550145"
TALK = 0
"""The offset of a text that is no keyword."""


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """Texts, and what a classifier made of them: two opt-ins among them, both applied and told."""
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.make_topics(ledger=BUCKETS, changed=1, requests=1)
        Kafka(kafka.bootstrap).create_topic(
            deployment.topics["inbound"], 1, {"message.timestamp.type": "LogAppendTime"}
        )
        deployment.send([inbound(HERE, PATIENT, "see you at 5")])
        deployment.send([inbound(location, PATIENT, word) for location in (HERE, THERE) for word in ("STOP", "START")])
        deployment.send([inbound(HERE, "202-555-0144", "stop"), inbound(HERE, "(202) 555-0144", " yes ")])
        classify(deployment)
        settle(deployment)
        yield deployment


def settle(system: System) -> None:
    """Have all that is in the ledger applied, told and vouched for."""
    member = Applying(system)
    apply(system, member)
    wait_for("told", lambda: member.publish() and not any(system.metas("outbox").values()))
    member.die()
    vouch(system)


def classify(system: System, since: int = 0) -> None:
    """Do what a classifier does with all of inbound, or with what stands there from an offset on."""
    names = {role: system.topics[role] for role in ("ledger", "reviews", "requests")}
    topics = Topics(dead_letters=system.topics["dead"], **names)
    intake = Intake(codec=system.codec, keywords=Keywords(), topics=topics, buckets=BUCKETS, region="US")
    for message in system.messages("inbound")[since:]:
        for outgoing in intake.records(message):
            assert outgoing.topic == names["ledger"]
            assert outgoing.value is not None
            system.write("ledger", (outgoing.partition, outgoing.value))


def forge(system: System, location: str, number: str, later: int = 0, **origin: Any) -> None:
    """Write an opt-in that claims this origin, dated now or so many milliseconds later."""
    at = time.time_ns() // 1_000_000 + later
    record = system.codec.decode(KeywordRecord, system.line(location, number, "START", at))
    forged = replace(record, origin=replace(record.origin, **origin))
    system.write("ledger", (bucket_of(location, BUCKETS), system.codec.encode(forged)))


def said(system: System, code: int) -> list[str]:
    """Return the lines of the command, after holding its exit code against what is expected."""
    done = system.run("verify", "--origins")
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout.splitlines()


def test_what_a_classifier_wrote_is_sound(system: System) -> None:
    """An opt-in that its text leads to again is as the text says, however its number is written there."""
    assert said(system, 0) == [
        "3 opt-ins held against their texts: 3 as the text says",
        "2 buckets compared: Redis holds what the ledger says",
    ]


def test_a_record_for_another_spelling_is_sound(system: System) -> None:
    """Where a number has two spellings, both opt-ins of one text are as that text says."""
    since = len(system.messages("inbound"))
    system.send([inbound(HERE, number, "START") for number in ("+5215512345678", "+556199998888", "+541123456789")])
    classify(system, since)
    settle(system)
    assert said(system, 0)[0] == "9 opt-ins held against their texts: 9 as the text says"


def test_texts_of_a_schema_of_upstreams_are_classified_again(system: System) -> None:
    """Where upstream has registered a schema of its own for its texts, an opt-in by it is as its text says."""
    registry = pytest.importorskip(
        "tests.parts.registry", reason="the extra `registry` is not installed", exc_type=ImportError
    )
    with registry.FailingRegistry() as server:
        theirs = json.loads(Schemas().text("InboundMessage"))
        theirs["fields"].append({"name": "campaign", "type": "string", "default": ""})
        subject = f"{system.topics['inbound']}-value"
        schema_id = server.store.register_schema(subject, registry.Schema(json.dumps(theirs)))
        server.hold_ours({system.topics["ledger"]: "KeywordRecord"})
        text = BytesIO()
        text.write(header(schema_id))
        schemaless_writer(text, theirs, to_datum(InboundMessage(**inbound(THERE, THIRD, "START"))))
        since = len(system.messages("inbound"))
        system.write("inbound", (0, text.getvalue()))
        with connect({"url": server.url}) as client:
            system.codec = Codec(RegistrySchemas(client, Schemas(), {"KeywordRecord": system.topics["ledger"]}))
            classify(system, since)
            settle(system)
        done = system.run("verify", "--origins", OPTOUT_SCHEMA_REGISTRY_URL=server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("4 opt-ins held against their texts: 4 as the text says")


def test_what_somebody_forged_is_named(system: System) -> None:
    """An opt-in without a text, or with another one, is named by its place, and no number is told in full."""
    start = 2  # PATIENT's at HERE
    forge(system, HERE, PATIENT, offset=999)
    forge(system, HERE, PATIENT, partition=7)
    forge(system, HERE, PATIENT, offset=-1)
    forge(system, HERE, PATIENT, topic="nowhere")
    forge(system, HERE, PATIENT, topic=system.topics["ledger"])
    forge(system, HERE, PATIENT, offset=TALK)
    forge(system, HERE, PATIENT, offset=start - 1)
    forge(system, HERE, PATIENT, offset=start)
    forge(system, HERE, THIRD, offset=start)
    forge(system, THERE, PATIENT, offset=start)
    settle(system)
    lines = said(system, 1)
    assert lines[-2:] == [
        "13 opt-ins held against their texts: 3 as the text says, 10 not",
        "2 buckets compared: 10 x opt-in without a text",
    ]
    topic = system.topics["inbound"]
    for what in (
        f"names {topic} [0] 999, where there is no text: no classifier wrote it",
        f"names {topic} [7] 0, where there is no text",
        f"names {topic} [0] -1, where there is no text",
        "names nowhere [0] 0, where there is no text",
        f"names {system.topics['ledger']} [0] 0, where there is no text",
        f"names {topic} [0] {TALK}, where the text is no opt-in",
        f"names {topic} [0] {start - 1}, where the text is no opt-in",
        f"names {topic} [0] {start}, where the text has another time",
        f"names {topic} [0] {start}, where the text has another number, another time",
        f"names {topic} [0] {start}, where the text has another location, another time",
    ):
        assert any(what in line for line in lines), what
    assert f"[0] opt-in without a text {HERE} …0143: the one at offset" in lines[0]
    assert not any(number[1:] in line for number in (PATIENT, OTHER, THIRD) for line in lines)


def test_a_text_that_is_gone_proves_nothing(system: System) -> None:
    """An opt-in whose text was deleted is counted apart; a forged one cannot hide behind that where it is later."""
    place = TopicPartition(system.topics["inbound"], 0, 5)
    system.admin.delete_records([place])[place].result(10)
    assert said(system, 0)[0] == (
        "3 opt-ins held against their texts: 1 as the text says, 2 whose text is gone, of which nothing can be said"
    )
    forge(system, HERE, PATIENT, later=2 * 60 * 60 * 1000, offset=3)
    settle(system)
    assert said(system, 1)[-2].startswith("4 opt-ins held against their texts: 1 as the text says, 1 not, 2 whose text")


def test_a_topic_that_was_made_anew_proves_nothing(system: System) -> None:
    """What stands now at the place of a text that was in a topic deleted since is no text of that opt-in."""
    system.make_anew("inbound")
    time.sleep(0.1)
    system.send([inbound(HERE, THIRD, "START")] * 4)
    assert said(system, 0)[0] == (
        "3 opt-ins held against their texts: 0 as the text says, 3 whose text is gone, of which nothing can be said"
    )
    forge(system, HERE, PATIENT, offset=2)
    settle(system)
    assert "3 whose text is gone" in said(system, 1)[-2]
