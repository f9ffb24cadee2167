"""Workers and commands of a deployment with a schema registry."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

pytest.importorskip(
    "confluent_kafka.schema_registry", reason="the extra `registry` is not installed", exc_type=ImportError
)

from confluent_kafka.schema_registry import Schema

from consumer.domain.events import InboundMessage
from consumer.wire.codec import Codec
from consumer.wire.registry import RegistrySchemas
from consumer.wire.schemas import Schemas
from tests.parts.kafka import Kafka
from tests.parts.ports import free_ports
from tests.parts.registry import FailingRegistry
from tests.parts.system import inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.parts.system import System

PATIENT = "+12025550143"


@pytest.fixture
def server() -> Iterator[FailingRegistry]:
    with FailingRegistry() as running:
        yield running


def readiness(port: int) -> dict[str, list[str]]:
    """Return what /readyz says is not well; nothing when all is."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            said = answer.read()
    except urllib.error.HTTPError as unready:
        said = unready.read()
    except OSError:
        return {"nobody": ["listens yet"]}
    parts: dict[str, list[str]] = json.loads(said)["parts"]
    return parts


def test_every_inbound_topic_has_a_subject(system: System, server: FailingRegistry) -> None:
    """`topics create` registers a schema for each inbound topic, new or not, and leaves upstream's own alone."""
    texts = system.topics["inbound"]
    names = [texts, f"{texts}.new", f"{texts}.upstreams"]
    Kafka(system.bootstrap).create_topic(names[2], 1, {})
    upstreams = server.store.register_schema(
        f"{names[2]}-value", Schema('{"type": "record", "name": "T", "fields": []}')
    )
    settings = {"OPTOUT_SCHEMA_REGISTRY_URL": server.url, "OPTOUT_INBOUND_TOPICS": ",".join(names)}
    for _ in range(2):
        done = system.run("topics", "create", **settings)
        assert done.returncode == 0, done.stderr
        ids = {name: server.store.get_latest_version(f"{name}-value").schema_id for name in names}
        assert ids[names[2]] == upstreams
        for name in names[:2]:
            assert '"InboundMessage"' in str(server.store.get_latest_version(f"{name}-value").schema.schema_str)
            assert server.store.get_versions(f"{name}-value") == [1]


def test_a_worker_starts_while_the_registry_is_away(system: System, server: FailingRegistry) -> None:
    """It waits, says why, takes nothing from those who know their schemas, and begins, or refuses, by itself."""
    settings = {"OPTOUT_SCHEMA_REGISTRY_URL": server.url}
    server.stop()
    early = system.start_worker(**settings)
    wait_for("it waits", lambda: any("waiting for the schema registry" in event for event in early.events()))
    server.start()
    assert early.process.wait(30) == 1
    assert any("run `optout topics create`" in event for event in early.events())

    done = system.run("topics", "create", **settings)
    assert done.returncode == 0, done.stderr
    topics = {"InboundMessage": system.topics["inbound"]}
    texts = Codec(RegistrySchemas(server.store, Schemas(), topics))

    def text(number: str) -> bytes:
        return texts.encode(InboundMessage(**inbound("loc-1", number, "STOP")))

    def in_force(number: str) -> bool:
        return ("loc-1", number) in system.members()

    old = system.start_worker(**settings)
    system.send([], raw=[text(PATIENT)])
    wait_for("the STOP is in force", lambda: in_force(PATIENT))

    server.stop()
    (port,) = free_ports(1)
    new = system.start_worker(OPTOUT_OPS_LISTEN=str(port), **settings)
    wait_for("the registry is named", lambda: server.url in str(readiness(port)))
    wait_for("both stages say that they wait", lambda: {"apply", "classify"} <= readiness(port).keys())
    system.send([], raw=[text("+12025550144")])
    wait_for("the old worker goes on", lambda: in_force("+12025550144"))
    time.sleep(2.0)
    assert new.process.poll() is None
    old.kill()
    server.start()
    system.send([], raw=[text("+12025550145")])
    wait_for("the new worker takes over", lambda: in_force("+12025550145"), 60)
    wait_for("it is ready", lambda: not readiness(port), 60)
    assert new.stop() == 0
