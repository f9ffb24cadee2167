"""The schema files: documented, frozen, readable for ever, and the same values as in the domain."""

from __future__ import annotations

import json
from dataclasses import fields
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from fastavro import schemaless_reader, schemaless_writer
from fastavro.utils import generate_many

from consumer.domain.events import (
    Action,
    KeywordRecord,
    LedgerPosition,
    OperatorActionKind,
    Origin,
    PatientKeyword,
    ReviewReason,
    Source,
    Status,
)
from consumer.wire.codec import Codec, SchemaError
from consumer.wire.framing import schema_id_of
from consumer.wire.records import KINDS, from_datum
from consumer.wire.schemas import LOCAL_IDS, Schemas, parse, record_name, schemas_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIME = {"type": "long", "logicalType": "timestamp-millis"}
DIRECTORY = schemas_directory()
BY_NAME = {kind.__name__: kind for kind in KINDS}
RECORDS = sorted(BY_NAME)
HISTORY = sorted(DIRECTORY.glob("history/*.avsc"))
CURRENT = {record: json.loads((DIRECTORY / f"{record}.avsc").read_text("utf-8")) for record in RECORDS}


def frozen_ids(record: str) -> list[int]:
    return [int(file.stem, 16) for file in HISTORY if json.loads(file.read_text("utf-8"))["name"] == record]


def named_types(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every record and enum of a schema, itself included."""
    if isinstance(schema, list):
        for branch in schema:
            yield from named_types(branch)
    elif isinstance(schema, dict):
        if schema["type"] in {"record", "enum"}:
            yield schema
        for field in schema.get("fields", ()):
            yield from named_types(field["type"])


def all_fields(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for named in named_types(schema):
        yield from named.get("fields", ())


def golden(record: str, schema_id: int) -> list[tuple[bytes, Any]]:
    """Return the bytes that were written under an id, each with the record that is expected of them today."""
    examples = json.loads((DIRECTORY / "examples" / f"{record}.json").read_text("utf-8"))
    lines = (DIRECTORY / "examples" / f"{record}.{schema_id:08X}.hex").read_text("ascii").split()
    return [
        (bytes.fromhex(line), from_datum(BY_NAME[record], example))
        for line, example in zip(lines, examples, strict=False)
    ]


def test_every_record_has_a_schema_and_no_other() -> None:
    """There is one schema for each record of the topics, and no other."""
    assert Schemas().records() == RECORDS


@pytest.mark.parametrize("record", RECORDS)
def test_current_schema_is_frozen(record: str) -> None:
    """What is written today is what stands in the history under the record's newest id."""
    newest = max(frozen_ids(record))
    frozen = json.loads((DIRECTORY / "history" / f"{newest:08X}.avsc").read_text("utf-8"))
    assert frozen == CURRENT[record], "a schema never changes: freeze the new version under the next free id"
    assert Schemas().writer(record).id == newest


def test_ids_are_in_the_range_of_the_files() -> None:
    """An id of the files is never one that a registry gives."""
    assert {int(file.stem, 16) for file in HISTORY} <= set(LOCAL_IDS)


@pytest.mark.parametrize("file", HISTORY, ids=lambda file: file.stem)
def test_golden_bytes_are_read_for_ever(file: Path) -> None:
    """Today's reader reads what was written under each id of the history, as the record that it was."""
    schema_id, record = int(file.stem, 16), json.loads(file.read_text("utf-8"))["name"]
    codec, pairs = Codec(Schemas()), golden(record, schema_id)
    assert len(pairs) >= 2
    for value, expected in pairs:
        assert schema_id_of(value) == schema_id
        assert codec.decode(BY_NAME[record], value) == expected


@pytest.mark.parametrize("record", RECORDS)
def test_golden_bytes_are_what_is_written(record: str) -> None:
    """Today's writer writes each example byte for byte as it was written when its schema was frozen."""
    codec, newest = Codec(Schemas()), max(frozen_ids(record))
    examples = json.loads((DIRECTORY / "examples" / f"{record}.json").read_text("utf-8"))
    written = [codec.encode(from_datum(BY_NAME[record], example)).hex() for example in examples]
    assert (DIRECTORY / "examples" / f"{record}.{newest:08X}.hex").read_text("ascii").split() == written


@pytest.mark.parametrize("file", HISTORY, ids=lambda file: file.stem)
def test_current_schema_reads_every_version(file: Path) -> None:
    """Whatever an earlier version can express, today's schema of the record can read."""
    writer = parse(file.read_text("utf-8"))
    reader = Schemas().reader(record_name(writer))
    for datum in generate_many(writer, 50):
        stream = BytesIO()
        schemaless_writer(stream, writer, datum)
        stream.seek(0)
        assert schemaless_reader(stream, writer, reader)


@pytest.mark.parametrize("record", RECORDS)
def test_everything_is_documented(record: str) -> None:
    """Everything says what it is, each time its unit, each number and text that it is personal data."""
    for named in named_types(CURRENT[record]):
        assert named["doc"].endswith(".")
    for field in all_fields(CURRENT[record]):
        assert field["doc"].endswith(".")
        if field["type"] == TIME:
            assert "milliseconds since the epoch, UTC" in field["doc"]
        if field["name"] in {"patient_number", "body", "raw_body"}:
            assert "Personal data" in field["doc"]


@pytest.mark.parametrize("record", RECORDS)
def test_types_are_plain(record: str) -> None:
    """Times are timestamp-millis, and what may be absent is a union of null and one type, null by default."""
    for field in all_fields(CURRENT[record]):
        if field["name"].endswith(("_at", "_time", "_timestamp")):
            assert field["type"] == TIME
        if isinstance(field["type"], list):
            assert (field["type"][0], len(field["type"]), field["default"]) == ("null", 2, None)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_fields_are_those_of_the_domain(kind: type[Any]) -> None:
    """A schema has the fields of its record under the same names, the ledger's with the cause flat among them."""
    expected = {field.name for field in fields(kind)}
    if kind is KeywordRecord:
        expected = expected - {"cause"} | {field.name for field in fields(PatientKeyword)} | {"source"}
    assert {field["name"] for field in CURRENT[kind.__name__]["fields"]} == expected


def test_nested_types_are_the_same_everywhere() -> None:
    """A type that several schemas name is the same in all of them, and has the values of the domain."""
    definitions: dict[str, Any] = {}
    for schema in CURRENT.values():
        for named in named_types(schema):
            assert definitions.setdefault(named["name"], named) == named
    for nested in (Origin, LedgerPosition):
        assert [field["name"] for field in definitions[nested.__name__]["fields"]] == [f.name for f in fields(nested)]
    for enum in (Action, Source, Status):
        assert definitions[enum.__name__]["symbols"] == list(enum)


def test_only_what_decides_nothing_has_a_default_symbol() -> None:
    """No reader takes a newer action, status or source of the ledger for one it knows; a reason is read as OTHER."""
    enums = {
        enum["name"]: enum for schema in CURRENT.values() for enum in named_types(schema) if enum["type"] == "enum"
    }
    defaults = {name: enum["default"] for name, enum in enums.items() if "default" in enum}
    assert defaults == {"ChangeSource": "OTHER", "OperatorActionKind": "OTHER", "ReviewReason": "OTHER"}
    assert enums["OperatorActionKind"]["symbols"] == list(OperatorActionKind)
    assert enums["ChangeSource"]["symbols"] == [*Source, "OTHER"]
    assert [symbol for symbol in enums["ReviewReason"]["symbols"] if symbol != "OTHER"] == [
        reason for reason in ReviewReason if reason != "OTHER"
    ]


def test_body_comes_first() -> None:
    """A reader finds the body of a text right after the header, without decoding the record."""
    first = CURRENT["InboundMessage"]["fields"][0]
    assert (first["name"], first["type"]) == ("body", "string")


def test_topics_name_the_current_schemas() -> None:
    """`topics.yaml` gives each topic with a schema the record and the id that is written today, each record once."""
    topics = yaml.safe_load((DIRECTORY / "topics.yaml").read_text("utf-8"))
    schemas = Schemas()
    stated = {entry["schema"]: entry["schema_id"] for entry in topics.values() if entry["schema"]}
    assert stated == {record: schemas.writer(record).id for record in RECORDS}


def test_schema_that_was_not_frozen_is_refused(tmp_path: Path) -> None:
    """A schema without a frozen copy is refused by name, with what to do."""
    (tmp_path / "history").mkdir()
    (tmp_path / "InboundMessage.avsc").write_text(json.dumps(CURRENT["InboundMessage"]), "utf-8")
    with pytest.raises(SchemaError, match="InboundMessage has no frozen copy"):
        Schemas(tmp_path)


def test_missing_schemas_are_said(tmp_path: Path) -> None:
    """An installation without schema files is told from one with them by a sentence, not by a KeyError later."""
    with pytest.raises(SchemaError, match="installation is not complete"):
        Schemas(tmp_path)
