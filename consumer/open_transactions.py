"""Which open transactions keep readers from what Kafka holds, and for how long each has done so.

A read_committed reader gets as far as the last stable offset: the first record of the oldest transaction that is open.
What stands behind it may be acknowledged, and be a STOP, and nobody can read it. Where reading has come to the last
stable offset and Kafka holds more, a transaction is what is waited for; where it has not, nobody reads, or too slowly.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from consumer.ops.complaints import Complaints

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from consumer.kafka.inbox import Partition
    from consumer.kafka.offsets import Offsets
    from consumer.ops.metrics import Metrics

LONG = 5.0
"""Seconds after which a transaction that is open is named in the log: most last for milliseconds."""
MOST_NAMED = 5
INBOUND = "a transaction that is open keeps inbound texts from being read: answers become UNKNOWN until it ends"
LEDGER = (
    "a transaction that is open keeps the ledger from being read: somebody writes to it who must not, and its buckets "
    "are not vouched for until it ends"
)


class OpenTransactions:
    """Looks, with each pass, at partitions of one kind. `sentence` is what the log says of them; `clock` in seconds."""

    def __init__(
        self,
        sentence: str,
        metrics: Metrics,
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sentence = sentence
        self._metrics = metrics
        self._log = log
        self._complaints = Complaints(log)
        self._clock = clock
        self._open: dict[Partition, tuple[int, float]] = {}
        self._named: set[Partition] = set()

    def look(
        self,
        read: Mapping[Partition, int | None],
        ends: Mapping[Partition, int],
        stable: Mapping[Partition, int] | None,
    ) -> frozenset[Partition]:
        """Return the partitions that are read as far as a transaction lets anybody.

        `read` is how far each is read, and was asked before `ends`, their high watermarks, and before `stable`, up to
        where each can be read; None where Kafka did not say. Records that come in between these two look for one pass
        like a transaction.
        """
        if stable is None:
            return frozenset(self._open)
        now = self._clock()
        held = {p: at for p, at in stable.items() if p in ends and at <= _number(read.get(p)) < ends[p]}
        # The same offset as before is the same transaction; the next one begins further on.
        last = self._open
        self._open = {p: last[p] if p in last and last[p][0] == at else (at, now) for p, at in held.items()}
        for partition in last.keys() - held.keys():
            self._metrics.show_open_transaction(*partition, None)
        self._tell({partition: now - since for partition, (_, since) in self._open.items()}, ends)
        return frozenset(held)

    def _tell(self, seconds: Mapping[Partition, float], ends: Mapping[Partition, int]) -> None:
        for partition, lasted in seconds.items():
            self._metrics.show_open_transaction(*partition, lasted or None)  # one that is met once may be over by now
        long = sorted((p for p, lasted in seconds.items() if lasted >= LONG), key=lambda p: -seconds[p])
        if long:
            named = [
                f"{p.topic} [{p.number}] for {seconds[p]:.0f} s, at offset {self._open[p][0]}"
                for p in long[:MOST_NAMED]
            ]
            self._complaints.say(self._sentence, partitions=named, of_partitions=len(long))
        if over := sorted((self._named & ends.keys()) - set(long)):
            ended = [f"{topic} [{number}]" for topic, number in over[:MOST_NAMED]]
            self._log.info(
                "a transaction that was open has ended: reading goes on", partitions=ended, of_partitions=len(over)
            )
        self._named = set(long)


def open_for_long(offsets: Offsets, partitions: Sequence[Partition]) -> dict[Partition, int]:
    """Return the offset of each of these partitions that a transaction keeps readers at for LONG seconds.

    It takes so long where one is open at all. Raises OffsetsUnavailable.
    """
    ends, stable = offsets.ends(partitions), offsets.stable_ends(partitions)
    held = {partition: at for partition, at in stable.items() if at < ends[partition]}
    if held:
        time.sleep(LONG)
    again = offsets.stable_ends(list(held))
    return {partition: at for partition, at in held.items() if again[partition] == at}


def _number(offset: int | None) -> int:
    return -1 if offset is None else offset
