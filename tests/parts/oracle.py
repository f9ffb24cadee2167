"""What must be true of a run, computed from its input and its topics without a line of the product's code."""

from __future__ import annotations

import functools
import json
import struct
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import fastavro

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHEMAS = Path(__file__).parents[2] / "schemas"
OUT = {"stop", "stopall", "unsubscribe", "cancel", "end", "quit"}
BACK = {"start", "yes", "unstop"}

Subscription = tuple[str, str]


class Written(NamedTuple):
    """One record of a topic, decoded."""

    partition: int
    offset: int
    timestamp: int
    record: dict[str, Any]


class Change(NamedTuple):
    """A change of one subscription: where the ledger has it, what it is now, which one it is."""

    location: str
    number: str
    partition: int
    offset: int
    status: str
    version: int


def decode(value: bytes) -> dict[str, Any]:
    """Return the record of a framed value, by the frozen copy of the schema that wrote it."""
    magic, schema_id = struct.unpack(">bI", value[:5])
    assert magic == 0
    record = fastavro.schemaless_reader(BytesIO(value[5:]), _schema(schema_id), None)
    assert isinstance(record, dict)
    return record


@functools.cache
def _schema(schema_id: int) -> Any:
    return fastavro.parse_schema(json.loads((SCHEMAS / "history" / f"{schema_id:08X}.avsc").read_text()))


def members_after(inbound: Iterable[Mapping[str, Any]]) -> set[Subscription]:
    """Return who is opted out once all of this has arrived: the newest keyword of each says, and on a tie the STOP."""
    newest: dict[Subscription, tuple[int, bool]] = {}
    for message in inbound:
        word = message["body"].strip().lower()
        if word in OUT | BACK:
            key = (message["location_id"], message["patient_number"])
            newest[key] = max(newest.get(key, (-1, False)), (message["received_at"], word in OUT))
    return {key for key, (_, out) in newest.items() if out}


def changes_of(ledger: Iterable[Written]) -> list[Change]:
    """Return every change that this ledger makes, partition by partition, in order."""
    state: dict[Subscription, tuple[Any, bool, int]] = {}
    changes = []
    for partition, offset, _, record in sorted(ledger, key=lambda written: written[:2]):
        key = (record["location_id"], record["patient_number"])
        out = record["action"] == "OPT_OUT"
        at, was_out, version = state.get(key, (None, False, 0))
        if at is not None and (record["event_time"], out) <= (at, was_out):
            continue
        if out != was_out:
            version += 1
            changes.append(Change(*key, partition, offset, "OPTED_OUT" if out else "OPTED_IN", version))
        state[key] = (record["event_time"], out, version)
    return changes


def told(changed: Iterable[Written]) -> list[Change]:
    """Return the changes that SubscriptionChanged records tell, by partition and offset of the ledger."""
    return sorted(
        (
            Change(
                record["location_id"],
                record["patient_number"],
                record["ledger"]["partition"],
                record["ledger"]["offset"],
                record["status"],
                record["version"],
            )
            for *_, record in changed
        ),
        key=lambda change: (change.partition, change.offset),
    )


def members_of(changes: Iterable[Change]) -> set[Subscription]:
    """Return who is opted out after these changes."""
    last = {(change.location, change.number): change.status for change in changes}
    return {key for key, status in last.items() if status == "OPTED_OUT"}


def twice(changes: Iterable[Change]) -> list[Change]:
    """Return what was told more than once."""
    return [change for change, count in Counter(changes).items() if count > 1]


def gaps(versions: Iterable[tuple[str, str, int]]) -> set[Subscription]:
    """Return the subscriptions whose versions do not count 1, 2, 3 in the order in which a reader meets them."""
    last: Counter[Subscription] = Counter()
    found = set()
    for location, number, version in versions:
        if version != last[location, number] + 1:
            found.add((location, number))
        last[location, number] = version
    return found
