"""The ledger as its readers see it: which log it is, and what one record of it says."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.domain.bucket import Entry
from consumer.domain.buckets import bucket_of, digits_of
from consumer.domain.events import CONFIRMATION_WINDOW_MS, LedgerPosition, Source
from consumer.domain.losses import Loss
from consumer.wire.codec import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.domain.events import KeywordRecord
    from consumer.kafka.inbox import Partition


class LedgerFault(Exception):
    """The ledger is not what it was, or not what it must be. The process stops: going on could forget an opt-out."""

    def __init__(self, sentence: str, loss: Loss = Loss.LEDGER_UNSAFE) -> None:
        super().__init__(sentence)
        self.loss = loss


class StoppedBucket(Exception):
    """A record of the ledger cannot be read. The bucket stops in front of it: the view may never skip one."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """One ledger topic, read by one group. `topic_id` is the id that Kafka gave this very topic."""

    topic: str
    topic_id: str
    buckets: int
    group: str
    decode: Callable[[bytes | None], KeywordRecord]
    confirms: bool = False
    """Whether confirmations are ours, so that each may pass the guard of who sends it."""

    @property
    def identity(self) -> str:
        """Return the name under which a bucket remembers what it was made from."""
        return f"{self.topic_id}/{self.group}"

    def position(self, partition: int, offset: int) -> LedgerPosition:
        """Return the coordinates of a record."""
        return LedgerPosition(topic=self.topic, topic_id=self.topic_id, partition=partition, offset=offset)

    def entry(self, value: bytes | None, partition: int, offset: int) -> Entry:
        """Return what the state rules need of a record. Raises StoppedBucket in one sentence that quotes nothing."""
        try:
            record = self.decode(value)
        except Unreadable as problem:
            raise self._stopped(partition, offset, f"it cannot be read ({problem})") from None
        if bucket_of(record.location_id, self.buckets) != partition:
            raise self._stopped(partition, offset, "it belongs to another partition")
        return Entry(
            offset=offset,
            location_id=record.location_id,
            digits=digits_of(record.patient_number),
            action=record.cause.action,
            event_time=record.event_time,
            keyword=record.cause.keyword or "",
            raw=value or b"",
            confirmation=self._confirmation(record, partition, offset),
        )

    def _confirmation(self, record: KeywordRecord, partition: int, offset: int) -> str:
        if not self.confirms or record.cause.source is not Source.PATIENT_KEYWORD:
            return ""
        # By our clock, and so with a wide margin: Redis's own decides. A replay need not reckon with what is long over.
        if record.event_time < time.time() * 1000 - 100 * CONFIRMATION_WINDOW_MS:
            return ""
        return self.position(partition, offset).event_id("ConfirmationRequested")

    def _stopped(self, partition: int, offset: int, why: str) -> StoppedBucket:
        return StoppedBucket(
            f"{self.topic} [{partition}] stops at offset {offset}: {why}; if a newer version wrote it, upgrade this "
            "worker (appliers are upgraded before classifiers)"
        )


def check_ledger(partition: Partition, start: int, end: int, read: int) -> None:
    """Raise LedgerFault where a ledger partition is not what it was: `read` records of it were known before `end`."""
    name = f"{partition.topic} [{partition.number}]"
    if start > 0:
        raise LedgerFault(
            f"{name} begins at offset {start}: its first records were deleted, and opt-outs with them; restore them, "
            "and set retention.ms and retention.bytes to -1 (optout topics create checks it)",
            Loss.LEDGER_TRUNCATED,
        )
    if end < read:
        raise LedgerFault(
            f"{name} ends at offset {end}, but {read} records of it were read: it was shortened or recreated; restore "
            "it, for it holds the opt-outs",
            Loss.LEDGER_SHORTENED,
        )


def check_told(partition: Partition, committed: int, published: int) -> None:
    """Raise LedgerFault where the appliers' group has committed less than a bucket knows to be told."""
    if committed < published:
        raise LedgerFault(
            f"the offset that the group of the appliers has committed of {partition.topic} [{partition.number}] is "
            f"{committed}, but changes up to {published} were told already: its offsets were reset or have expired; "
            "set each of them back, to the `published` of its bucket",
            Loss.OFFSETS_RESET,
        )
