"""Records as the pieces that they are made of on the wire, and damage done to them piece by piece."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NUMBERS = (0, 1, 2, 3, 63, 64, 255, 2**15, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1)
"""Where lengths, counts, indices and values begin to be too much for somebody. Each is used with both signs."""
TEXTS = (b"", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b":", b"epoch", b"+" * 40, b"\n" * 9)
"""Surrogates, overlong forms and what is beyond Unicode among them."""


def varint(number: int) -> bytes:
    """Return a number as Avro writes an int or a long; it may have more than 64 bits."""
    number = 2 * number if number >= 0 else -2 * number - 1
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def pieces(schema: Any, value: Any, named: dict[str, Any] | None = None) -> Iterator[bytes]:
    """Give the bytes of a value piece by piece: each length, count, index, number and text on its own.

    Of unions it knows those with null, of maps and arrays of nulls the empty ones.
    """
    named = {} if named is None else named
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    if isinstance(schema, list):
        index = next(i for i, branch in enumerate(schema) if (branch == "null") is (value is None))
        yield varint(index)
        yield from pieces(schema[index], value, named)
    elif isinstance(schema, str):
        yield from _primitive(schema, value)
    elif schema["type"] in ("record", "enum", "array", "map"):
        if "name" in schema:
            named[schema["name"]] = schema
        yield from _complex(schema, value, named)
    else:
        yield from pieces(schema["type"], value, named)


def _primitive(kind: str, value: Any) -> Iterator[bytes]:
    if kind == "string":
        yield varint(len(value.encode()))
        yield value.encode()
    elif kind != "null":
        yield varint(value)


def _complex(schema: dict[str, Any], value: Any, named: dict[str, Any]) -> Iterator[bytes]:
    if schema["type"] == "record":
        for field in schema["fields"]:
            yield from pieces(field["type"], value[field["name"]], named)
    elif schema["type"] == "enum":
        yield varint(schema["symbols"].index(value))
    else:
        if value:
            yield varint(len(value))
        for item in value:
            yield from pieces(schema["items"], item, named)
        yield varint(0)


class Damage:
    """An endless series of damaged values, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._ways: tuple[Callable[[list[bytes]], bytes], ...] = (
            self._other_piece,
            self._other_piece,
            self._other_piece,
            self._flipped,
            self._cut,
            self._repeated,
            self._moved,
            self._anything,
        )

    def of(self, parts: list[bytes]) -> bytes:
        """Return a value of these pieces, damaged in one to three ways."""
        value = self._random.choice(self._ways)(list(parts))
        for _ in range(self._random.choice((0, 0, 1, 2))):
            value = self._random.choice(self._ways)([value[:5], value[5:]])
        return value

    def _other_piece(self, parts: list[bytes]) -> bytes:
        for _ in range(self._random.choice((1, 1, 2, 3))):
            place = self._random.randrange(1, len(parts))
            number = self._random.choice(NUMBERS) * self._random.choice((1, -1))
            parts[place] = self._random.choice((varint(number), varint(number), self._random.choice(TEXTS)))
        return b"".join(parts)

    def _flipped(self, parts: list[bytes]) -> bytes:
        value = bytearray(b"".join(parts))
        for _ in range(self._random.randint(1, 4)):
            if value:
                value[self._random.randrange(len(value))] ^= 1 << self._random.randrange(8)
        return bytes(value)

    def _cut(self, parts: list[bytes]) -> bytes:
        value = b"".join(parts)
        start = self._random.randrange(len(value) + 1)
        return value[:start] + value[start + self._random.choice((1, 2, 10**6)) :]

    def _repeated(self, parts: list[bytes]) -> bytes:
        place = self._random.randrange(len(parts))
        parts[place] *= self._random.choice((2, 3, 50))
        return b"".join(parts)

    def _moved(self, parts: list[bytes]) -> bytes:
        one, other = self._random.randrange(len(parts)), self._random.randrange(len(parts))
        parts[one], parts[other] = parts[other], parts[one]
        return b"".join(parts)

    def _anything(self, parts: list[bytes]) -> bytes:
        return parts[0] + self._random.randbytes(self._random.randint(0, 60))
