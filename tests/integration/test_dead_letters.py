"""Records that cannot be read or attributed, on a real Kafka: kept as they came, limited, sent back without harm."""

from __future__ import annotations

import ctypes
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType  # type: ignore[attr-defined]

from consumer import letter
from consumer.classifier import TooManyDeadLetters
from consumer.domain.bad_records import BadRecords
from consumer.embedded.kafka_mock import library_path
from tests.parts import oracle
from tests.parts.kafka import Kafka
from tests.parts.system import Classifying, System, inbound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from confluent_kafka import Message

NOWHERE = "redis://127.0.0.1:1/0"
PATIENT = "+12025550143"
BRITISH = "07700 900123"
BRITAIN = "+447700900123"
"""A number that is one with OPTOUT_REGION=GB, and none with US."""
GARBAGE = b"\xffno record"
BROKERS_LIMIT = 1_048_588
"""The broker's own max.message.bytes."""


@pytest.fixture
def system(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """Topics of its own, inbound with the producer's time, and no worker."""
    with System(kafka.bootstrap, NOWHERE, topic_prefix, tmp_path, buckets=2) as deployment:
        deployment.make_topics(inbound=1, requests=1, ledger=2, reviews=1)
        kafka.create_topic(deployment.topics["dead"], 2, {"max.message.bytes": "2097152"})
        yield deployment


def now() -> int:
    return time.time_ns() // 1_000_000


def produce(system: System, *records: dict[str, Any], role: str = "inbound") -> None:
    """Write records as some other client would: key, value, headers, timestamp, and whatever else there is."""
    producer = Producer({"bootstrap.servers": system.bootstrap, "message.max.bytes": 16_000_000})
    for record in records:
        producer.produce(system.topics[role], **record)
    assert producer.flush(30) == 0


def read_all(system: System, classifier: Classifying) -> None:
    classifier.until(lambda: system.committed("classify", "inbound") == system.ends("inbound"))


def letters(system: System) -> list[Message]:
    """Return the dead letters in the order of the records that they were."""
    return sorted(system.messages("dead"), key=lambda message: int(header(message, "__connect.errors.offset")))


def header(message: Message, name: str) -> str:
    (*_, value) = (value for key, value in letter.headers_of(message) if key == name)
    assert isinstance(value, bytes)
    return value.decode()


def test_a_letter_is_the_record_as_it_came(system: System) -> None:
    """Bytes, key, headers and timestamp are the record's own, whatever they are, and the reason stands behind them."""
    at = now() - 60_000
    text = system.text(inbound("", PATIENT, "STOP"))
    odd: list[dict[str, Any]] = [
        {"value": GARBAGE, "key": b"k", "headers": [("trace", b"1")], "timestamp": at},
        {"value": None, "key": b"deleted", "timestamp": at},
        {"value": b"", "key": None, "timestamp": at},
        {"value": GARBAGE, "key": b"\xff\xfe\x00not text", "timestamp": at},
        {"value": GARBAGE, "headers": [("a", b"1"), ("b", None), ("a", b"2"), ("", b""), ("a", b"1")], "timestamp": at},
        {"value": GARBAGE, "headers": [("\u00fcber", b"\xff"), ("__connect.errors.topic", b"theirs")], "timestamp": at},
        {"value": b"\xff" + os.urandom(900_000), "key": os.urandom(1000), "timestamp": at},
        {"value": text, "key": b"k", "headers": [("x", None)], "timestamp": at},
    ]
    produce(system, *odd)
    came = system.messages("inbound")
    classifier = Classifying(system)
    read_all(system, classifier)
    kept = letters(system)
    assert len(kept) == len(came) == len(odd)
    for before, after in zip(came, kept, strict=True):
        assert (after.key(), after.value(), after.timestamp()) == (before.key(), before.value(), before.timestamp())
        theirs, ours = letter.opened(letter.headers_of(after))
        assert theirs == letter.headers_of(before)
        said = {key: value for key, value in ours if key != letter.RECORDED_HEADER}
        assert said == {
            "optout.first-kafka-timestamp": str(at).encode(),
            "optout.reason": header(after, "optout.reason").encode(),
            "__connect.errors.topic": system.topics["inbound"].encode(),
            "__connect.errors.partition": b"0",
            "__connect.errors.offset": str(before.offset()).encode(),
            "__connect.errors.stage": header(after, "__connect.errors.stage").encode(),
            "__connect.errors.exception.class.name": header(after, "__connect.errors.exception.class.name").encode(),
        }
        assert len(ours) == len(said) + 1
    assert [header(message, "optout.reason") for message in kept] == [
        *("not-framed", "no-value", "not-framed", "not-framed", "not-framed", "not-framed"),
        header(kept[6], "optout.reason"),  # as the random bytes have it
        "unattributable-opt-out",
    ]
    assert header(kept[0], "__connect.errors.stage") == "VALUE_CONVERTER"
    assert header(kept[7], "__connect.errors.stage") == "TRANSFORMATION"
    classifier.die()


def test_a_letter_outlives_a_date_that_would_delete_it(system: System) -> None:
    """A record of long ago, or of the future, is dated now: brokers delete by date; a header has its own."""
    Kafka(system.bootstrap).create_topic(
        system.topics["inbound"] + ".wild", 1, {"message.timestamp.after.max.ms": str(2**62)}
    )
    system.topics["inbound"] += ".wild"
    dates = [1, 1_000_000_000_000, now() + 100 * 24 * 3600 * 1000]
    produce(system, *({"value": GARBAGE, "timestamp": date} for date in dates))
    began = now()
    classifier = Classifying(system)
    read_all(system, classifier)
    kept = letters(system)
    assert [int(header(message, "optout.first-kafka-timestamp")) for message in kept] == dates
    assert all(began - 1000 <= message.timestamp()[1] <= now() + 1000 for message in kept)
    classifier.die()


def configure(system: System, topic: str, name: str, value: str) -> None:
    """Change a topic's setting, as an operator would."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    system.admin.incremental_alter_configs([resource])[resource].result(10)


def test_a_run_of_unreadable_records_stops_in_words(system: System) -> None:
    """At the limit the classifier ends; letters up to there are committed, what lies behind is for the next one."""
    stop = {"value": system.text(inbound("loc-1", PATIENT, "STOP"))}
    lost = {"value": system.text(inbound("", PATIENT, "STOP"))}
    bad = {"value": GARBAGE}
    produce(system, bad, bad, stop, *[bad] * 2, lost, *[bad] * 3, stop, bad)
    classifier = Classifying(system, limits=BadRecords(in_a_row=3))
    with pytest.raises(
        TooManyDeadLetters,
        match=r"inbound \[0\] stops behind offset 8: 3 records in a row cannot be read \(not-framed 3\), as OPTOUT_",
    ):
        classifier.until(lambda: False)
    classifier.die()
    assert system.committed("classify", "inbound") == {0: 9}
    assert len(letters(system)) == 8
    said = [call for call in classifier.logger.calls if call.method_name == "error"]
    assert [(call.args[0], call.kwargs.get("where")) for call in said] == [
        ("records that cannot be read go to the dead-letter topic: look at them now", None),
        (
            "opt-outs that nobody can be named for are not in force: find out whose they are",
            [f"{system.topics['inbound']} [0] 5"],
        ),
    ]
    heir = Classifying(system, limits=BadRecords(in_a_row=3))
    read_all(system, heir)
    assert (len(letters(system)), len(system.read("ledger"))) == (9, 2)
    heir.die()


def test_a_replay_counts_from_the_first_time(system: System) -> None:
    """A replayed STOP older than a START changes nothing, one that is newer holds, and a second replay changes nothing.

    By the broker's time and by the producer's.
    """
    for kind in ("CreateTime", "LogAppendTime"):
        configure(system, system.topics["inbound"], "message.timestamp.type", kind)
        sent = now()
        texts = [
            (f"older {kind}", "STOP", sent - 9000),
            (f"newer {kind}", "STOP", sent + 60_000),  # the provider's clock is ahead: Kafka's time decides
            (f"newer {kind}", "START", sent - 9000),
        ]
        produce(system, *({"value": system.text(inbound(to, BRITISH, word, received_at=at))} for to, word, at in texts))
        abroad = Classifying(system)
        read_all(system, abroad)
        abroad.die()
        time.sleep(0.1)
        produce(system, {"value": system.text(inbound(f"older {kind}", BRITISH, "START"))})
        home = Classifying(system, region="GB")
        read_all(system, home)
        for _ in range(2):
            done = system.run("dead-letters", "replay", "--all", "--yes")
            assert (done.returncode, done.stderr) == (0, "")
            read_all(system, home)
        home.die()
    changes = oracle.changes_of(system.read("ledger"))
    assert oracle.members_of(changes) == {(f"newer {kind}", BRITAIN) for kind in ("CreateTime", "LogAppendTime")}
    assert not {change.location for change in changes if "older" in change.location}


def test_what_comes_back_takes_its_letters_place(system: System) -> None:
    """Of a letter that is replayed and comes back the next `--all` replays the last one, and not each."""
    produce(system, {"value": GARBAGE, "key": b"k", "headers": [("trace", b"1")]})
    classifier = Classifying(system)
    for replays in range(1, 4):
        read_all(system, classifier)
        assert system.run("dead-letters", "replay", "--all", "--yes").stdout == "1 of 1 replayed\n"
        read_all(system, classifier)
        kept = letters(system)
        assert len(kept) == replays + 1
    assert {(message.key(), message.value()) for message in kept} == {(b"k", GARBAGE)}
    assert [letter.opened(letter.headers_of(message))[0] for message in kept] == [[("trace", b"1")]] * 4
    assert len({header(message, "optout.first-kafka-timestamp") for message in kept}) == 1
    assert "3 that came back after a replay" in system.run("dead-letters", "list").stdout
    classifier.die()


def test_a_header_that_the_client_cannot_give(system: System) -> None:
    """A STOP counts and a letter is kept although a header's name is not UTF-8; the letter says what it lacks."""
    stop = system.text(inbound("loc-1", PATIENT, "STOP"))
    produce_with_a_bad_header(system, *[GARBAGE, stop] * 40)  # the interpreter calls otherwise what it calls often
    classifier = Classifying(system)
    read_all(system, classifier)
    assert [written.record["keyword"] for written in system.read("ledger")] == ["STOP"] * 40
    kept = letters(system)
    assert [message.value() for message in kept] == [GARBAGE] * 40
    assert [letter.opened(letter.headers_of(message))[0] for message in kept] == [[letter.LOST_HEADERS]] * 40
    classifier.die()


def produce_with_a_bad_header(system: System, *values: bytes) -> None:
    """Write records with a header that Python's client can neither write nor read: other languages' do."""
    library = ctypes.CDLL(str(library_path()))
    for function in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(library, function).restype = ctypes.c_void_p
    conf, why = ctypes.c_void_p(library.rd_kafka_conf_new()), ctypes.create_string_buffer(512)
    library.rd_kafka_conf_set(conf, b"bootstrap.servers", system.bootstrap.encode(), why, 512)
    producer = ctypes.c_void_p(library.rd_kafka_new(0, conf, why, 512))
    end, topic, value, headers = 0, 1, 4, 10  # rd_kafka_vtype_t
    for each in values:
        bad = ctypes.c_void_p(library.rd_kafka_headers_new(1))
        library.rd_kafka_header_add(bad, b"\xff\xfe", 2, b"v", 1)
        name, size = ctypes.c_char_p(system.topics["inbound"].encode()), ctypes.c_size_t(len(each))
        assert (
            library.rd_kafka_producev(producer, topic, name, value, ctypes.c_char_p(each), size, headers, bad, end) == 0
        )
    assert library.rd_kafka_flush(producer, 10_000) == 0
    library.rd_kafka_destroy(producer)


def test_a_topic_that_takes_less_than_is_made_for_it_is_said(system: System) -> None:
    """check-config says of each topic along the path that it is narrower than what is made for it, and what to set."""
    inbound_, dead, ledger = (system.topics[role] for role in ("inbound", "dead", "ledger"))
    Kafka(system.bootstrap).create_topic(system.topics["changed"], 1, {"max.message.bytes": "30000"})
    narrow = [
        f"{ledger} takes records of {BROKERS_LIMIT} bytes, and {system.topics['changed']} of 30000: set max.message",
        f"{system.topics['changed']} takes records of 30000 bytes, and the largest that workers write has 32768: set",
    ]
    assert _sizes(system, narrow) == 2
    configure(system, inbound_, "max.message.bytes", "4000000")
    narrow += [
        f"{inbound_} takes records of 4000000 bytes, and {dead} would not take each of them with our headers: set max",
        f"set max.message.bytes={4_000_000 + 4096} there",
        f"{inbound_} takes records of 4000000 bytes, and {ledger} of {BROKERS_LIMIT}: set max.message.bytes=4000000",
        f"{inbound_} takes records of 4000000 bytes, and {system.topics['reviews']} of {BROKERS_LIMIT}: set",
    ]
    assert _sizes(system, narrow) == 5
    configure(system, inbound_, "max.message.bytes", "200000000")
    assert "OPTOUT_KAFKA_RECEIVE_MESSAGE_MAX_BYTES=201048576" in system.run("check-config").stderr


def _sizes(system: System, expected: list[str]) -> int:
    """Return how many sentences there are on sizes; fail where one of these is missing."""
    said = [line for line in system.run("check-config").stderr.splitlines() if "max.message.bytes" in line]
    assert [each for each in expected if not any(each in line for line in said)] == []
    return len(said)
