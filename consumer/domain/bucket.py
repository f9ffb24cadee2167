"""A bucket of the view as a pure value: what the Lua scripts of `suppression/` do to Redis, without Redis.

It is the reference that a property test holds the scripts to, and the fold by which tests and `verify` know what a
ledger partition must lead to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumer.domain.events import Status
from consumer.domain.subscription import Decision, decide

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from consumer.domain.events import Action
    from consumer.domain.subscription import Subscription


@dataclass(frozen=True, slots=True)
class Entry:
    """A ledger record as the state rules see it.

    `raw` is its bytes, for the outbox; `confirmation` the event id of the confirmation that it would bring as a change,
    empty where it would bring none that can still be sent.
    """

    offset: int
    location_id: str
    digits: str = field(repr=False)
    action: Action
    event_time: int
    keyword: str
    raw: bytes = field(default=b"", repr=False)
    confirmation: str = ""


@dataclass(frozen=True, slots=True)
class Decided:
    """What one entry did; `version` is the subscription's after it."""

    offset: int
    decision: Decision
    version: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A change that is not known to be published."""

    offset: int
    version: int
    raw: bytes = field(repr=False)


class Refused(Exception):
    """A batch does not continue what the bucket holds; reading goes on at `applied`."""

    def __init__(self, applied: int) -> None:
        super().__init__(f"refused: this bucket has applied up to offset {applied}")
        self.applied = applied


class OtherLog(Exception):
    """A batch comes from another ledger than the bucket does."""


@dataclass(slots=True)
class Bucket:
    """One bucket, begun at offset 0 of one log."""

    log: str
    applied: int = 0
    published: int = 0
    subscriptions: dict[tuple[str, str], Subscription] = field(default_factory=dict)
    outbox: list[Waiting] = field(default_factory=list)

    def apply(self, log: str, position: int, entries: Sequence[Entry], end: int, published: int = 0) -> list[Decided]:
        """Apply the records of [position, end) and return what each did that was not applied before.

        Raises OtherLog, or Refused when `position` lies above what was applied: a gap is never jumped.
        """
        if log != self.log:
            raise OtherLog
        if position > self.applied:
            raise Refused(self.applied)
        if published > self.published:
            self.trim(published)
        decided = [self._apply(entry) for entry in entries if entry.offset >= self.applied]
        self.applied = max(self.applied, end)
        return decided

    def _apply(self, entry: Entry) -> Decided:
        key = (entry.location_id, entry.digits)
        decision, self.subscriptions[key] = decide(
            self.subscriptions.get(key), entry.action, entry.event_time, entry.keyword
        )
        version = self.subscriptions[key].version
        if decision is Decision.CHANGED and entry.offset >= self.published:
            self.outbox.append(Waiting(entry.offset, version, entry.raw))
        return Decided(entry.offset, decision, version)

    def trim(self, below: int) -> None:
        """Forget the changes below an offset that is known to be committed as published."""
        self.published = max(self.published, below)
        self.outbox = [waiting for waiting in self.outbox if waiting.offset >= below]

    def members(self) -> set[tuple[str, str]]:
        """Return who is opted out, as (location id, digits)."""
        return {key for key, state in self.subscriptions.items() if state.status is Status.OPTED_OUT}


def fold(entries: Iterable[Entry]) -> Bucket:
    """Return the bucket that a whole ledger partition leads to."""
    bucket = Bucket(log="")
    for entry in entries:
        bucket.apply("", entry.offset, [entry], entry.offset + 1)
    return bucket
