"""What a run writes down for the checker: texts sent, changes seen, verdicts given. Times are of time.monotonic()."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.parts.oracle import Subscription


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def milliseconds(when: datetime) -> int:
    """Return a decoded time of Avro as what was sent: whole ms since the epoch."""
    return (when - EPOCH) // timedelta(milliseconds=1)


Place = tuple[str, int, int]
"""Topic, partition and offset."""


@dataclass(slots=True)
class Text:
    """A keyword: `at` is when the patient sent it, in ms since the epoch; `acked` when Kafka had it, at `place`."""

    patient: Subscription
    out: bool
    at: int
    sent: float
    acked: float | None = None
    place: Place | None = None


class Told(NamedTuple):
    """A change that a read_committed reader met: what was told had been applied before."""

    patient: Subscription
    out: bool
    at: int
    seen: float


class Claim(NamedTuple):
    """A sender asked whether a confirmation may be sent: its event id, when it is over and when it was asked, in ms."""

    event_id: str
    kind: str
    expires_at: float
    at: float


class Probe(NamedTuple):
    """A guard's verdict, when it was asked for and when it was there.

    `limit` is the guard's greatest age in s, and `age` that of this answer, where it says one.
    """

    guard: str
    limit: float | None
    patient: Subscription
    kind: str
    reason: str
    began: float
    ended: float
    age: float | None = None

    @property
    def is_definite(self) -> bool:
        """Whether it is one that a sender can act on."""
        return self.kind != "UNKNOWN"
