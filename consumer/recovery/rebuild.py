"""Makes the owners of buckets replay them from the ledger's beginning, and watches until they are vouched for again.

A bucket is begun anew under another epoch, empty, as after a loss. Its owner notices by itself within a second or two.
That is safe at any time: what was published stays published, and until the replay is over guards answer UNKNOWN.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from consumer import deployment
from consumer.kafka.committed import KeptOffsets, Partition
from consumer.kafka.errors import KafkaGone
from consumer.kafka.offsets import Offsets, OffsetsUnavailable
from consumer.ledger import LedgerFault
from consumer.suppression.contents import Reading
from consumer.suppression.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from consumer.settings import Settings

LOOK_EVERY = 0.5
PATIENCE = 5.0
"""Seconds without any progress after which whoever waits is told what it waits for."""
NOBODY_AFTER = 30.0
"""Seconds without any progress after which nobody is taken to be applying: a dead worker's buckets move within 10 s."""


class NotRebuilt(Exception):
    """The buckets were begun anew, and it was not seen that they were applied again. One sentence."""


class Rebuild:
    """The buckets that are to be begun anew, and how many records each will replay.

    Raises KafkaGone, TopicError, ViewUnavailable, OtherLedger, and LedgerFault where the ledger lost its beginning or
    its end: what Redis holds is then all that is left of some opt-outs.
    """

    def __init__(self, settings: Settings, buckets: Sequence[int]) -> None:
        ledger = deployment.ledger_as_it_is(settings)
        nodes = deployment.redis_nodes(settings)
        self._view = View(nodes, buckets=settings.buckets, ledger=ledger.identity)
        self._reading = Reading(nodes, buckets=settings.buckets)
        self._buckets = list(buckets)
        metas = self._view.metas(self._buckets)
        starts, self.records = _bounds(settings, [Partition(ledger.topic, bucket) for bucket in buckets])
        for bucket, meta in metas.items():
            lost_end = meta is not None and self.records[bucket] < meta.applied
            if starts[bucket] > 0 or lost_end:
                raise LedgerFault(
                    f"{ledger.topic} [{bucket}] lost its {'end' if lost_end else 'beginning'}: what Redis holds is all "
                    "that is left of some opt-outs, and nothing was begun anew; restore the ledger first"
                )

    def announcement(self) -> str:
        """Return what is about to happen."""
        buckets, total = len(self._buckets), sum(self.records.values())
        return (
            f"{total} record{'s' * (total != 1)} will be replayed into {buckets} bucket{'s' * (buckets != 1)}; until a "
            f"bucket has caught up, its locations answer UNKNOWN and nothing is to be sent from them."
        )

    def begin(self) -> None:
        """Begin these buckets anew. One that is not there is left to its owner, who begins it by itself."""
        for bucket, meta in self._view.metas(self._buckets).items():
            if meta is not None:
                self._view.begin(bucket, damaged=meta.epoch, published=meta.published, by_operator=True)

    def await_vouched(
        self, progress: Callable[[int, int], None], nobody_yet: Callable[[], None] = lambda: None
    ) -> float:
        """Wait until every bucket is vouched for again; return for how many seconds.

        `progress` is told how many records are applied, and of how many; `nobody_yet` is called once where nothing
        moves for PATIENCE seconds. Raises NotRebuilt where nothing moves for longer, and ViewUnavailable.
        """
        began = moved = time.monotonic()
        told = False
        last: tuple[int, int] | None = None
        while (now := self._state())[1] < len(self._buckets):
            progress(now[0], sum(self.records.values()))
            if now != last:
                last, moved = now, time.monotonic()
            elif not told and time.monotonic() - moved > PATIENCE:
                told = True
                nobody_yet()
            elif time.monotonic() - moved > NOBODY_AFTER:
                left = len(self._buckets) - now[1]
                raise NotRebuilt(
                    f"{left} of {len(self._buckets)} buckets are not vouched for, and nothing has moved for "
                    f"{NOBODY_AFTER:.0f} s: start a worker, which replays them, or see what the workers log"
                )
            time.sleep(LOOK_EVERY)
        return time.monotonic() - began

    def _state(self) -> tuple[int, int]:
        """Return how many records are applied, and how many buckets are vouched for."""
        standings = {bucket: self._reading.standing(bucket) for bucket in self._buckets}
        applied = sum(min(s.applied, self.records[bucket]) for bucket, s in standings.items() if s)
        return applied, sum(s is not None and s.vouched for s in standings.values())


def _bounds(settings: Settings, partitions: Sequence[Partition]) -> tuple[Mapping[int, int], Mapping[int, int]]:
    committed = KeptOffsets(deployment.client_config(settings), settings.appliers)
    offsets = Offsets(deployment.admin_client(settings), committed)
    try:
        starts, ends = offsets.starts(partitions), offsets.ends(partitions)
    except OffsetsUnavailable as problem:
        raise KafkaGone(f"the ledger's ends are not known: {problem}") from None
    finally:
        committed.close()
    return {p.number: offset for p, offset in starts.items()}, {p.number: offset for p, offset in ends.items()}
