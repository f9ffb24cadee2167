"""The records of one ledger partition for whoever folds it, read as an applier reads them.

In order, none left out, but for those that an operator let pass: so every fold comes to what the appliers come to, and
ends where they stand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.kafka.inbox import appended_at
from consumer.ledger import StoppedBucket

if TYPE_CHECKING:
    from consumer.domain.bucket import Entry
    from consumer.kafka.inbox import Message, Partition
    from consumer.ledger import Ledger
    from consumer.skips import Allowed


class LedgerRecords:
    """Takes the messages of one partition, from its first offset on, in the order in which a reader gives them."""

    def __init__(self, ledger: Ledger, allowed: Allowed, partition: Partition) -> None:
        self._ledger = ledger
        self._allowed = allowed
        self._partition = partition
        self.end = 0
        """The offset after what was taken."""
        self.stopped: str | None = None
        """A sentence on what nobody can read and no operator let pass; what is behind it is not in force."""

    def take(self, message: Message) -> Entry | None:
        """Return the entry of the next message; None for one that is passed over, or that it stops at.

        Raises KafkaGone and SchemaSourceUnavailable.
        """
        offset, value = message.offset(), message.value()
        assert offset is not None
        if self.stopped or not self.reach(offset):
            return None
        try:
            entry = self._ledger.entry(value, self._partition.number, offset, appended_at(message))
        except StoppedBucket as problem:
            if self._allows(offset, value):
                self.end = offset + 1
            else:
                self.stopped = str(problem)
            return None
        self.end = offset + 1
        return entry

    def reach(self, offset: int) -> bool:
        """Go on to this offset, before which no more records come; False where that stops it, or it has stopped."""
        if self.stopped:
            return False
        if offset > self.end and self._allowed.gap_end(self._partition, self.end) < offset:
            self._allowed.read_all()
        past = min(offset, self._allowed.gap_end(self._partition, self.end)) if offset > self.end else self.end
        self.end = max(self.end, past)
        if self.end < offset:
            name = f"{self._partition.topic} [{self._partition.number}]"
            self.stopped = f"{name} has no record at offset {self.end}"
        return self.stopped is None

    def _allows(self, offset: int, value: bytes | None) -> bool:
        if not self._allowed.record(self._partition, offset, value):
            self._allowed.read_all()
        return self._allowed.record(self._partition, offset, value)
