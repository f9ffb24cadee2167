"""What is asked of a registry beside the loops: for how long, how often, how much at a time, and what is said of it."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip(
    "confluent_kafka.schema_registry", reason="the extra `registry` is not installed", exc_type=ImportError
)

from consumer.wire import lookups
from consumer.wire.errors import SchemaAwaited, SchemaSourceUnavailable, UnknownSchema
from consumer.wire.lookups import Lookups
from consumer.wire.registry import NoAvro
from consumer.wire.schemas import HIGHEST_ID, LOCAL_IDS, Schemas
from tests.parts.system import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = Schemas().reader("InboundMessage")
PATIENCE = 0.5


class ScriptedRegistry(Schemas):
    """A registry whose answers a test gives, by id, and which keeps who was asked for when."""

    def __init__(self, answer: Callable[[int], Any]) -> None:
        super().__init__()
        self.answer = answer
        self.times: dict[int, list[float]] = {}

    def by_id(self, schema_id: int) -> Any:
        if schema_id in LOCAL_IDS:
            return super().by_id(schema_id)
        self.times.setdefault(schema_id, []).append(time.monotonic())
        return self.answer(schema_id)


def unknown(schema_id: int) -> Any:
    raise UnknownSchema(schema_id)


def away(_schema_id: int) -> Any:
    raise SchemaSourceUnavailable("the schema registry is away")


def fate(source: Lookups, schema_id: int, seconds: float = 5.0) -> str:
    """Ask as a loop does, again and again, until it is known what becomes of a record under this id."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            source.by_id(schema_id)
        except SchemaAwaited:
            time.sleep(0.01)
        except UnknownSchema:
            return "unknown"
        else:
            return "known"
    return "awaited"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask ten times as often as the product."""
    monkeypatch.setattr(lookups, "ASK_EVERY", 0.1)


def test_a_loop_never_waits_for_an_answer() -> None:
    """However long a registry takes, asking for a schema costs the loop nothing, and the others' answers come."""
    go_on = threading.Event()
    asked = ScriptedRegistry(lambda schema_id: SCHEMA if schema_id != 7 or go_on.wait(10) else None)
    source = Lookups(asked)
    began = time.monotonic()
    with pytest.raises(SchemaAwaited):
        source.by_id(7)
    assert time.monotonic() - began < 0.1
    assert fate(source, 8) == "known"
    go_on.set()
    assert fate(source, 7) == "known"


def test_an_id_that_another_node_knows_already_is_waited_for() -> None:
    """A no is not the last word at once: an id that becomes known within the patience is read."""
    asked = ScriptedRegistry(unknown)
    source = Lookups(asked, patience=5.0)
    with pytest.raises(SchemaAwaited):
        source.by_id(7)
    time.sleep(0.3)
    assert source.awaits(7)
    asked.answer = lambda _: SCHEMA
    assert fate(source, 7) == "known"
    assert source.trouble() is None


def test_an_id_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the patience an id is unknown; later texts under it are asked for, not waited for, and may be read."""
    monkeypatch.setattr(lookups, "NO_SECONDS", 0.2)
    asked = ScriptedRegistry(unknown)
    source = Lookups(asked, patience=PATIENCE)
    began = time.monotonic()
    assert fate(source, 7) == "unknown"
    assert PATIENCE <= time.monotonic() - began < PATIENCE + 1.5
    asks = len(asked.times[7])
    assert fate(source, 7) == "unknown"
    assert len(asked.times[7]) == asks  # a no counts for a moment
    time.sleep(0.3)
    began = time.monotonic()
    assert fate(source, 7) == "unknown"
    assert time.monotonic() - began < PATIENCE
    assert len(asked.times[7]) == asks + 1
    time.sleep(0.3)
    asked.answer = lambda _: SCHEMA
    assert fate(source, 7) == "known"


def test_ids_out_of_the_air_cost_one_patience() -> None:
    """Of ten thousand ids that nobody knows four are waited for, together, and the rest are unknown with one ask."""
    asked = ScriptedRegistry(unknown)
    source = Lookups(asked, patience=PATIENCE)
    ids = random.Random(8).sample(range(1, HIGHEST_ID), 10_000)
    began = time.monotonic()
    for first in range(0, len(ids), 500):  # as a loop reads them, a partition that waits among others that do not
        batch = ids[first : first + 500]
        source.look_ahead(batch)
        for schema_id in batch:
            assert fate(source, schema_id) == "unknown"
    assert time.monotonic() - began < PATIENCE + 10
    waited = [schema_id for schema_id, times in asked.times.items() if len(times) > 1]
    assert 1 <= len(waited) <= lookups.MOST_WAITED_FOR
    assert sum(map(len, asked.times.values())) < 10_100


def test_patience_returns() -> None:
    """An id that becomes known takes nothing of the patience for others, and a vain one only for some minutes."""
    asked = ScriptedRegistry(
        lambda schema_id: SCHEMA if schema_id < 100 and len(asked.times[schema_id]) > 2 else unknown(schema_id)
    )
    source = Lookups(asked, patience=PATIENCE)
    assert [fate(source, schema_id) for schema_id in range(1, 9)] == ["known"] * 8
    assert [fate(source, schema_id) for schema_id in range(101, 105)] == ["unknown"] * 4
    assert fate(source, 9) == "unknown"
    source._in_vain = {known: at - lookups.FORGIVEN_SECONDS for known, at in source._in_vain.items()}
    assert fate(source, 10) == "known"


def test_a_registry_that_is_away_is_waited_for_without_end() -> None:
    """Silence uses no patience up and is never taken for a no; it is said for as long as somebody waits."""
    asked = ScriptedRegistry(away)
    source = Lookups(asked, patience=PATIENCE)
    assert fate(source, 7, seconds=4 * PATIENCE) == "awaited"
    assert source.trouble() == "the schema registry is away"
    asked.answer = unknown  # back, and does not know it yet
    time.sleep(0.3)
    assert source.awaits(7)
    asked.answer = away
    assert fate(source, 7, seconds=2 * PATIENCE) == "awaited"
    asked.answer = lambda _: SCHEMA
    assert fate(source, 7) == "known"
    assert source.trouble() is None


def test_a_registry_that_is_away_is_not_stormed() -> None:
    """However many ids are waited for, a registry that does not answer is asked a few times a second."""
    asked = ScriptedRegistry(away)
    source = Lookups(asked)
    source.look_ahead(range(1, 500))
    time.sleep(1.0)
    assert sum(map(len, asked.times.values())) < 4 + 10 * lookups.THREADS * 2


def test_one_id_at_which_a_registry_fails_holds_up_no_other() -> None:
    """Where the registry fails at one id alone, all others are found as ever."""
    asked = ScriptedRegistry(lambda schema_id: away(schema_id) if schema_id == 7 else SCHEMA)
    source = Lookups(asked)
    began = time.monotonic()
    assert fate(source, 7, seconds=0.5) == "awaited"
    assert [fate(source, schema_id) for schema_id in range(10, 60)] == ["known"] * 50
    assert time.monotonic() - began < 4.0
    assert source.trouble()


def test_what_nobody_waits_for_any_more_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a partition is another worker's its ids are forgotten, and the registry is no trouble of ours."""
    monkeypatch.setattr(lookups, "WANTED_SECONDS", 0.3)
    asked = ScriptedRegistry(away)
    source = Lookups(asked)
    source.look_ahead([7])
    wait_for("the question is dropped", lambda: not source._open, 5)
    assert source.trouble() is None
    wait_for("no thread is left", lambda: source._threads == 0, 5)
    asked.answer = lambda _: SCHEMA
    assert fate(source, 7) == "known"


def test_ids_behind_one_that_waits_use_their_patience_up_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked ahead at behind a record that waits is waited for at the same time, not one after the other."""
    monkeypatch.setattr(lookups, "WANTED_SECONDS", 0.2)
    asked = ScriptedRegistry(unknown)
    source = Lookups(asked, patience=1.0)
    source.look_ahead([1, 2, 3, 4])
    assert fate(source, 1) == "unknown"  # as a loop does: the others are not asked about meanwhile
    wait_for("the others are given up", lambda: not source._open, 5)
    asks = {schema_id: len(times) for schema_id, times in asked.times.items()}
    assert [fate(source, schema_id) for schema_id in (2, 3, 4)] == ["unknown"] * 3
    assert {schema_id: len(times) for schema_id, times in asked.times.items()} == asks


def test_a_client_that_does_not_come_back_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry whose answer drips for ever is named, though its client has raised nothing."""
    monkeypatch.setattr(lookups, "LATE_SECONDS", 0.2)
    go_on = threading.Event()
    asked = ScriptedRegistry(lambda _: go_on.wait(10) and SCHEMA)
    source = Lookups(asked)
    for schema_id in range(1, 9):
        assert fate(source, schema_id, seconds=0.05) == "awaited"
    assert "has not answered" in str(source.trouble())
    go_on.set()
    assert fate(source, 8) == "known"


def test_what_is_settled_is_not_asked_for_again() -> None:
    """A schema, a foreign kind of schema and the files' ids need no further ask; an impossible id needs none at all."""

    def answer(schema_id: int) -> Any:
        if schema_id == 8:
            raise NoAvro(schema_id)
        return SCHEMA

    asked = ScriptedRegistry(answer)
    source = Lookups(asked)
    assert [fate(source, 7), fate(source, 8), fate(source, HIGHEST_ID + 1)] == ["known", "unknown", "unknown"]
    assert [fate(source, 7), fate(source, 8), fate(source, HIGHEST_ID + 1)] == ["known", "unknown", "unknown"]
    assert {schema_id: len(times) for schema_id, times in asked.times.items()} == {7: 1, 8: 1}
    assert source.by_id(LOCAL_IDS[0]) == Schemas().by_id(LOCAL_IDS[0])
    assert not source.awaits(LOCAL_IDS[0])
