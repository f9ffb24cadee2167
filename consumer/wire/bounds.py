"""Whether the bytes of a record bound what reading it takes. With some schemas of others they do not.

A type that holds itself lets a few kilobytes nest so deeply that the Avro library, which is compiled, overruns its
stack: the process dies, at each start again, and no exception tells of it. An array of what takes no bytes (nulls) lets
ten of them stand for 2^62 items; records of records of nothing, each twice in the next, take as long without a byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from consumer.wire.schemas import Resolved

MOST_PARTS = 10_000
"""Types that are read for one record, each counted as often as it is read. Ours have some dozens."""
MOST_LEVELS = 64


def is_bounded(schema: Resolved) -> bool:
    """Return whether reading under this schema has a bound.

    No type holds itself, every item of an array takes a byte or more, and there are not too many types in each other.
    """
    try:
        _least(schema, {}, frozenset())
        parts, levels = _size(schema, {})
    except (_Unbounded, RecursionError):
        return False
    return parts <= MOST_PARTS and levels <= MOST_LEVELS


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


def _size(schema: Any, named: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Return how many types are read for one value at most, and how many levels they are in each other."""
    if isinstance(schema, str):
        return named.get(schema, (1, 0))
    if isinstance(schema, list):
        inner = [_size(branch, named) for branch in schema]
    elif "fields" in schema:
        inner = [_size(field["type"], named) for field in schema["fields"]]
    else:
        inner = [_size(schema[key], named) for key in ("type", "items", "values") if key in schema]
    size = 1 + sum(parts for parts, _ in inner), 1 + max((levels for _, levels in inner), default=0)
    if isinstance(schema, dict) and "name" in schema:
        named[schema["name"]] = size
    return size
