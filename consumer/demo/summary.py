"""The demo's day in figures: the table for people, and the counts of the last line."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from consumer.demo.texts import LOCATIONS
from consumer.domain.events import InboundMessage, Status
from consumer.guard import VerdictKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from consumer.demo.expectation import Expectation
    from consumer.demo.observation import Observation, Seen
    from consumer.demo.texts import Record

COLUMNS = ("texts", "opted out", "in again", "confirmed", "to staff", "dead letters", "may text now", "may not")
NOBODYS = "(nobody's)"


def rows(published: Sequence[Record], seen: Seen, found: Observation) -> dict[str, Sequence[int]]:
    """Return the table: for each location, for what has none, and for all, a figure for each column."""
    columns: list[Counter[str]] = [
        _counter(getattr(record, "location_id", "") for record in published),
        _counter(c.location_id for c in seen.changes.values() if c.status is Status.OPTED_OUT),
        _counter(c.location_id for c in seen.changes.values() if c.status is Status.OPTED_IN),
        _counter(confirmation.location_id for confirmation in seen.confirmations.values()),
        _counter(review.location_id for review in seen.reviews.values()),
        _counter(r.location_id if isinstance(r, InboundMessage) else "" for _, r in seen.dead_letters.values()),
        _counter(location for (location, _), kind in found.verdicts.items() if kind is VerdictKind.ALLOWED),
        _counter(location for (location, _), kind in found.verdicts.items() if kind is not VerdictKind.ALLOWED),
    ]
    table = {name: [column[name] for column in columns] for name in (*LOCATIONS, NOBODYS)}
    return {**table, "all": [column.total() for column in columns]}


def _counter(locations: Iterable[str]) -> Counter[str]:
    return Counter(location or NOBODYS for location in locations)


def counted(inbound: int, wanted: Expectation, found: Observation) -> dict[str, int]:
    """Return the counts of the last line, see `play`."""
    statuses = Counter(status for made in found.changes.values() for _, status in made)
    verdicts = Counter(found.verdicts.values())
    return {
        "inbound": inbound,
        "opted_out": statuses["OPTED_OUT"],
        "opted_in": statuses["OPTED_IN"],
        "ignored": wanted.ignored,
        "dead_lettered": found.dead_letters.total(),
        "confirmations": sum(map(len, found.confirmations.values())),
        "sends_allowed": verdicts[VerdictKind.ALLOWED],
        "sends_suppressed": verdicts[VerdictKind.SUPPRESSED],
    }
