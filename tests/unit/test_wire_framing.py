"""The Confluent wire format."""

from __future__ import annotations

import pytest

from consumer.wire.codec import Reason, Unreadable
from consumer.wire.framing import HEADER_SIZE, header, schema_id_of


def test_header_is_magic_and_id() -> None:
    """A header is a zero byte and the schema id in four bytes, the highest first."""
    assert header(0x534D5301) == b"\x00SMS\x01"
    assert len(header(1)) == HEADER_SIZE


@pytest.mark.parametrize("schema_id", [0, 1, 0x534D5301, 2**32 - 1])
def test_id_comes_back(schema_id: int) -> None:
    """The id that was written is read, with whatever body behind it."""
    assert schema_id_of(header(schema_id) + b"body") == schema_id


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x00\x00\x00\x01", b"\x01\x00\x00\x00\x01x", b"STOP please"])
def test_other_bytes_are_not_framed(value: bytes) -> None:
    """What does not begin with a whole header is not framed."""
    with pytest.raises(Unreadable) as caught:
        schema_id_of(value)
    assert caught.value.reason == Reason.NOT_FRAMED
