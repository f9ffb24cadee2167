"""Bytes and records: what is read, what is refused and under which reason, and what no error may say."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from fastavro import parse_schema, schemaless_writer

from consumer.domain.events import (
    Action,
    InboundMessage,
    KeywordRecord,
    OptOutRequested,
    ReviewRequested,
    Source,
    SubscriptionChanged,
)
from consumer.wire.codec import Codec, Reason, SchemaSourceUnavailable, Unreadable
from consumer.wire.framing import header
from consumer.wire.records import KINDS, from_datum, to_datum
from consumer.wire.schemas import Schemas, parse, schemas_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.wire.schemas import Parsed

FOREIGN_ID = 77


class Known(Schemas):
    """The files, and one schema more under FOREIGN_ID: another version, or another system's."""

    def __init__(self, foreign: dict[str, Any]) -> None:
        super().__init__()
        self.foreign = parse(json.dumps(foreign))

    def by_id(self, schema_id: int) -> Parsed:
        return self.foreign if schema_id == FOREIGN_ID else super().by_id(schema_id)


def example(kind: type[Any], index: int = 0) -> dict[str, Any]:
    text = (schemas_directory() / "examples" / f"{kind.__name__}.json").read_text("utf-8")
    datum: dict[str, Any] = json.loads(text)[index]
    return datum


def current(kind: type[Any]) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(Schemas().text(kind.__name__))
    return schema


def written(schema: dict[str, Any], datum: dict[str, Any], schema_id: int = FOREIGN_ID) -> bytes:
    stream = BytesIO()
    stream.write(header(schema_id))
    schemaless_writer(stream, parse_schema(schema), datum)
    return stream.getvalue()


def decode_foreign(kind: type[Any], schema: dict[str, Any], datum: dict[str, Any]) -> Any:
    return Codec(Known(schema)).decode(kind, written(schema, datum))


def reason_of(call: Callable[[], Any]) -> Reason:
    with pytest.raises(Unreadable) as caught:
        call()
    return caught.value.reason


def enum_of(schema: dict[str, Any], field: str) -> dict[str, Any]:
    enum: dict[str, Any] = next(entry["type"] for entry in schema["fields"] if entry["name"] == field)
    return enum


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_datum_and_record_are_the_same(kind: type[Any]) -> None:
    """An example as Avro has it becomes the record, and the record becomes the example again."""
    datum = example(kind)
    assert to_datum(from_datum(kind, datum)) == datum


def test_times_stay_integers() -> None:
    """Times are read as milliseconds, not as datetimes."""
    record = Codec(Schemas()).decode(
        InboundMessage, Codec(Schemas()).encode(from_datum(InboundMessage, example(InboundMessage)))
    )
    assert type(record.received_at) is int


def test_no_value_is_unreadable() -> None:
    """A tombstone is no record."""
    assert reason_of(lambda: Codec(Schemas()).decode(InboundMessage, None)) == Reason.NO_VALUE


def test_unknown_id_is_unreadable() -> None:
    """A schema id that nobody knows is said to be that."""
    assert reason_of(lambda: Codec(Schemas()).decode(InboundMessage, header(1) + b"\x00")) == Reason.UNKNOWN_SCHEMA


def test_other_record_is_unreadable() -> None:
    """A sound record of another kind is not read as this kind."""
    value = Codec(Schemas()).encode(from_datum(OptOutRequested, example(OptOutRequested)))
    assert reason_of(lambda: Codec(Schemas()).decode(InboundMessage, value)) == Reason.WRONG_RECORD


def test_trailing_bytes_are_unreadable() -> None:
    """A record with anything behind it is not a record."""
    value = Codec(Schemas()).encode(from_datum(InboundMessage, example(InboundMessage)))
    assert reason_of(lambda: Codec(Schemas()).decode(InboundMessage, value + b"\x00")) == Reason.TRAILING_BYTES


@pytest.mark.parametrize("source", ["IMPORT", "PROVIDER_BLOCK"])
def test_only_the_patient_opts_in(source: str) -> None:
    """A ledger record in which anyone but the patient opts in cannot be read, however well formed it is."""
    datum = example(KeywordRecord) | {"action": "OPT_IN", "source": source}
    value = written(current(KeywordRecord), datum, Schemas().writer("KeywordRecord").id)
    assert reason_of(lambda: Codec(Schemas()).decode(KeywordRecord, value)) == Reason.OPT_IN_BY_OTHER


@pytest.mark.parametrize("field", ["keyword", "raw_body", "rule", "pack", "pack_version"])
def test_keyword_without_evidence_is_unreadable(field: str) -> None:
    """A patient's keyword without the words, the rule or the pack that recognised it is not evidence of anything."""
    value = written(
        current(KeywordRecord), example(KeywordRecord) | {field: None}, Schemas().writer("KeywordRecord").id
    )
    assert reason_of(lambda: Codec(Schemas()).decode(KeywordRecord, value)) == Reason.INCOMPLETE_KEYWORD


def test_negative_enum_index_is_unreadable() -> None:
    """A broken action is not read as OPT_IN: the Avro library takes the index -1 for the last symbol."""
    record = from_datum(KeywordRecord, example(KeywordRecord))
    assert record.cause.action is Action.OPT_OUT
    value = Codec(Schemas()).encode(record)
    action = len(written(current(KeywordRecord), example(KeywordRecord)).partition(b"+12025550100")[0]) + 12
    assert value[action] == 0
    broken = value[:action] + b"\x01" + value[action + 1 :]
    assert reason_of(lambda: Codec(Schemas()).decode(KeywordRecord, broken)) == Reason.NOT_CANONICAL


@pytest.mark.parametrize("field", ["action", "source"])
def test_newer_action_or_source_is_unreadable(field: str) -> None:
    """A ledger record that names an action or a source of a newer version is never read as one of today's."""
    schema = current(KeywordRecord)
    enum_of(schema, field)["symbols"].append("NEWER")
    datum = example(KeywordRecord) | {field: "NEWER"}
    assert reason_of(lambda: decode_foreign(KeywordRecord, schema, datum)) == Reason.INCOMPATIBLE


def test_ledger_of_a_newer_version_is_read() -> None:
    """A ledger record of a newer version with one field more, and a symbol more that it does not use, is read."""
    schema = current(KeywordRecord)
    schema["fields"].insert(3, {"name": "carrier", "type": ["null", "string"], "default": None})
    enum_of(schema, "action")["symbols"].append("NEWER")
    datum = example(KeywordRecord)
    assert decode_foreign(KeywordRecord, schema, datum | {"carrier": "x"}) == from_datum(KeywordRecord, datum)


def test_fields_in_another_order_are_read() -> None:
    """Upstream may order the fields of its texts as it likes, leave out what has a default, and use a namespace."""
    schema = current(InboundMessage) | {"namespace": "com.example.sms"}
    schema["fields"] = [field for field in reversed(schema["fields"]) if field["name"] != "provider_opt_out_type"]
    datum = example(InboundMessage)
    expected = replace(from_datum(InboundMessage, datum), provider_opt_out_type=None)
    assert decode_foreign(InboundMessage, schema, datum) == expected


def test_text_without_a_required_field_is_unreadable() -> None:
    """A writer's schema without a field that has no default is incompatible, and so said."""
    schema = current(InboundMessage)
    schema["fields"] = [field for field in schema["fields"] if field["name"] != "patient_number"]
    assert reason_of(lambda: decode_foreign(InboundMessage, schema, example(InboundMessage))) == Reason.INCOMPATIBLE


def test_body_written_as_bytes_is_read_as_text() -> None:
    """Avro lets bytes stand for a string: such a body is read as text or unreadable, and never comes out as bytes."""
    schema = current(InboundMessage)
    schema["fields"][0]["type"] = "bytes"
    datum = example(InboundMessage)
    assert decode_foreign(InboundMessage, schema, datum | {"body": b"STOP"}) == from_datum(InboundMessage, datum)
    assert reason_of(lambda: decode_foreign(InboundMessage, schema, datum | {"body": b"\xff"})) == Reason.NOT_AVRO


@pytest.mark.parametrize(("kind", "field"), [(SubscriptionChanged, "source"), (ReviewRequested, "reason")])
def test_symbol_outside_the_domain_is_unreadable(kind: type[Any], field: str) -> None:
    """A symbol that the schema reads as OTHER, and the domain does not know, does not pass for one that it knows."""
    schema = current(kind)
    enum_of(schema, field)["symbols"].append("NEWER")
    assert reason_of(lambda: decode_foreign(kind, schema, example(kind) | {field: "NEWER"})) == Reason.UNKNOWN_SYMBOL


SELF = {"type": "record", "name": "Note", "fields": [{"name": "of", "type": ["null", "Note"]}]}


@pytest.mark.parametrize(
    ("extra", "value"),
    [
        (SELF, {"of": {"of": None}}),
        ({"type": "array", "items": "null"}, [None]),
        ({"type": "array", "items": {"type": "record", "name": "Nothing", "fields": []}}, [{}]),
    ],
)
def test_what_reading_a_record_takes_is_bounded_by_its_bytes(extra: dict[str, Any], value: Any) -> None:
    """A writer's type that holds itself, or an array of nothing, is refused: a few bytes could end the process."""
    schema = current(InboundMessage)
    schema["fields"].append({"name": "extra", "type": extra})
    datum = example(InboundMessage) | {"extra": value}
    assert reason_of(lambda: decode_foreign(InboundMessage, schema, datum)) == Reason.INCOMPATIBLE


@pytest.mark.parametrize(
    ("items", "value"),
    [
        ("boolean", True),
        (
            {"type": "record", "name": "Place", "fields": [{"name": n, "type": "double"} for n in "xy"]},
            {"x": 1, "y": 2},
        ),
        ({"type": "fixed", "name": "Hash", "size": 4}, b"abcd"),
    ],
)
def test_an_array_does_not_go_on_over_the_end(items: Any, value: Any) -> None:
    """What is skipped ends with its bytes: ten could stand for 2^62 items, each of which is skipped where none is."""
    schema = current(InboundMessage)
    schema["fields"].append({"name": "extra", "type": {"type": "array", "items": items}})
    sound = written(schema, example(InboundMessage) | {"extra": [value]})
    codec = Codec(Known(schema))
    assert codec.decode(InboundMessage, sound) == from_datum(InboundMessage, example(InboundMessage))
    endless = written(schema, example(InboundMessage) | {"extra": []})[:-1] + b"\x80" * 9 + b"\x01"
    assert reason_of(lambda: codec.decode(InboundMessage, endless)) == Reason.NOT_AVRO


def test_what_others_write_is_bounded() -> None:
    """A writer's types may be named, used twice and nested, as long as none holds itself."""
    schema = current(InboundMessage)
    place = {"type": "record", "name": "Place", "fields": [{"name": "code", "type": "string"}]}
    nested = {"type": "array", "items": ["null", {"type": "map", "values": ["Place", "boolean"]}]}
    schema["fields"] += [{"name": "one", "type": place}, {"name": "two", "type": nested}]
    datum = example(InboundMessage)
    more = {"one": {"code": "x"}, "two": [None, {"a": {"code": "y"}, "b": True}]}
    assert decode_foreign(InboundMessage, schema, datum | more) == from_datum(InboundMessage, datum)


def test_an_id_that_no_registry_gives_is_unknown() -> None:
    """A registry is not asked for an id beyond its numbers: its answer would read as an outage, and hold all up."""

    class Away(Schemas):
        def by_id(self, schema_id: int) -> Parsed:
            raise SchemaSourceUnavailable

    codec = Codec(Away())
    assert reason_of(lambda: codec.decode(InboundMessage, header(2**31))) == Reason.UNKNOWN_SCHEMA
    with pytest.raises(SchemaSourceUnavailable):
        codec.decode(InboundMessage, header(2**31 - 1))


def test_encoding_nonsense_quotes_nothing() -> None:
    """A value that the schema cannot hold is refused without being quoted."""
    record = replace(from_datum(InboundMessage, example(InboundMessage)), body="secret \ud800")
    with pytest.raises(ValueError, match="InboundMessage with a value that its schema cannot hold") as caught:
        Codec(Schemas()).encode(record)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_schema_is_asked_for_once() -> None:
    """However many records come, a schema is looked up once for reading and once for writing."""
    asked: list[object] = []

    class Counting(Schemas):
        def writer(self, record: str) -> Any:
            asked.append(record)
            return super().writer(record)

        def by_id(self, schema_id: int) -> Any:
            asked.append(schema_id)
            return super().by_id(schema_id)

    codec = Codec(Counting())
    record = from_datum(InboundMessage, example(InboundMessage))
    for _ in range(3):
        assert codec.decode(InboundMessage, codec.encode(record)) == record
    assert asked == ["InboundMessage", Schemas().writer("InboundMessage").id]


def test_source_of_a_request_can_only_opt_out() -> None:
    """A request from outside has a source that can only opt out, and no patient's keyword among them."""
    symbols = enum_of(current(OptOutRequested), "source")["symbols"]
    assert symbols == [source for source in Source if source is not Source.PATIENT_KEYWORD]
    assert "action" not in example(OptOutRequested)
