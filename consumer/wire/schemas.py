"""Schemas and their ids, from the files in `schemas/`.

Each record has its current schema, `<Record>.avsc`, and a frozen copy of every version that was ever written,
`history/<ID>.avsc`, ID in eight hexadecimal digits. The ids lie in a range that no registry reaches by counting.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import fastavro
from fastavro.repository import AbstractSchemaRepository, SchemaRepositoryError
from fastavro.schema import load_schema

from consumer.wire.errors import SchemaError, UnknownSchema

if TYPE_CHECKING:
    from collections.abc import Mapping

Parsed = dict[str, Any]
"""A schema as fastavro keeps it, without logical types: times are read and written as integers."""

LOCAL_IDS = range(0x534D5301, 0x534D5400)
"""The ids of the files: "SMS" and a number from 1."""
HIGHEST_ID = 2**31 - 1
"""No registry counts further. One that is asked for more fails in its own way, which would read as an outage."""

MOST_LOADED = 200
"""How often a schema of others may be asked for while one is parsed that refers to them, itself included."""

Resolved = Parsed | list[Any]
"""A schema that something was written with: a record, or a union with records among its branches."""


class WriterSchema(NamedTuple):
    """What a record is written with."""

    id: int
    parsed: Parsed


class SchemaSource(Protocol):
    """Where schemas and their ids come from. Records are named as their classes, without the namespace."""

    def writer(self, record: str) -> WriterSchema:
        """Return the current schema of a record, and the id to write it under.

        Raises SchemaError where it has none, SchemaSourceUnavailable where nobody could be asked.
        """

    def reader(self, record: str) -> Parsed:
        """Return the current schema of a record, which older and newer versions are read into."""

    def by_id(self, schema_id: int) -> Resolved:
        """Return the schema with this id.

        Raises UnknownSchema where there is none, SchemaSourceUnavailable where nobody could be asked.
        """


def schemas_directory() -> Path:
    """Return the directory of the schemas, `topics.yaml` and the test vectors: the wheel's own, or the checkout's."""
    package = Path(__file__).parent.parent
    installed = package / "_schemas"
    return installed if installed.is_dir() else package.parent / "schemas"


def parse(text: str) -> Parsed:
    """Return a schema parsed, its logical types dropped.

    Raises ValueError, or fastavro's SchemaParseException or UnknownType, for what is no Avro record.
    """
    schema = _without_hints(json.loads(text))
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ValueError("not the schema of a record")
    parsed = fastavro.parse_schema(schema)
    assert isinstance(parsed, dict)
    return parsed


def parse_with(schema: Any, named: Mapping[str, Any]) -> Any:
    """Return a schema of JSON parsed, its logical types dropped, with those that it refers to by name.

    Raises what fastavro raises, and whatever else comes of JSON that is no Avro.
    """
    return load_schema("", repo=_Types(_without_hints({**named, "": schema})))


def record_name(schema: Mapping[str, Any] | str) -> str:
    """Return the record's name without its namespace: what Avro compares."""
    return str(schema if isinstance(schema, str) else schema["name"]).rpartition(".")[2]


def record_names(schema: Resolved) -> set[str]:
    """Return the names of the records that can stand at a schema's root."""
    branches = schema if isinstance(schema, list) else [schema]
    return {record_name(branch) for branch in branches if isinstance(branch, str) or branch["type"] == "record"}


class Schemas:
    """The files' schemas. Raises SchemaError for a directory whose current schemas are not all in its history."""

    def __init__(self, directory: Path | None = None) -> None:
        directory = directory or schemas_directory()
        self._by_id = {int(file.stem, 16): parse(file.read_text("utf-8")) for file in directory.glob("history/*.avsc")}
        self._texts = {file.stem: file.read_text("utf-8") for file in directory.glob("*.avsc")}
        self._writers = {record: self._frozen(record, parse(text)) for record, text in self._texts.items()}
        if not self._writers:
            raise SchemaError(f"no schemas in {directory}: the installation is not complete")

    def _frozen(self, record: str, current: Parsed) -> WriterSchema:
        for schema_id, frozen in self._by_id.items():
            if frozen == current:
                return WriterSchema(schema_id, frozen)
        raise SchemaError(f"{record} has no frozen copy: add its schema to schemas/history under the next id")

    def records(self) -> list[str]:
        """Return the names of all records."""
        return sorted(self._texts)

    def text(self, record: str) -> str:
        """Return the current schema of a record as a registry keeps it: JSON, logical types and docs included."""
        return json.dumps(json.loads(self._texts[record]), ensure_ascii=False, separators=(",", ":"))

    def writer(self, record: str) -> WriterSchema:
        """Return the current schema of a record and its id."""
        return self._writers[record]

    def reader(self, record: str) -> Parsed:
        """Return the current schema of a record."""
        return self._writers[record].parsed

    def by_id(self, schema_id: int) -> Parsed:
        """Return the version of a record that has this id. Raises UnknownSchema."""
        try:
            return self._by_id[schema_id]
        except KeyError:
            raise UnknownSchema(schema_id) from None


class _Types(AbstractSchemaRepository):
    """Schemas by name, as the Avro library asks for those that it misses: of two that name each other, without end."""

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self._schemas = schemas
        self._left = MOST_LOADED

    def load(self, name: str) -> Any:
        """Return the schema of this name."""
        self._left -= 1
        if self._left < 0:
            raise ValueError("a schema that refers to others without end")
        if name not in self._schemas:
            raise SchemaRepositoryError(f"no schema has the name {name}")
        return self._schemas[name]


_HINTS = frozenset({"logicalType", "__fastavro_parsed", "__named_schemas"})
"""Attributes that the Avro library acts on. With its own two it takes a schema for one that it has parsed already, and
would read by types that stand nowhere in it."""


def _without_hints(schema: Any) -> Any:
    """Return a schema as it was read from JSON, without its logical types and what else the Avro library acts on."""
    if isinstance(schema, dict):
        return {key: _without_hints(value) for key, value in schema.items() if key not in _HINTS}
    if isinstance(schema, list):
        return [_without_hints(item) for item in schema]
    return schema
