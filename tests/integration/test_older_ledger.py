"""A ledger that the version before wrote, and what this one believes of it."""

from __future__ import annotations

import base64
import gzip
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined] # public all the same
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tests.parts.system import Applying, System, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.parts.kafka import Kafka

BUCKETS = 2
HERE, THERE = location_in(0, BUCKETS), location_in(1, BUCKETS)
PATIENT = "+12025550190"
DAY_MS = 24 * 60 * 60 * 1000
WRITTEN = Path(__file__).with_name("ledger_of_0_1_0.json.gz")
"""Records, as the classifier of 0.1.0 made them of texts, and the states to which its rules led."""


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.make_topics(ledger=BUCKETS, changed=1)
        alter(deployment, **{"max.message.bytes": "2097152"})
        yield deployment


def alter(system: System, **settings: str) -> None:
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, system.topics["ledger"], incremental_configs=entries)
    system.admin.incremental_alter_configs([resource])[resource].result(10)


def write(system: System, records: list[dict[str, Any]]) -> None:
    producer = Producer({"bootstrap.servers": system.bootstrap, "message.max.bytes": 2_000_000})
    for record in records:
        value = base64.b64decode(record["value"])
        producer.produce(system.topics["ledger"], value, partition=record["partition"], timestamp=record["timestamp"])
    assert producer.flush(30) == 0


def states(system: System) -> dict[str, dict[str, str]]:
    with system.redis() as client:
        found = {
            key.decode().split(":state:", 1)[1]: client.hgetall(key) for key in client.scan_iter("optout:*:state:*")
        }
    return {
        location: {digits.decode(): kept.decode() for digits, kept in fields.items() if digits != b"epoch"}
        for location, fields in found.items()
    }


def test_it_goes_on(system: System) -> None:
    """What 0.1.0 wrote leads to the same sets and versions, and only what is written from now on is held to its time.

    Among it: an id of a megabyte, +10000000000, a text that was taken for a number, an opt-out dated 2058, an opt-in
    that the record's own clock puts before its text, a keyword with separators of ours.
    """
    before = json.loads(gzip.decompress(WRITTEN.read_bytes()))
    write(system, before["records"])
    member = Applying(system)

    def applied() -> bool:
        member.apply()
        return system.metas("applied") == system.ends("ledger")

    wait_for("it is applied", applied)
    assert states(system) == before["states"]
    expected = {
        (location, f"+{digits}")
        for location, kept in before["states"].items()
        for digits, state in kept.items()
        if state.startswith("O")
    }
    assert system.members() == expected

    alter(system, **{"message.timestamp.type": "LogAppendTime"})
    system.flush_redis()
    system.append((HERE, PATIENT, "STOP"), (THERE, PATIENT, "STOP"))
    wait_for("it is replayed, and goes on", applied)
    assert system.members() == expected | {(HERE, PATIENT), (THERE, PATIENT)}

    now = time.time_ns() // 1_000_000
    system.write("ledger", (0, system.line(HERE, PATIENT, "START", now + DAY_MS)))

    def stopped() -> list[str]:
        member.apply()
        return [event for event in member.said() if "an opt-in of a later time than it was written at" in event]

    wait_for("the bucket stops", stopped)
    assert f"{system.topics['ledger']} [0] stops at offset" in stopped()[0]
    assert system.members() == expected | {(HERE, PATIENT), (THERE, PATIENT)}
    member.die()
