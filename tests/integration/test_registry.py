"""Texts under a registry's ids on a real Kafka: what cannot be read yet waits alone, and nothing is passed over."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip(
    "confluent_kafka.schema_registry", reason="the extra `registry` is not installed", exc_type=ImportError
)

from confluent_kafka.schema_registry import Schema

from consumer.classifier import TooManyDeadLetters
from consumer.domain.bad_records import BadRecords
from consumer.domain.events import InboundMessage, KeywordRecord
from consumer.letter import as_bytes
from consumer.wire import lookups, registry
from consumer.wire.codec import Codec
from consumer.wire.framing import header, schema_id_of
from consumer.wire.lookups import Lookups
from consumer.wire.registry import RegistrySchemas
from consumer.wire.schemas import Schemas
from tests.parts.registry import FailingRegistry, after
from tests.parts.system import Classifying, System, inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.parts.kafka import Kafka

BUCKETS = 4
PATIENT = "+12025550143"
NOWHERE = "redis://127.0.0.1:1/0"
"""A classifier knows nothing of Redis."""
PATIENCE = 1.0
RANDOM_IDS = int(os.environ.get("OPTOUT_TEST_RANDOM_IDS", "1000"))
"""How many texts come in under ids out of the air."""
STORM_SECONDS = 30 + RANDOM_IDS / 150


@pytest.fixture
def system(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """What a classifier reads and writes, with four partitions of inbound."""
    with System(kafka.bootstrap, NOWHERE, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.make_topics(inbound=4, ledger=BUCKETS, reviews=1, dead=1)
        yield deployment


@pytest.fixture
def server(system: System) -> Iterator[FailingRegistry]:
    with FailingRegistry() as running:
        running.hold_ours({system.topics[role]: record for role, record in RECORDS.items()})
        yield running


RECORDS = {"inbound": "InboundMessage", "ledger": "KeywordRecord", "reviews": "ReviewRequested"}


class RegistryTexts:
    """Writes texts under the registry's ids, and reads what became of them in the ledger."""

    def __init__(self, system: System, server: FailingRegistry) -> None:
        self._topics = {record: system.topics[role] for role, record in RECORDS.items()}
        self._server = server
        self._clients: list[Any] = []
        self._codec = Codec(self._schemas())

    def _schemas(self, **configuration: Any) -> RegistrySchemas:
        client = registry.connect({"url": self._server.url, "timeout": "2", **configuration})
        self._clients.append(client)
        return RegistrySchemas(client, Schemas(), self._topics)

    def lookups(self, patience: float = 60.0) -> Lookups:
        """What a classifier asks the registry through, with its own ids known."""
        return Lookups(self._schemas(**{"max.retries": "0"}), patience=patience)

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def new_id(self) -> int:
        """Register the schema of texts once more, under another id: it says something else of itself."""
        schema = json.loads(Schemas().text("InboundMessage")) | {"doc": str(random.random())}
        return self._server.store.register_schema("upstream-value", Schema(json.dumps(schema)))

    def text(self, body: str, name: str, schema_id: int | None = None) -> bytes:
        """A text under this id, under that of our own subject if none is given."""
        value = self._codec.encode(InboundMessage(**inbound("loc-1", PATIENT, body, message_id=name)))
        return value if schema_id is None else header(schema_id) + value[5:]

    def ledger(self, system: System) -> list[str]:
        """Return the names of the texts in the ledger. They have one location: all are in one partition, in order."""
        codec = Codec(RegistrySchemas(self._server.store, Schemas(), self._topics))
        written = sorted(system.messages("ledger"), key=lambda one: one.offset() or 0)
        return [codec.decode(KeywordRecord, as_bytes(one.value())).origin.message_id for one in written]


@pytest.fixture
def upstream(system: System, server: FailingRegistry) -> Iterator[RegistryTexts]:
    writing = RegistryTexts(system, server)
    yield writing
    writing.close()


def committed(system: System) -> dict[int, int]:
    return system.committed("classify", "inbound")


def done(system: System) -> Callable[[], bool]:
    return lambda: committed(system) == system.ends("inbound")


def test_an_unknown_id_holds_back_its_partition_alone(
    system: System, server: FailingRegistry, upstream: RegistryTexts
) -> None:
    """A STOP under an id that a node does not know yet waits, with what is behind it, and comes in order."""
    unknown = upstream.new_id()
    server.hidden.add(unknown)
    classifier = Classifying(system, lookups=upstream.lookups())
    system.write("inbound", (0, upstream.text("STOP", "first")), (0, upstream.text("STOP", "unknown", unknown)))
    system.write("inbound", (0, upstream.text("STOP", "behind")), (1, upstream.text("STOP", "elsewhere")))
    classifier.until(lambda: committed(system) == {0: 1, 1: 1, 2: 0, 3: 0})
    classifier.classify(20)
    assert committed(system) == {0: 1, 1: 1, 2: 0, 3: 0}
    assert sorted(upstream.ledger(system)) == ["elsewhere", "first"]
    assert classifier.ops.value("optout_inbound_partitions_held_back") == 1
    system.write("inbound", (1, upstream.text("STOP", "later")), (0, upstream.text("STOP", "last")))
    classifier.until(lambda: "later" in upstream.ledger(system))
    server.hidden.clear()
    classifier.until(done(system))
    told = upstream.ledger(system)
    assert sorted(told) == ["behind", "elsewhere", "first", "last", "later", "unknown"]
    assert told.index("first") < told.index("unknown") < told.index("last")
    assert not system.ends("dead")[0]
    assert classifier.ops.value("optout_inbound_records_total") == len(told)
    assert classifier.ops.value("optout_inbound_partitions_held_back") == 0
    classifier.die()


def test_an_id_that_stays_unknown_is_a_dead_letter(
    system: System, server: FailingRegistry, upstream: RegistryTexts
) -> None:
    """After the patience a text under an unknown id is put aside whole, and the STOP behind it comes into force."""
    unknown = upstream.new_id()
    server.hidden.add(unknown)
    classifier = Classifying(system, lookups=upstream.lookups(PATIENCE))
    began = time.monotonic()
    system.write("inbound", *((0, upstream.text("STOP", name, unknown)) for name in ("one", "two")))
    system.write("inbound", (0, upstream.text("STOP", "behind")))
    classifier.until(done(system))
    assert time.monotonic() - began > PATIENCE
    assert upstream.ledger(system) == ["behind"]
    letters = [written.record for written in system.read("dead")]
    assert [schema_id_of(letter["raw"]) for letter in letters] == [unknown, unknown]
    assert all(dict(letter["headers"])["optout.reason"] == b"unknown-schema" for letter in letters)
    classifier.die()


def test_ids_out_of_the_air_cost_one_patience(
    system: System, server: FailingRegistry, upstream: RegistryTexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of texts under ids that nobody knows cost one patience, and a STOP elsewhere is in force at once.

    They stop nobody, with the limits as they are by default, and somebody is told to look.
    """
    monkeypatch.setattr(lookups, "NO_SECONDS", 600.0)  # however slowly they come back: none is asked for again
    classifier = Classifying(system, lookups=upstream.lookups(PATIENCE))
    classifier.until(done(system))
    ids = random.Random(8).sample(range(2**32), RANDOM_IDS)
    system.write("inbound", *((n % 3, upstream.text("STOP", "x", one)) for n, one in enumerate(ids)))
    system.write("inbound", (3, upstream.text("STOP", "elsewhere")))
    began = time.monotonic()
    classifier.until(lambda: upstream.ledger(system) == ["elsewhere"])
    assert time.monotonic() - began < STORM_SECONDS

    def all_put_aside() -> bool:
        classifier.classify(10)
        return done(system)()

    wait_for("all are put aside", all_put_aside, STORM_SECONDS)
    assert system.ends("dead")[0] == RANDOM_IDS
    waited_for = [path for path, times in Counter(server.asked).items() if times > 1]
    assert 1 <= len(waited_for) <= lookups.MOST_WAITED_FOR
    assert "came under schema ids that nobody knows" in str(classifier.ops.health.unready())
    assert classifier.ops.value("optout_trouble", part="classify", kind="schemas") == 1
    classifier.die()


def test_one_unknown_id_for_all_stops_the_worker(system: System, upstream: RegistryTexts) -> None:
    """Where all comes under one id that nobody knows a deployment went wrong: the classifier stops, in words."""
    unknown = 2**31 - 5
    classifier = Classifying(system, lookups=upstream.lookups(PATIENCE), limits=BadRecords(in_a_row=3))
    system.write("inbound", *((0, upstream.text("STOP", "x", unknown)) for _ in range(5)))
    with pytest.raises(TooManyDeadLetters, match=f"3 records in a row came under the schema id {unknown}, which"):
        classifier.until(done(system))
    assert committed(system)[0] == 3
    classifier.die()


@pytest.mark.parametrize("how", ["refuses", "hangs"])
def test_a_registry_that_is_away_keeps_only_who_needs_it(
    system: System, server: FailingRegistry, upstream: RegistryTexts, how: str
) -> None:
    """With the registry away known ids are read on, new ones wait in a member that polls, and health names it."""
    classifier = Classifying(system, lookups=upstream.lookups(PATIENCE))
    system.write("inbound", (0, upstream.text("STOP", "known")))
    classifier.until(done(system))
    new = upstream.new_id()
    if how == "refuses":
        server.stop()
    else:
        server.failing = after(5.0, (500, b"{}"))
    system.write("inbound", (0, upstream.text("STOP", "new", new)), (1, upstream.text("STOP", "on")))
    classifier.until(lambda: classifier.ops.health.unready().get("classify") is not None)
    began, longest, rounds = time.monotonic(), 0.0, 0
    while time.monotonic() - began < PATIENCE + 2.0:
        before = time.monotonic()
        classifier.classify()
        longest, rounds = max(longest, time.monotonic() - before), rounds + 1
    assert upstream.ledger(system) == ["known", "on"]
    assert classifier.inbox.joined
    assert longest < 2.0, f"one of {rounds} rounds took {longest:.1f} s"
    assert any(server.url in reason for reason in classifier.ops.health.unready()["classify"])
    assert classifier.ops.value("optout_trouble", part="classify", kind="registry") == 1
    server.failing = lambda _path: None
    if how == "refuses":
        server.start()
    classifier.until(done(system))
    assert upstream.ledger(system) == ["known", "on", "new"]
    assert not system.ends("dead")[0]
    classifier.until(lambda: "classify" not in classifier.ops.health.unready())
    classifier.die()


def test_waiting_for_a_schema_and_for_kafka_do_not_undo_each_other(
    system: System, server: FailingRegistry, upstream: RegistryTexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition that waits for its schema stays in place when reading pauses and goes on for another reason."""
    unknown = upstream.new_id()
    server.hidden.add(unknown)
    classifier = Classifying(system, lookups=upstream.lookups())
    system.write("inbound", (0, upstream.text("STOP", "unknown", unknown)), (0, upstream.text("STOP", "behind")))
    classifier.until(lambda: classifier.ops.value("optout_inbound_partitions_held_back") == 1)
    with monkeypatch.context() as overloaded:
        overloaded.setattr(classifier.producer, "waiting", lambda: 10**6)
        system.write("inbound", (1, upstream.text("STOP", "elsewhere")))
        classifier.classify(10)
        server.hidden.clear()  # known while nothing is read at all
        classifier.classify(20)
        assert not upstream.ledger(system)
        server.hidden.add(unknown)
    classifier.until(done(system))
    assert sorted(upstream.ledger(system)) == ["behind", "elsewhere", "unknown"]
    told = upstream.ledger(system)
    assert told.index("unknown") < told.index("behind")
    classifier.die()


def test_the_next_owner_begins_in_front_of_what_waits(
    system: System, server: FailingRegistry, upstream: RegistryTexts
) -> None:
    """A partition that is given up while it waits is read from its waiting record by the next owner."""
    unknown = upstream.new_id()
    server.hidden.add(unknown)
    first = Classifying(system, lookups=upstream.lookups())
    system.write("inbound", (0, upstream.text("STOP", "first")), (0, upstream.text("STOP", "unknown", unknown)))
    system.write("inbound", (0, upstream.text("STOP", "behind")))
    first.until(lambda: committed(system)[0] == 1)
    first.classify(5)
    with suppress(Exception):
        first.die()
    assert committed(system)[0] == 1
    server.hidden.clear()
    second = Classifying(system, lookups=upstream.lookups())
    second.until(done(system))
    assert sorted(upstream.ledger(system)) == ["behind", "first", "unknown"]
    second.die()


def test_the_constants_are_what_is_promised() -> None:
    """Half a minute, four ids at a time."""
    assert (lookups.PATIENCE_SECONDS, lookups.MOST_WAITED_FOR) == (30.0, 4)
