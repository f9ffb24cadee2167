"""The records of one ledger partition for whoever folds it, read as an applier reads them.

In order, none left out, but for those that an operator let pass: so every fold comes to what the appliers come to, and
ends where they stand. What is passed over, records, places without one and batches that nobody can unpack, is decided
here for all folds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from consumer.kafka.inbox import appended_at
from consumer.kafka.reader import UnreadableBatch
from consumer.ledger import StoppedBucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from consumer.domain.bucket import Entry
    from consumer.kafka.inbox import Message, Partition
    from consumer.kafka.reader import Reader
    from consumer.ledger import Ledger
    from consumer.skips import Allowed

Taken: TypeAlias = "tuple[Message, Entry] | None"
"""A record and what it is for the rules; None for places that are passed over."""


class LedgerRecords:
    """Takes the records of one partition, from its first offset on, in the order in which a reader gives them.

    `goes_on` says where it can be read on, from an offset on and before another: see Probe.
    """

    def __init__(
        self, ledger: Ledger, allowed: Allowed, partition: Partition, goes_on: Callable[[Partition, int, int], int]
    ) -> None:
        self._ledger = ledger
        self._allowed = allowed
        self._partition = partition
        self._goes_on = goes_on
        self.end = 0
        """The offset after what was taken."""
        self.stopped: str | None = None
        """A sentence on what nobody can read and no operator let pass; what is behind it is not in force."""

    def read(self, reader: Reader) -> Iterator[Taken]:
        """Give what comes next, one after the other, up to the ledger's end of now or to where it stops.

        `end` has moved behind all that was given. Raises OpenTransaction, KafkaGone and SchemaSourceUnavailable.
        """
        while not self._stands():
            try:
                for message in reader.read():
                    yield from self._take(message)
                    if self._stands():
                        return
            except UnreadableBatch as found:
                self._meet(found, reader)
                yield None
            else:
                self._reach(max(self.end, reader.reached(self._partition)))  # there may be places without a record
                return

    def _stands(self) -> bool:
        return self.stopped is not None

    def _take(self, message: Message) -> Iterator[Taken]:
        offset, value = message.offset(), message.value()
        assert offset is not None
        if offset > self.end:
            if not self._reach(offset):
                return
            yield None
        try:
            entry = self._ledger.entry(value, self._partition.number, offset, appended_at(message))
        except StoppedBucket as problem:
            if self._allows(offset, value):
                self.end = offset + 1
                yield None
            else:
                self.stopped = str(problem)
        else:
            self.end = offset + 1
            yield message, entry

    def _meet(self, found: UnreadableBatch, reader: Reader) -> None:
        """Go on behind a batch that cannot be unpacked, as far as nothing can be read, or stop in front of it."""
        if not self._reach(max(self.end, found.offset)):
            return
        allowed, stands_at = self._allowed_gap(), self.end
        if allowed > stands_at:
            self.end = self._goes_on(self._partition, stands_at, allowed)
        if self.end > stands_at:
            reader.go_on(self._partition, self.end)
        else:
            self.stopped = str(found)

    def _reach(self, offset: int) -> bool:
        """Go on to this offset, before which no more records come; False where that stops it."""
        if offset > self.end:
            self.end = min(offset, self._allowed_gap(offset))
        if self.end < offset:
            name = f"{self._partition.topic} [{self._partition.number}]"
            self.stopped = f"{name} has no record at offset {self.end}"
        return self.stopped is None

    def _allowed_gap(self, wanted: int | None = None) -> int:
        """Return up to where places may be passed over, asking again where that is not as far as wanted."""
        allowed = self._allowed.gap_end(self._partition, self.end)
        if allowed < (self.end + 1 if wanted is None else wanted):
            self._allowed.read_all()
            allowed = self._allowed.gap_end(self._partition, self.end)
        return allowed

    def _allows(self, offset: int, value: bytes | None) -> bool:
        if not self._allowed.record(self._partition, offset, value):
            self._allowed.read_all()
        return self._allowed.record(self._partition, offset, value)
