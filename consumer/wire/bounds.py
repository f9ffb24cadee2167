"""Whether the bytes of a record bound what reading it takes. With some schemas of others they do not.

A type that holds itself lets a few kilobytes nest so deeply that the Avro library, which is compiled, overruns its
stack: the process dies, at each start again, and no exception tells of it. An array of what takes no bytes (nulls) lets
ten of them stand for 2^62 items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from consumer.wire.schemas import Parsed


def is_bounded(schema: Parsed) -> bool:
    """Return whether no type of this schema holds itself, and every item of an array takes a byte or more."""
    try:
        _least(schema, {}, frozenset())
    except _Unbounded:
        return False
    return True


class _Unbounded(Exception):
    """A type that holds itself, or an array of nothing."""


def _least(schema: Any, named: dict[str, int], within: frozenset[str]) -> int:
    """Return how many bytes a value takes at least: 0, or 1 for any number above. `named` are the types seen so far."""
    if isinstance(schema, list):
        for branch in schema:
            _least(branch, named, within)
        return 1
    if isinstance(schema, str):
        if schema in within:
            raise _Unbounded
        return named.get(schema, int(schema != "null"))
    if "name" in schema:
        named[schema["name"]] = _of_named(schema, named, within)
        return named[schema["name"]]
    if schema["type"] == "array" and not _least(schema["items"], named, within):
        raise _Unbounded
    if schema["type"] == "map":  # each entry has a key, which takes a byte
        _least(schema["values"], named, within)
    return 1 if schema["type"] in ("array", "map") else _least(schema["type"], named, within)


def _of_named(schema: Any, named: dict[str, int], within: frozenset[str]) -> int:
    """Return the same of a record, an enum, or a fixed number of bytes."""
    if "fields" not in schema:
        return int(schema.get("size", 1) > 0)
    inside = within | {schema["name"]}
    return max((_least(field["type"], named, inside) for field in schema["fields"]), default=0)
