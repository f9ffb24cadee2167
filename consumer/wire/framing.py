"""The Confluent wire format: a zero byte, the schema id in four bytes (big-endian), then the Avro body."""

from __future__ import annotations

import struct

from consumer.wire.errors import Reason, Unreadable

_HEADER = struct.Struct(">BI")
HEADER_SIZE = _HEADER.size
MAGIC = 0


def header(schema_id: int) -> bytes:
    """Return the five bytes that stand before a body written with this schema."""
    return _HEADER.pack(MAGIC, schema_id)


def schema_id_of(value: bytes) -> int:
    """Return the schema id of a framed record.

    Raises Unreadable (not-framed) for bytes that do not begin with a header.
    """
    if len(value) < HEADER_SIZE or value[0] != MAGIC:
        raise Unreadable(Reason.NOT_FRAMED)
    schema_id: int = _HEADER.unpack_from(value)[1]
    return schema_id
