"""What the view is asked and answers: batches, positions, counts, and the status that each script gives its bucket."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.domain.bucket import Decided, Entry, Waiting
    from consumer.suppression.scripts import ViewUnavailable


class OtherLedger(Exception):
    """Redis holds the view of another ledger than the one that is being read. Nothing may be written into it."""


class Status(StrEnum):
    """What a script says of its bucket."""

    OK = "OK"
    REFUSED = "REFUSED"
    MISSING = "MISSING"
    DAMAGED = "DAMAGED"
    OTHER = "OTHER"
    BEHIND = "BEHIND"
    CHANGED = "CHANGED"
    EVICTS = "EVICTS"
    AWAY = "AWAY"
    """The script could not be asked, where others could: the bucket's part of Redis is away."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Records [position, end) of one bucket's ledger partition; `published` is how far the changes are known told."""

    bucket: int
    position: int
    end: int
    entries: Sequence[Entry]
    published: int = 0


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a batch: where the bucket stands now, how many changes wait, what each record did."""

    status: Status
    epoch: str
    applied: int
    waiting: int = 0
    decisions: tuple[Decided, ...] = ()
    problem: ViewUnavailable | None = None
    """Why it is AWAY."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What waits to be published, and how far the bucket had read at that moment."""

    status: Status
    applied: int
    published: int
    changes: tuple[Waiting, ...] = ()


@dataclass(frozen=True, slots=True)
class Meta:
    """A bucket's epoch and positions: read up to `applied`, told up to `published`, with `waiting` changes to tell."""

    epoch: str
    applied: int
    published: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Server:
    """The Redis server that answers: its run, its replication history, its clock in ms."""

    run: str
    replication: str
    time: int

    @property
    def identity(self) -> tuple[str, str]:
        """What tells this run of this server from every other one."""
        return self.run, self.replication


@dataclass(frozen=True, slots=True)
class Audit:
    """What was counted in a bucket, against what its meta says."""

    status: Status
    members: int
    members_expected: int
    states: int
    states_expected: int


@dataclass(frozen=True, slots=True)
class Window:
    """A maintenance window of a bucket: begin and end by Redis's clock, how much of it is left, in ms.

    `age` is how old what the bucket is vouched for is, in ms, where somebody vouches for it.
    """

    status: Status
    begin: int
    end: int
    left: int
    age: int
