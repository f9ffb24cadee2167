"""What goes wrong on the wire. No text here quotes a record: no body, no number."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a record cannot be read. For metrics and dead-letter headers."""

    NO_VALUE = "no-value"
    NOT_FRAMED = "not-framed"
    UNKNOWN_SCHEMA = "unknown-schema"
    WRONG_RECORD = "wrong-record"
    NOT_AVRO = "not-avro"
    TRAILING_BYTES = "trailing-bytes"
    NOT_CANONICAL = "not-canonical"
    """Readable, but not what any writer of this schema would have written."""
    INCOMPATIBLE = "incompatible"
    """Written with another version, which today's schema cannot read: a newer symbol, or a field without default."""
    UNKNOWN_SYMBOL = "unknown-symbol"
    OPT_IN_BY_OTHER = "opt-in-by-other"
    """An opt-in that does not come from the patient: there is no such thing."""
    INCOMPLETE_KEYWORD = "incomplete-keyword"
    """A patient's keyword without its evidence."""


class Unreadable(Exception):
    """A record that cannot be read, now or ever. `reason` is a short slug."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class UnknownSchema(LookupError):
    """No Avro schema has this id."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"no Avro schema has the id {schema_id}")
        self.schema_id = schema_id


class SchemaError(Exception):
    """One sentence for a person: what is wrong with the schemas, where, and what to do."""


class SchemaSourceUnavailable(Exception):
    """The schema registry did not answer. Nothing is known of the record: ask again later, skip nothing."""


class SchemaAwaited(SchemaSourceUnavailable):
    """The schema with this id is asked for beside, and not known yet. Nothing is known of the record."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"the schema with the id {schema_id} is asked for")
        self.schema_id = schema_id
