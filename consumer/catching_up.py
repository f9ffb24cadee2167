"""Who may read where buckets are far behind: a few at a time, so that those that are well do not wait behind all.

What is fetched stands in one queue for all buckets. If every bucket that is replayed were read at once, a STOP in a
bucket that is well would wait behind tens of thousands of old records, and no bucket would be definite before the last.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from collections.abc import Set as AbstractSet

    from structlog.typing import FilteringBoundLogger

FAR = 1000
"""Records behind from which on a bucket has to wait for its turn."""
CAUGHT_UP = 100
"""Records behind at which a turn is over: texts that come in all the time never leave none."""
AT_ONCE = 4
"""Buckets that have a turn at the same time."""
TURN_SECONDS = 15.0
"""How long a turn lasts at most while others wait: the queue is emptied with each change, and a bucket may be stuck."""
SAY_AFTER, SAY_EVERY = 2.0, 5.0
"""Seconds of being far behind after which, and then how often, a line in the log says so."""

Bucket = TypeVar("Bucket", bound="Hashable")


@dataclass(slots=True)
class _Replay:
    """What is said of one time of being far behind."""

    began: float
    said: float
    buckets: AbstractSet[Hashable] = frozenset()
    records: int = 0
    records_said: int = 0


class CatchingUp(Generic[Bucket]):
    """Hands out turns, and says how far they have come. `clock` gives seconds."""

    def __init__(self, log: FilteringBoundLogger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._turns: dict[Bucket, float] = {}
        self._had: dict[Bucket, float] = {}
        self._replay: _Replay | None = None

    def waiting(self, left: Mapping[Bucket, int]) -> set[Bucket]:
        """Return the buckets that may not read now. `left` is how many records each has before it that may be read.

        A bucket that is missing there has no turn any more; it was given up, or must not be read for another reason.
        """
        now = self._clock()
        far = {bucket: records for bucket, records in left.items() if records > FAR}
        for bucket in [b for b in self._turns if left.get(b, 0) <= CAUGHT_UP]:
            del self._turns[bucket]
        candidates = sorted(far.keys() - self._turns.keys(), key=lambda b: (self._had.get(b, 0.0), far[b]))
        for bucket, since in list(self._turns.items()):
            if candidates and now - since > TURN_SECONDS:
                del self._turns[bucket]
                self._had[bucket] = now
                candidates.append(bucket)
        for bucket in candidates[: AT_ONCE - len(self._turns)]:
            self._turns[bucket] = now
        if not far and not self._turns:
            self._had.clear()
        self._say(now, left, {b: records for b, records in left.items() if b in far or b in self._turns})
        return far.keys() - self._turns.keys()

    def applied(self, bucket: Bucket, records: int) -> None:
        """Count what was applied of a bucket, if it is one that catches up."""
        if self._replay is not None and bucket in self._turns:
            self._replay.records += records

    def _say(self, now: float, left: Mapping[Bucket, int], far: Mapping[Bucket, int]) -> None:
        replay = self._replay
        if replay is None:
            if far:
                self._replay = _Replay(now, now - SAY_EVERY + SAY_AFTER, far.keys())
            return
        behind, replay.buckets = replay.buckets, far.keys()
        if not far:
            self._replay = None
            if now - replay.began > SAY_AFTER and behind <= left.keys():
                self._log.info(
                    "caught up",
                    records=replay.records,
                    seconds=round(now - replay.began, 1),
                    records_per_second=round(replay.records / (now - replay.began)),
                )
        elif now - replay.said > SAY_EVERY:
            rate = (replay.records - replay.records_said) / (now - max(replay.said, replay.began))
            replay.said, replay.records_said = now, replay.records
            records_left = sum(far.values())
            self._log.info(
                "catching up",
                buckets=len(far),
                records_left=records_left,
                records_per_second=round(rate),
                seconds_left=round(records_left / rate) if rate else None,
            )
