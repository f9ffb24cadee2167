"""Whether buckets stand where they were left: what moved them back is a loss, and is named with how far they fell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.domain.losses import Loss
from consumer.ops.losses import Fall

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from structlog.typing import FilteringBoundLogger

    from consumer.ops.losses import Losses
    from consumer.ops.metrics import Metrics
    from consumer.suppression.answers import Server


class Continuity:
    """Remembers what an applier found out of place until the server that it was found on is known."""

    def __init__(self, losses: Losses, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self._losses = losses
        self._metrics = metrics
        self._log = log
        self._begun: dict[int, Loss] = {}
        self._moved: dict[int, Fall] = {}
        self._servers: dict[int, Server] = {}

    def begun(self, bucket: int, *, damaged: bool) -> None:
        """Note that a bucket was begun at offset 0, because it was missing or damaged."""
        self._begun.setdefault(bucket, Loss.VIEW_DAMAGED if damaged else Loss.VIEW_MISSING)

    def moved(self, bucket: int, was: int, now: int) -> None:
        """Note that a bucket does not stand where it was left."""
        before = self._moved.get(bucket)
        self._moved[bucket] = Fall(before.was if before else was, now)

    def took_over(self, starts: Mapping[int, int], rebuilt: Collection[int] = ()) -> None:
        """Note where new buckets stand: the publisher learns how far they had come before."""
        self._losses.took_over(starts, [bucket for bucket in starts if self._begun.pop(bucket, None)], rebuilt)

    def given_up(self, buckets: Iterable[int]) -> None:
        """Forget buckets that are another worker's now."""
        gone = list(buckets)
        for bucket in gone:
            self._begun.pop(bucket, None)
            self._moved.pop(bucket, None)
            self._servers.pop(bucket, None)
        self._losses.given_up(gone)

    @property
    def broken(self) -> bool:
        """Return whether something was found that has no name yet."""
        return bool(self._moved or self._begun)

    def met(self, servers: Mapping[int, Server], standing: Mapping[int, int], rebuilt: Collection[int] = ()) -> bool:
        """Name what was found, now that it is known on which servers; False if there was nothing to name.

        `servers` tells who serves each bucket, `standing` where all of them stand: under another server a bucket is to
        be vouched for again, wherever it stands. Those of `rebuilt` an operator had begun anew.
        """
        replaced = self._replaced(servers)
        if not replaced and not self.broken:
            return False
        moved, self._moved = self._moved, {}
        begun, self._begun = self._begun, {}
        moved = {**{bucket: Fall(0, 0) for bucket in begun}, **moved}
        falls = {bucket: fall for bucket, fall in moved.items() if fall.now < fall.was or bucket in begun}
        self._metrics.rewinds.inc(len(falls))
        named = {bucket: fall for bucket, fall in falls.items() if not self._losses.explained(bucket)}
        for (last, run), buckets in replaced.items():
            theirs = {b: named.pop(b, Fall(standing.get(b, 0), standing.get(b, 0))) for b in buckets}
            fallen = sum(fall.now < fall.was for fall in theirs.values())
            missing = len(begun.keys() & theirs.keys())
            self._losses.fell(Loss.OTHER_SERVER, theirs, fallen=fallen, missing=missing, run=run, last_run=last)
        kinds = {b: Loss.REBUILT if b in rebuilt else begun.get(b, Loss.VIEW_FELL_BACK) for b in named}
        for kind in sorted(set(kinds.values())):
            self._losses.fell(kind, {b: fall for b, fall in named.items() if kinds[b] is kind})
        if ahead := sorted(moved.keys() - falls.keys()):
            self._log.info("another worker read on in these buckets; going on where they stand", buckets=ahead[:10])
        return True

    def _replaced(self, servers: Mapping[int, Server]) -> dict[tuple[str, str], list[int]]:
        """Return the buckets that another server serves than before, by the run ids of the last one and of this one."""
        replaced: dict[tuple[str, str], list[int]] = {}
        for bucket, server in servers.items():
            last = self._servers.get(bucket)
            if last is not None and last.identity != server.identity:
                replaced.setdefault((last.run, server.run), []).append(bucket)
        self._servers.update(servers)
        return replaced
