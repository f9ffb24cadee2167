"""The state rules: what one ledger record does to one subscription. The last event wins, by the patient's clock.

The same rules stand in `suppression/apply.lua`; a property test compares the two. They are frozen: a ledger that was
decided by them must be decided by them again. Another rule is a new ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from consumer.domain.events import STATUS_OF, Status

if TYPE_CHECKING:
    from consumer.domain.events import Action


class Decision(StrEnum):
    """What one ledger record did."""

    CHANGED = "CHANGED"
    UNCHANGED = "UNCHANGED"
    STALE = "STALE"


@dataclass(frozen=True, slots=True)
class Subscription:
    """The state of one (location, patient).

    `event_time` is that of the newest record; `since` and `keyword` are those of the record that last changed it;
    `version` counts the changes.
    """

    status: Status
    event_time: int
    version: int
    since: int
    keyword: str


def decide(stored: Subscription | None, action: Action, event_time: int, keyword: str) -> tuple[Decision, Subscription]:
    """Return what a record does, and the state after it. `stored` is None for one that was never touched."""
    status = STATUS_OF[action]
    if stored is None:
        if status is Status.OPTED_IN:  # never opted out, so there is nothing to change
            return Decision.UNCHANGED, Subscription(status, event_time, 0, event_time, keyword)
        return Decision.CHANGED, Subscription(status, event_time, 1, event_time, keyword)
    newer = event_time > stored.event_time
    tie_won = event_time == stored.event_time and status is Status.OPTED_OUT and stored.status is Status.OPTED_IN
    if not (newer or tie_won):
        return Decision.STALE, stored
    if status is stored.status:
        return Decision.UNCHANGED, Subscription(status, event_time, stored.version, stored.since, stored.keyword)
    return Decision.CHANGED, Subscription(status, event_time, stored.version + 1, event_time, keyword)
