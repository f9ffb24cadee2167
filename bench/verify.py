"""What came out of a worker's pass, held against its input by a fold that shares no code with the product."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.parts import oracle

if TYPE_CHECKING:
    from bench.traffic import Traffic
    from tests.parts.oracle import Subscription, Written
    from tests.parts.system import System

MARKERS_S = 10.0
"""A commit returns before its markers are written; until then a reader of what is committed sees less."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that a worker left behind."""

    ledger: list[Written]
    changed: list[Written]
    confirmations: list[Written]
    reviews: list[Written]
    dead: list[Written]
    members: set[Subscription]
    committed: dict[int, int]
    """How far its appliers' group has committed each partition of the ledger."""
    ends: dict[int, int]
    """The end of each partition of the ledger."""


def outcome(system: System) -> Outcome:
    """Return what a worker that has ended left behind."""
    ledger = system.read("ledger")
    changes = len(oracle.changes_of(ledger))
    return Outcome(
        ledger=ledger,
        changed=_read(system, "changed", changes),
        confirmations=_read(system, "confirmations", changes),
        reviews=system.read("reviews"),
        dead=system.read("dead"),
        members=system.members(),
        committed=system.committed("apply", "ledger"),
        ends=system.ends("ledger"),
    )


def _read(system: System, role: str, expected: int) -> list[Written]:
    deadline = time.monotonic() + MARKERS_S
    while len(found := system.read(role)) < expected and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def faults(traffic: Traffic, found: Outcome) -> list[str]:
    """Return what is wrong with the output, a clause for each thing; none of them names a patient."""
    changes = oracle.changes_of(found.ledger)
    told = oracle.told(found.changed)
    checks = {
        f"the ledger has {len(found.ledger)} records, not the {len(traffic.keywords)} keywords, each once": (
            Counter(record["origin"]["message_id"] for *_, record in found.ledger)
            == Counter(keyword["message_id"] for keyword in traffic.keywords)
        ),
        f"{len(oracle.twice(told))} changes were told twice": not oracle.twice(told),
        f"{len(told)} changes were told, not the {len(changes)} that the ledger makes": told == changes,
        f"{len(found.confirmations)} confirmations were asked for, not one for each of {len(told)} changes": (
            Counter(record["change_event_id"] for *_, record in found.confirmations)
            == Counter(record["event_id"] for *_, record in found.changed)
        ),
        f"Redis holds {len(found.members)} patients, not those who texted STOP last": (
            found.members == oracle.members_after(traffic.keywords) == oracle.members_of(changes)
        ),
        f"{len(found.reviews)} near misses went to review, not {traffic.near_misses}": (
            len(found.reviews) == traffic.near_misses
        ),
        f"{len(found.dead)} records went to the dead letters": not found.dead,
        "the appliers' committed offsets are not the ends of the ledger": (
            {number: max(0, offset) for number, offset in found.committed.items()} == found.ends
        ),
    }
    return [what for what, holds in checks.items() if not holds]
