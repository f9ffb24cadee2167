"""Ledger records under a registry's ids: only the bucket whose record cannot be read yet waits, in both loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip(
    "confluent_kafka.schema_registry", reason="the extra `registry` is not installed", exc_type=ImportError
)

from consumer import applier
from consumer.domain.events import KeywordRecord, SubscriptionChanged
from consumer.wire import framing, lookups, registry
from consumer.wire.codec import Codec
from consumer.wire.lookups import PATIENCE_SECONDS, Lookups
from consumer.wire.registry import RegistrySchemas
from consumer.wire.schemas import Schemas
from tests.parts.registry import FailingRegistry
from tests.parts.system import Applying, System, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.parts.kafka import Kafka

BUCKETS = 2
HERE, THERE = location_in(0, BUCKETS), location_in(1, BUCKETS)
PATIENT, OTHER = "+12025550143", "+12025550144"
RECORDS = {"ledger": "KeywordRecord", "changed": "SubscriptionChanged"}


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.make_topics(ledger=BUCKETS, changed=1)
        yield deployment


@pytest.fixture
def server(system: System) -> Iterator[FailingRegistry]:
    with FailingRegistry() as running:
        running.hold_ours({system.topics[role]: record for role, record in RECORDS.items()})
        yield running


def member(system: System, server: FailingRegistry, clients: list[Any], patience: float = PATIENCE_SECONDS) -> Applying:
    """An applier of a new process: it knows its own ids and has not read any record yet."""
    clients.append(registry.connect({"url": server.url, "max.retries": "0", "timeout": "2"}))
    topics = {record: system.topics[role] for role, record in RECORDS.items()}
    lookups = Lookups(RegistrySchemas(clients[-1], Schemas(), topics), patience=patience)
    system.codec = Codec(lookups)
    system.codec.prepare(KeywordRecord, SubscriptionChanged)
    return Applying(system, lookups=lookups)


def until(one: Applying, holds: Callable[[], object]) -> None:
    def turned() -> bool:
        one.apply()
        one.publish()
        return bool(holds())

    wait_for("what was to be applied and told", turned)


def test_only_the_bucket_that_needs_the_registry_waits(system: System, server: FailingRegistry) -> None:
    """With the registry away a bucket whose record's schema is not known waits, is named, and goes on by itself."""
    clients: list[Any] = []
    system.append((THERE, PATIENT, "STOP"))  # under an id of the files: what was begun without a registry
    first = member(system, server, clients)
    system.append((HERE, PATIENT, "STOP"))
    server.stop()
    until(first, lambda: system.metas("applied") == {0: 0, 1: 1} and system.messages("changed"))
    until(first, lambda: first.ops.health.unready().get("apply"))
    assert any(server.url in reason for reason in first.ops.health.unready()["apply"])
    assert first.ops.value("optout_trouble", part="apply", kind="registry") == 1
    assert system.members() == {(THERE, PATIENT)}
    server.start()

    def goes_on() -> bool:
        first.apply()
        return system.metas("applied") == {0: 1, 1: 1}

    wait_for("the bucket goes on", goes_on)
    assert "apply" not in first.ops.health.unready()
    first.die()  # before it has told what it applied last

    server.stop()
    system.codec = Codec(Schemas())
    system.append((THERE, OTHER, "STOP"))
    server.start()
    second = member(system, server, clients)
    server.stop()
    until(second, lambda: len(system.messages("changed")) == 2)
    assert any("registry" in reason for reason in second.ops.health.unready()["publish"])
    server.start()
    until(second, lambda: len(system.messages("changed")) == 3)
    assert not second.ops.health.unready()
    second.die()
    for client in clients:
        client.close()


def test_an_id_that_is_learnt_late_needs_no_restart(
    system: System, server: FailingRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that stopped at an id which nobody knew goes on by itself once the registry knows it."""
    monkeypatch.setattr(applier, "UNKNOWN_AGAIN", 0.2)
    clients: list[Any] = []
    writer = member(system, server, clients)
    system.append((HERE, PATIENT, "STOP"))
    (line,) = [message.value() for message in system.messages("ledger")]
    server.hidden.add(framing.schema_id_of(line or b""))
    writer.die()
    one = member(system, server, clients, patience=0.5)
    stopped = 'optout_bucket_stopped{bucket="0"}'
    until(one, lambda: stopped in one.ops.exposed())
    monkeypatch.setattr(lookups, "NO_SECONDS", 0.2)
    for _ in range(5):
        one.apply(3)
        assert stopped in one.ops.exposed()
    said = [event for event in one.said() if "stops at offset 0" in event]
    assert len(said) == 1
    assert "goes on by itself" in said[0]
    server.hidden.clear()
    until(one, lambda: system.metas("applied")[0] == 1)
    assert system.members() == {(HERE, PATIENT)}
    assert stopped not in one.ops.exposed()
    one.die()
    for client in clients:
        client.close()
