"""Whether the bytes of a record bound what reading it takes. With some schemas of others they do not.

A type that holds itself lets a few kilobytes nest so deeply that the Avro library, which is compiled, overruns its
stack: the process dies, at each start again, and no exception tells of it. An array of what takes no bytes (nulls) lets
ten of them stand for 2^62 items; one of a thousand nulls and a number has each byte stand for a thousand steps; records
of records of nothing, each twice in the next, take as long without a byte. Meanwhile no other thread runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from consumer.wire.schemas import Resolved

MOST_PARTS = 10_000
"""Types that are read for one record, each counted as often as it is read. Ours have some dozens."""
MOST_PARTS_A_BYTE = 16
"""The same for each byte that an array or a map goes on."""
MOST_LEVELS = 64

_FLOATING = frozenset({"boolean", "float", "double"})
_PRIMITIVES = _FLOATING | {"null", "string", "bytes", "int", "long"}
_WORDS = _PRIMITIVES | {"record", "error", "enum", "fixed", "array", "map", "union", "error_union", "request"}
"""What the library never takes for a name, though it lets a type be named so, and finds other bounds there."""


def is_bounded(schema: Resolved, *, skipping_blindly: bool = False) -> bool:
    """Return whether reading under this parsed schema has a bound.

    No type holds itself, each item of an array takes bytes enough for its parts, and there are not too many types in
    each other. `skipping_blindly` is for a reader that goes on over the end of the bytes, as the library does where it
    skips a value of fixed length.
    """
    try:
        cost = _Costs(skipping_blindly=skipping_blindly).of(schema)
    except (_Unbounded, RecursionError):
        return False
    return cost.parts <= MOST_PARTS and cost.levels <= MOST_LEVELS


class _Unbounded(Exception):
    """A type that holds itself, a name that stands for two types, or an array of next to nothing."""


class _Cost(NamedTuple):
    """What reading one value takes at most, with one item in each array."""

    parts: int
    levels: int = 0
    unpaid: int = 1
    """How many parts more than its bytes allow, however many items its arrays have."""


_NOTHING = _Cost(1)
_BYTE = _Cost(1, unpaid=1 - MOST_PARTS_A_BYTE)
"""What takes a byte or more."""


class _Costs:
    """Adds up the types of a schema. A name is known once its type is complete, so none is found within itself."""

    def __init__(self, *, skipping_blindly: bool) -> None:
        self._of_fixed_length = _NOTHING if skipping_blindly else _BYTE
        self._named: dict[str, _Cost] = {}

    def of(self, schema: Any) -> _Cost:
        """Return what a value of this type takes. Raises _Unbounded."""
        if isinstance(schema, list):
            return _joined([self.of(branch) for branch in schema], either=True)
        if isinstance(schema, str):
            return self._of_name(schema)
        kind = schema["type"]
        if kind == "array":
            return self._of_items(self.of(schema["items"]))
        if kind == "map":
            return self._of_items(_joined([_BYTE, self.of(schema["values"])]))
        if "name" not in schema:
            return self._of_name(kind)
        cost = self._of_definition(schema)
        if schema["name"] in _WORDS or schema["name"] in self._named:
            raise _Unbounded
        self._named[schema["name"]] = cost
        return cost

    def _of_name(self, name: str) -> _Cost:
        if name in _PRIMITIVES:
            return _NOTHING if name == "null" else self._of_fixed_length if name in _FLOATING else _BYTE
        if name not in self._named:
            raise _Unbounded
        return self._named[name]

    def _of_items(self, item: _Cost) -> _Cost:
        if item.unpaid > 0:
            raise _Unbounded
        return _joined([_BYTE, item._replace(unpaid=0)])

    def _of_definition(self, schema: Any) -> _Cost:
        """Return the same of a record, an enum, or a fixed number of bytes."""
        if "fields" in schema:
            return _joined([self.of(field["type"]) for field in schema["fields"]])
        return _NOTHING if schema.get("size", 1) <= 0 else self._of_fixed_length if "size" in schema else _BYTE


def _joined(inner: list[_Cost], *, either: bool = False) -> _Cost:
    """Return what all of these take together; `either` is for a union, whose first byte says which one it is."""
    parts, levels = 1 + sum(cost.parts for cost in inner), 1 + max((cost.levels for cost in inner), default=0)
    unpaid = [cost.unpaid for cost in inner]
    return _Cost(parts, levels, _BYTE.unpaid + max(unpaid, default=0) if either else 1 + sum(unpaid))
