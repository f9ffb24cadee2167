"""`optout history` and its reader, on a real ledger."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, Producer, TopicPartition

from consumer.domain.buckets import bucket_of
from consumer.domain.events import OptOutRequested, Source
from consumer.embedded.kafka_mock import MockKafka
from consumer.kafka.errors import KafkaGone
from consumer.kafka.inbox import Partition
from consumer.kafka.reader import OpenTransaction, Reader
from tests.parts.system import System, inbound, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.kafka import Kafka

PATIENT = "+12025550143"
FETCH, LIST_OFFSETS = 1, 2
"""The protocol's numbers of the requests for records, and for a partition's ends."""


@pytest.fixture
def ledger(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """All topics, and no worker."""
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path) as system:
        system.create_topics()
        yield system


def history(system: System, *arguments: str) -> list[dict[str, Any]]:
    done = system.run("history", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_tells_what_each_keyword_did(ledger: System) -> None:
    """Every keyword of this patient at this location stands there, with what it did and the id of its event."""
    ledger.start_worker()
    other = location_in(bucket_of("loc-1", 8), 8, number=1)  # in the same partition
    now = time.time_ns() // 1_000_000 - 10
    bodies = ("STOP", " quit ", "Start", "hello")
    said = [inbound("loc-1", PATIENT, body, received_at=now + number) for number, body in enumerate(bodies)]
    late = inbound("loc-1", PATIENT, "end", received_at=now - 60_000)
    ledger.send([*said, late, inbound(other, PATIENT, "STOP"), inbound("loc-1", "+12025550144", "STOP")])
    wait_for("settled", ledger.settled)
    steps = history(ledger, "loc-1", "(202) 555-0143")
    assert [(step["keyword"], step["decision"], step["version"]) for step in steps] == [
        ("STOP", "CHANGED", 1),
        ("QUIT", "UNCHANGED", 1),
        ("START", "CHANGED", 2),
        ("END", "STALE", 2),
    ]
    assert [step["raw_body"] for step in steps] == ["STOP", " quit ", "Start", "end"]
    told = [
        change.record["event_id"]
        for change in ledger.read("changed")
        if (change.record["location_id"], change.record["patient_number"]) == ("loc-1", PATIENT)
    ]
    assert [step["event_id"] for step in steps if step["event_id"]] == told
    words = ledger.run("history", "loc-1", PATIENT).stdout.splitlines()
    assert words[0].startswith(f"{PATIENT} at loc-1: opted in since ")
    assert "nothing: it is not newer" in words[-1]


def test_somebody_who_never_said_anything(ledger: System) -> None:
    """A patient of whom the ledger knows nothing is opted in, and that is said."""
    done = ledger.run("history", "loc-1", PATIENT)
    assert done.returncode == 0
    assert done.stdout == f"{PATIENT} at loc-1: no keyword was ever recorded, so the patient is opted in\n"
    assert history(ledger, "loc-1", PATIENT) == []


def test_another_number_of_buckets_is_refused(ledger: System) -> None:
    """With another number of buckets than the ledger has partitions, nothing is looked for in the wrong place."""
    done = ledger.run("history", "loc-1", PATIENT, OPTOUT_BUCKETS="16")
    assert (done.returncode, done.stdout) == (1, "")
    assert "they must be the same" in done.stderr


def test_a_ledger_whose_beginning_is_gone(ledger: System) -> None:
    """Where the first records were deleted, no history is told that could lack a STOP."""
    ledger.append(("loc-1", PATIENT, "STOP"))
    place = TopicPartition(ledger.topics["ledger"], bucket_of("loc-1", 8), 1)
    ledger.admin.delete_records([place])[place].result(10)
    done = ledger.run("history", "loc-1", PATIENT)
    assert (done.returncode, done.stdout) == (1, "")
    assert "begins at offset 1" in done.stderr


def test_a_record_that_cannot_be_read(ledger: System) -> None:
    """A record that cannot be read, whoever's it is, ends the history: what is behind it is not in force."""
    ledger.append(("loc-1", PATIENT, "STOP"))
    ledger.write("ledger", (bucket_of("loc-1", 8), b"nonsense"))
    ledger.append(("loc-1", PATIENT, "START"), ("loc-1", "+12025550144", "STOP"))
    done = ledger.run("history", "loc-1", PATIENT)
    assert done.returncode == 1
    assert "at loc-1: opted out since" in done.stdout
    assert "START" not in done.stdout
    assert "it cannot be read" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = ledger.run("history", "loc-1", "+12025550144")
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert "so the patient is opted in" not in done.stdout


def test_what_others_asked_for(ledger: System) -> None:
    """An import's and a provider's opt-out stand there as theirs, whatever word and date came with them."""
    ledger.start_worker()
    never = -62_135_596_800_001  # a millisecond before the year 1
    odd = "STOP\n2026 forged\x1b[31m and a long text about somebody"
    requests = [("IMPORT", never, odd), ("PROVIDER_BLOCK", 1_500_000_000_000, None)]
    for number, (source, at, word) in enumerate(requests):
        request = OptOutRequested(
            request_id="r",
            location_id="loc-1",
            patient_number=f"+1202555014{number}",
            source=Source(source),  # type: ignore[arg-type]
            occurred_at=at,
            keyword=word,
        )
        ledger.write("requests", (0, ledger.codec.encode(request)))
    wait_for("settled", lambda: sum(ledger.ends("ledger").values()) == 2)
    imported = ledger.run("history", "loc-1", "+12025550140")
    assert imported.returncode == 0
    assert imported.stdout.splitlines()[-1].startswith(f"{never} ms since 1970")
    assert "an import" in imported.stdout
    assert "forged\x1b" not in imported.stdout
    assert len(imported.stdout.splitlines()) == 5
    blocked = ledger.run("history", "loc-1", "+12025550141").stdout.splitlines()
    assert blocked[0] == "+12025550141 at loc-1: opted out since 2017-07-14 02:40:00.000 UTC, by (none given)"
    assert blocked[-1].startswith("2017-07-14 02:40:00.000 UTC (none given)  the provider  opted out (version 1)")


def test_since_is_when_it_changed(ledger: System) -> None:
    """A second STOP changes nothing: the patient is opted out since the first. Numbers are those of the country set."""
    now = time.time_ns() // 1_000_000
    bucket = bucket_of("loc-1", 8)
    for at in (now - 86_400_000, now):
        ledger.write("ledger", (bucket, ledger.line("loc-1", "+442071838750", "STOP", at)))
    first, *_ = ledger.run("history", "loc-1", "020 7183 8750", OPTOUT_REGION="GB").stdout.splitlines()
    yesterday = datetime.fromtimestamp((now - 86_400_000) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    assert first.startswith(f"+442071838750 at loc-1: opted out since {yesterday}")


def test_the_reader_goes_on_where_it_was(ledger: System) -> None:
    """Each read gives what has come since the last one, past the control records of transactions, and ends in words."""
    topic = ledger.topics["changed"]
    producer = Producer({"bootstrap.servers": ledger.bootstrap, "transactional.id": f"{ledger.prefix}writer"})
    producer.init_transactions(10)
    places = [Partition(topic, number) for number in range(8)]
    with Reader({"bootstrap.servers": ledger.bootstrap}, places, patience=3.0) as reader:
        assert list(reader.read()) == []
        for number in range(3):
            producer.begin_transaction()
            producer.produce(topic, b"committed", partition=number)
            producer.commit_transaction(10)
            producer.begin_transaction()
            producer.produce(topic, b"aborted", partition=number)
            producer.flush(10)
            producer.abort_transaction(10)
        found: list[bytes | None] = []

        def all_three() -> bool:
            found.extend(message.value() for message in reader.read())
            return len(found) == 3

        wait_for("all three are read", all_three)
        assert found == [b"committed"] * 3
        producer.begin_transaction()
        producer.produce(topic, b"open", partition=0)
        assert producer.flush(10) == 0
        ledger.write("changed", (1, b"elsewhere"), (0, b"behind it"))
        found.clear()
        with pytest.raises(OpenTransaction, match=r"changed \[0\] has an open transaction: nothing from offset 4 on"):
            found.extend(message.value() for message in reader.read())
        assert found == [b"elsewhere"]
        producer.abort_transaction(10)
        assert [message.value() for message in reader.read()] == [b"behind it"]


def test_settings_that_the_client_refuses() -> None:
    """A property with a value that a consumer cannot have is named in a sentence."""
    with pytest.raises(KafkaGone, match="refuses what OPTOUT_KAFKA_"):
        Reader({"bootstrap.servers": "127.0.0.1:1", "max.poll.interval.ms": "1"}, [])


def test_a_partition_that_stops_answering() -> None:
    """A reader that knows an end and is given nothing says so when its patience is over."""
    with MockKafka() as kafka:
        kafka.create_topic("t", 1)
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        producer.produce("t", b"x", partition=0)
        assert producer.flush(10) == 0
        config = {"bootstrap.servers": kafka.bootstrap, "log_level": 0}
        with Reader(config, [Partition("t", 0)], patience=1.0) as reader:
            kafka.push_request_errors(FETCH, [KafkaError.NOT_LEADER_FOR_PARTITION] * 1000)
            with pytest.raises(KafkaGone, match="Kafka went silent"):
                list(reader.read())


def test_a_leader_that_is_new() -> None:
    """A broker that says that it does not lead a partition, not yet or no more, is asked again while patience lasts."""
    with MockKafka() as kafka:
        kafka.create_topic("t", 1)
        config = {"bootstrap.servers": kafka.bootstrap, "log_level": 0}
        with Reader(config, [Partition("t", 0)], patience=10.0) as reader:
            kafka.push_request_errors(LIST_OFFSETS, [KafkaError.NOT_LEADER_FOR_PARTITION] * 4)
            assert list(reader.read()) == []


def test_a_kafka_that_goes_silent(ledger: System) -> None:
    """A reader that is told nothing says so instead of waiting for ever."""
    reader = Reader({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, [Partition("nowhere", 0)], patience=0.5)
    with reader, pytest.raises(KafkaGone, match="nowhere cannot be read"):
        list(reader.read())
