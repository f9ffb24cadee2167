"""Bytes <-> records.

    codec = Codec(Schemas())                        # or RegistrySchemas(...)
    codec.prepare(KeywordRecord, ReviewRequested)   # at the start: what will be written has its schema
    value = codec.encode(record)                    # any record of the topics
    record = codec.decode(KeywordRecord, value)     # raises Unreadable: to the dead letters, or stop the bucket

`decode` raises SchemaSourceUnavailable where a registry could not be asked: nothing is known of the record, ask again.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from fastavro import schemaless_reader, schemaless_writer
from fastavro.read import SchemaResolutionError
from fastavro.schema import to_parsing_canonical_form

from consumer.domain.events import KeywordRecord
from consumer.wire import framing
from consumer.wire.bounds import is_bounded
from consumer.wire.errors import Reason, SchemaError, SchemaSourceUnavailable, UnknownSchema, Unreadable
from consumer.wire.records import from_datum, to_datum
from consumer.wire.schemas import HIGHEST_ID, record_names

if TYPE_CHECKING:
    from consumer.wire.records import Datum, R, Record
    from consumer.wire.schemas import Parsed, Resolved, SchemaSource

__all__ = ["Codec", "Reason", "SchemaError", "SchemaSourceUnavailable", "Unreadable"]


class _Ending(BytesIO):
    """Bytes that fail at their end. Slower: each read is a call from the library's compiled code."""

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if size is not None and len(found) < size:
            raise EOFError
        return found


class _Plan(NamedTuple):
    """How to read what was written with one schema: `reader` is None where nothing has to be resolved."""

    writer: Resolved
    reader: Parsed | None
    stream: type[BytesIO]


class Codec:
    """Encodes and decodes every record of the topics. Schemas are asked for once each; safe to share among threads."""

    def __init__(self, schemas: SchemaSource) -> None:
        self._schemas = schemas
        self._writers: dict[type[Record], tuple[bytes, Parsed]] = {}
        self._plans: dict[tuple[type[Any], int], _Plan] = {}

    def prepare(self, *kinds: type[Record]) -> None:
        """Look up what these records are written with.

        Raises SchemaError where a schema is missing, SchemaSourceUnavailable where a registry did not answer.
        """
        for kind in kinds:
            self._writer(kind)

    def encode(self, record: Record) -> bytes:
        """Return the record framed.

        Raises ValueError for values that its schema cannot hold, without quoting them, and what `prepare` raises.
        """
        header, schema = self._writer(type(record))
        stream = BytesIO()
        stream.write(header)
        try:
            schemaless_writer(stream, schema, to_datum(record))
        except (ValueError, TypeError, OverflowError):
            raise ValueError(f"{type(record).__name__} with a value that its schema cannot hold") from None
        return stream.getvalue()

    def decode(self, kind: type[R], value: bytes | None) -> R:
        """Return the record of a value of Kafka's; what another version wrote is read into today's schema.

        Raises Unreadable for everything else, SchemaSourceUnavailable where the schema could not be asked for.
        """
        if value is None:
            raise Unreadable(Reason.NO_VALUE)
        plan = self._plan(kind, framing.schema_id_of(value))
        datum = _read(value, plan)
        if kind is KeywordRecord:
            whole = datum if plan.reader is None else _read(value, plan._replace(reader=None))
            _check_canonical(value, plan.writer, whole)
        return from_datum(kind, datum)

    def _writer(self, kind: type[Record]) -> tuple[bytes, Parsed]:
        found = self._writers.get(kind)
        if found is None:
            schema_id, schema = self._schemas.writer(kind.__name__)
            found = self._writers[kind] = framing.header(schema_id), schema
        return found

    def _plan(self, kind: type[Any], schema_id: int) -> _Plan:
        plan = self._plans.get((kind, schema_id))
        if plan is None:
            plan = self._plans[kind, schema_id] = self._make_plan(kind.__name__, schema_id)
        return plan

    def _make_plan(self, record: str, schema_id: int) -> _Plan:
        if schema_id > HIGHEST_ID:
            raise Unreadable(Reason.UNKNOWN_SCHEMA)
        try:
            writer = self._schemas.by_id(schema_id)
        except UnknownSchema:
            raise Unreadable(Reason.UNKNOWN_SCHEMA) from None
        if record not in record_names(writer):
            raise Unreadable(Reason.WRONG_RECORD)
        if not is_bounded(writer):
            raise Unreadable(Reason.INCOMPATIBLE)
        reader = self._schemas.reader(record)
        same = to_parsing_canonical_form(writer) == to_parsing_canonical_form(reader)
        # What today's schema does not know is skipped, and that goes on over the end of the bytes: ten of them could
        # stand for an array of 2^62 booleans.
        stream = BytesIO if same or is_bounded(writer, skipping_blindly=True) else _Ending
        return _Plan(writer, None if same else reader, stream)


def _read(value: bytes, plan: _Plan) -> Datum:
    stream = plan.stream(value)
    stream.seek(framing.HEADER_SIZE)
    try:
        datum = schemaless_reader(stream, plan.writer, plan.reader)
    except SchemaResolutionError:
        raise Unreadable(Reason.INCOMPATIBLE) from None
    except Exception:  # noqa: BLE001 - what the library raises for bytes that are no record is not documented
        raise Unreadable(Reason.NOT_AVRO) from None
    if stream.tell() != len(value):
        raise Unreadable(Reason.TRAILING_BYTES)
    assert isinstance(datum, dict)
    return datum


def _check_canonical(value: bytes, writer: Resolved, datum: Datum) -> None:
    """Refuse what no writer wrote: the library reads -1 as an enum's last symbol, an OPT_OUT as an OPT_IN.

    For the ledger only, whose writers are ours: upstream's may encode in other ways that Avro allows.
    """
    stream = BytesIO()
    stream.write(value[: framing.HEADER_SIZE])
    try:
        schemaless_writer(stream, writer, datum)
    except Exception:  # noqa: BLE001 - it reads what it does not write: an int of more than 32 bits
        raise Unreadable(Reason.NOT_CANONICAL) from None
    if stream.getvalue() != value:
        raise Unreadable(Reason.NOT_CANONICAL)
