"""Names each loss once, when it is noticed, and says when it is healed.

Several threads notice the same loss from different sides; this is where they meet. A loss of buckets heals when each of
them is vouched for again.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from consumer.domain.losses import SENTENCES, Loss

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from structlog.typing import FilteringBoundLogger

    from consumer.ops.metrics import Metrics

HEALED = "a loss is healed: all of its buckets are vouched for again"
REPLAYED = "what an operator had begun anew is replayed: all of its buckets are vouched for again"
MOST_NAMED = 10
"""Buckets whose numbers stand in a line of the log."""


class Fall(NamedTuple):
    """Where a bucket had read to, and where it stands now: what lies between is to be replayed."""

    was: int
    now: int


@dataclass(slots=True)
class _Open:
    kind: Loss
    since: float
    buckets: dict[int, int]
    """Those that are not vouched for again, and where each fell to."""
    total: int
    replayed: int = 0
    facts: dict[str, object] = field(default_factory=dict)


class Losses:
    """The losses that one worker knows of. Safe to be used by several threads."""

    def __init__(self, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self._metrics = metrics
        self._log = log
        self._open: list[_Open] = []
        self._explained: set[int] = set()
        self._taken: dict[int, tuple[int, Loss]] = {}
        self._lock = threading.Lock()

    def fell(self, kind: Loss, falls: Mapping[int, Fall], **facts: object) -> None:
        """Name a loss of which these buckets have to be read again from where they stand now."""
        with self._lock:
            for known in self._open:  # what falls again is counted from its last fall; a state lasts until it is over
                for bucket in falls:
                    if known.buckets.get(bucket, -1) >= 0:
                        del known.buckets[bucket]
            self._open = [known for known in self._open if known.buckets]
            self._open.append(_Open(kind, time.monotonic(), {b: fall.now for b, fall in falls.items()}, len(falls)))
        if kind is not Loss.REBUILT:
            self._metrics.count_loss(kind)
        deepest = max(falls.values(), key=lambda fall: fall.was - fall.now, default=None)
        say = self._log.info if kind is Loss.REBUILT else self._log.error
        say(
            SENTENCES[kind],
            loss=kind.value,
            **_named(falls),
            **({"from_offset": deepest.was, "to_offset": deepest.now} if deepest else {}),
            records_to_replay=sum(max(0, fall.was - fall.now) for fall in falls.values()),
            **facts,
        )

    def found(self, kind: Loss, buckets: Iterable[int]) -> None:
        """Name a state in which Redis keeps no promise, once for as long as it lasts."""
        concerned = dict.fromkeys(buckets, -1)
        with self._lock:
            if not concerned or any(known.kind is kind for known in self._open):
                return
            self._open.append(_Open(kind, time.monotonic(), concerned, len(concerned)))
        self._metrics.count_loss(kind)
        self._log.error(SENTENCES[kind], loss=kind.value, **_named(concerned))

    def explain(self, bucket: int) -> None:
        """Say that the next fall of this bucket has been named already."""
        with self._lock:
            self._explained.add(bucket)

    def explained(self, bucket: int) -> bool:
        """Whether the fall of this bucket has been named by somebody else; asked once."""
        with self._lock:
            found = bucket in self._explained
            self._explained.discard(bucket)
        return found

    def took_over(self, starts: Mapping[int, int], begun: Iterable[int], rebuilt: Iterable[int] = ()) -> None:
        """Note where buckets stood when they became ours, and which had to be begun, until it is known why."""
        kinds = {**dict.fromkeys(begun, Loss.VIEW_MISSING), **dict.fromkeys(rebuilt, Loss.REBUILT)}
        with self._lock:
            self._taken.update({b: (start, kinds.get(b, Loss.VIEW_FELL_BACK)) for b, start in starts.items()})

    def learned(self, published: Mapping[int, int]) -> None:
        """Hold against where buckets stood when they became ours how far their changes have been told."""
        with self._lock:
            taken = {bucket: self._taken.pop(bucket) for bucket in published if bucket in self._taken}
        falls = {b: Fall(published[b], start) for b, (start, _) in taken.items() if start < published[b]}
        for kind in (Loss.VIEW_MISSING, Loss.VIEW_FELL_BACK, Loss.REBUILT):
            if theirs := {bucket: fall for bucket, fall in falls.items() if taken[bucket][1] is kind}:
                self.fell(kind, theirs, noticed="on taking them over")
        first = sorted(b for b, (_, kind) in taken.items() if kind is Loss.VIEW_MISSING and b not in falls)
        if first:
            self._log.info("buckets are begun for the first time", **_named(first))

    def vouched(self, applied: Mapping[int, int]) -> None:
        """Say of the buckets that are vouched for now, and how far they have read, which losses that heals."""
        healed = []
        with self._lock:
            self._explained.difference_update(applied)
            for known in self._open:
                for bucket in known.buckets.keys() & applied.keys():
                    start = known.buckets.pop(bucket)
                    known.replayed += max(0, applied[bucket] - start) if start >= 0 else 0
                if not known.buckets:
                    healed.append(known)
            self._open = [known for known in self._open if known.buckets]
        for known in healed:
            if known.kind is not Loss.REBUILT:
                self._metrics.healed.inc()
            self._log.info(
                REPLAYED if known.kind is Loss.REBUILT else HEALED,
                loss=known.kind.value,
                buckets=known.total,
                seconds=round(time.monotonic() - known.since, 2),
                records_replayed=known.replayed,
            )

    def given_up(self, buckets: Iterable[int]) -> None:
        """Forget buckets that are another worker's now."""
        gone = set(buckets)
        with self._lock:
            self._explained -= gone
            for bucket in gone:
                self._taken.pop(bucket, None)
                for known in self._open:
                    known.buckets.pop(bucket, None)
            self._open = [known for known in self._open if known.buckets]

    def ledger(self, kind: Loss) -> None:
        """Count a fault of the ledger: the process says what it is when it ends of it."""
        self._metrics.count_loss(kind)

    @property
    def replaying(self) -> int:
        """Return how many buckets have fallen and are not vouched for again."""
        with self._lock:
            return len({bucket for known in self._open for bucket, start in known.buckets.items() if start >= 0})


def _named(buckets: Iterable[int]) -> dict[str, object]:
    numbers = sorted(buckets)
    return {"buckets": numbers[:MOST_NAMED], "of_buckets": len(numbers)}
