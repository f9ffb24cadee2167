"""How far changes were told: what Kafka holds of it, and what of that counts (L3).

`published` is the greatest offset with our note in the copy of the appliers' group or in the group itself. The copy is
asked first, and waited for while a transaction holds an offset of it: with the answer nothing of before is undecided.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from consumer.domain.losses import Loss
from consumer.kafka.committed import CommittedReader, Kept, KeptOffsets, OffsetsCopy, names_a_ledger
from consumer.ledger import SET, LedgerFault, check_told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from consumer.kafka.committed import Committed, Partition


LEAST_SECONDS, TIMES_AS_LONG = 0.2, 3
"""For how long a bucket that is asked about alone is waited for: at least, and in times of what an answer takes now.
One that was waited for as long as all of them together used up the time of those behind it, which were not told."""


class Told(NamedTuple):
    """How far a bucket's changes were told, whether both groups say so with our note, and what they hold."""

    offset: int
    stands: bool
    kept: Kept


class Published:
    """Asks Kafka how far changes of a ledger were told in `topic`. An offset of it carries a note: the ledger's id."""

    def __init__(self, config: Mapping[str, Any], group: str, note: str, topic: str, log: FilteringBoundLogger) -> None:
        self.note = note
        self._topic = topic
        self._copy = OffsetsCopy(config, group)
        self._group = CommittedReader(config, group)
        self._at_once = KeptOffsets(config, group)
        self._log = log

    def begin_copies(self, partitions: Sequence[Partition], timeout: float) -> bool:
        """Have the copies of a new deployment say that nothing was told, before the first change is (L3).

        `partitions` are those of every bucket, also of those that others own: a stranger may hold one from before the
        first worker, and what it committed there would be taken for that of the version before. Returns whether
        nothing is left to begin. Raises TimeoutError.
        """
        kept = self._at_once.both(partitions, timeout)
        missing = dict.fromkeys((p for p in partitions if (copy := kept[p].copy) is None or copy.note != self.note), 0)
        if not missing or self._group.ever_held(self._topic, timeout):
            return True
        if not self._copy.write(missing, {partition.topic: self.note for partition in missing}):
            raise TimeoutError(f"{self._copy.group} takes no offset (is somebody in it? nobody is to join it)")
        return False

    def ask(
        self, remembered: Mapping[Partition, int], timeout: float
    ) -> tuple[dict[Partition, Told], dict[Partition, TimeoutError]]:
        """Return how far changes of these partitions were told, and of which nobody could say it, and why.

        Some may be in neither: the time was over before they were asked about, but for the first.

        `remembered` is what the meta of each bucket says, and `timeout` for how long one answer is waited for. Raises
        LedgerFault where nobody can know.
        """
        copies, unknown = self._in_copy(list(remembered), timeout)
        told: dict[Partition, Told] = {}
        try:
            kept = self._at_once.both(list(copies), timeout)
        except TimeoutError as problem:
            return told, unknown | dict.fromkeys(copies, problem)
        began = time.monotonic()
        for partition, copy in copies.items():
            try:
                told[partition] = self._told(
                    partition, Kept(kept[partition].group, copy), remembered[partition], timeout
                )
            except TimeoutError as problem:
                unknown[partition] = problem
            if time.monotonic() - began > timeout:
                break  # the others are asked about the next time
        return told, unknown

    def _in_copy(
        self, partitions: Sequence[Partition], timeout: float
    ) -> tuple[dict[Partition, Committed | None], dict[Partition, TimeoutError]]:
        """Return what the copy holds of each partition, and of which it does not say, and why.

        A pending transaction delays all that are asked together. Where one is, each is asked alone, until `timeout` is
        over, and for no longer than Kafka needs for an answer: each is to hold up its own.
        """
        found: dict[Partition, Committed | None] = {}
        unknown: dict[Partition, TimeoutError] = {}
        with suppress(TimeoutError):
            return self._copy.all_committed(partitions, timeout), unknown
        alone = min(timeout, self._needed(partitions[0], timeout))
        began = time.monotonic()
        for partition in partitions:
            if time.monotonic() - began > timeout:
                break
            try:
                found[partition] = self._copy.committed(partition, alone)
            except TimeoutError as problem:
                unknown[partition] = problem
        return found, unknown

    def _needed(self, partition: Partition, timeout: float) -> float:
        """Return for how long an answer that waits for no transaction may be waited for, as Kafka answers now."""
        began = time.monotonic()
        with suppress(TimeoutError):
            self._at_once.both([partition], timeout)
        return max(LEAST_SECONDS, TIMES_AS_LONG * (time.monotonic() - began))

    def _told(self, partition: Partition, kept: Kept, remembered: int, timeout: float) -> Told:
        if kept.copy is None or kept.copy.note != self.note:  # the group alone says it: so it is waited for, too
            kept = Kept(self._group.committed(partition, timeout), kept.copy)
        told = told_of(
            partition,
            kept,
            self.note,
            remembered,
            lambda: self._group.end(partition, timeout),
        )
        return Told(told, kept.stands(told, self.note), kept)

    def go_on(self, told: Mapping[Partition, Told]) -> None:
        """Say in the log, for whoever tells changes from there on, what it makes of offsets without our note."""
        for partition, (offset, _, kept) in told.items():
            group = kept.group
            if not offset and group is not None and group.offset and not names_a_ledger(group.note):
                self._log.warning(
                    "an offset in our group is none of ours, for no change was ever told: all of them are told",
                    bucket=partition.number,
                    offset=group.offset,
                )
            if offset and kept.greatest(self.note) != offset:
                self._log.warning(
                    "the offset that the version before committed is adopted, once, as how far changes were told",
                    bucket=partition.number,
                    offset=offset,
                )

    def amiss(self, told: Mapping[Partition, int], timeout: float) -> set[Partition]:
        """Return those of which the group or its copy holds something else than this. Raises TimeoutError."""
        kept = self._at_once.both(list(told), timeout)
        return {partition for partition, offset in told.items() if not kept[partition].stands(offset, self.note)}

    def close(self) -> None:
        """Close the clients."""
        for client in (self._copy, self._group, self._at_once):
            client.close()


def told_of(partition: Partition, kept: Kept, note: str, remembered: int, end: Callable[[], int]) -> int:
    """Return how far changes of a partition were told. Raises LedgerFault where nobody can know.

    An offset without a note is the version before's where the copy holds nothing, and it lies between `published` in
    meta and the ledger's end; or where that version ran again in between, and meta says the same. Nothing in either is
    a beginning, unless meta knows better. What names another ledger is nothing. What carries any other metadata is a
    stranger's, wherever it stands: the version before wrote none.
    """
    noted = kept.greatest(note)
    if noted is not None and noted >= remembered:
        return noted
    group, copy = (None if one is None or (one.note != note and names_a_ledger(one.note)) else one for one in kept)
    if group is not None and group.note != note:
        if not group.note and copy is None and remembered <= group.offset <= end():
            return group.offset
        if not group.note and noted is not None and group.offset == remembered:
            return remembered
    elif copy is None or copy.note == note:
        check_told(partition, noted or 0, remembered)
        return 0
    raise LedgerFault(
        f"how far changes of {partition.topic} [{partition.number}] were told is not known: somebody else committed "
        f"offsets of it in the group of the appliers, or in its copy; changes up to {max(noted or 0, remembered)} were "
        f"told for certain; find out who uses these groups, stop the workers, and set it with `{SET} apply --to "
        f"{partition.number}:OFFSET`",
        Loss.OFFSETS_RESET,
    )
