"""Up to which time everything that inbound held is in the ledger: told by offsets alone, without a word of anyone.

A sample says where each inbound partition ended at some time. A classifier commits an offset only when everything below
it is acknowledged in the ledger. So the newest sample whose every end is committed tells the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

Partition = TypeVar("Partition", bound=Hashable)

MOST_SAMPLES = 900
MANY, APART = 60, 1000
"""Samples above which one that follows the last one in less than this, in the unit of their times, is not kept: none is
needed to be right, and those of a quarter of an hour are to fit in."""


class Bounds(NamedTuple):
    """The first offset of a partition and the one after its last."""

    start: int
    end: int


class Freshness(Generic[Partition]):
    """Remembers samples, and says which of them the committed offsets have reached."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, dict[Partition, int]]] = deque(maxlen=MOST_SAMPLES)
        self._newest: int | None = None
        """The last time that was read, be it of a sample that was kept or not."""
        self.holding: frozenset[Partition] = frozenset()
        """The partitions that kept the newest sample from being reached when it was last asked."""

    def forget(self) -> None:
        """Drop all samples: their times are of another clock than the next ones'."""
        self._samples.clear()
        self._newest = None

    def reached(
        self, time: int, committed: Mapping[Partition, int | None], bounds: Mapping[Partition, Bounds]
    ) -> int | None:
        """Return the time of the newest sample that is reached, in the unit of `time`; None if none is.

        `time` was read before `bounds` was asked for, and `committed` before `bounds`. A partition that nobody ever
        committed for, or whose committed offset lies outside what it holds, holds everything back. Where the clock was
        set back all earlier samples are dropped: their times lie ahead, and would look new until it has caught up.
        """
        if self._newest is not None and self._newest > time:
            self.forget()
        self._newest = time
        if len(self._samples) < MANY or time - self._samples[-1][0] >= APART:
            self._samples.append((time, {partition: bound.end for partition, bound in bounds.items()}))
        outside = frozenset(
            partition
            for partition, (start, end) in bounds.items()
            if not start <= _number(committed.get(partition)) <= end
        )
        behind = frozenset(
            partition for partition, bound in bounds.items() if _number(committed.get(partition)) < bound.end
        )
        self.holding = outside | behind
        if any(committed.get(partition) is not None for partition in outside):
            return None  # an offset that the partition does not hold says nothing of any sample
        for sampled, ends in reversed(self._samples):
            if all(_number(committed.get(partition)) >= end for partition, end in ends.items()):
                while self._samples[0][0] < sampled:
                    self._samples.popleft()
                return sampled
        return None


def _number(offset: int | None) -> int:
    return -1 if offset is None else offset
