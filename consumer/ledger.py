"""The ledger as its readers see it: which log it is, and what one record of it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.domain.bucket import Entry
from consumer.domain.buckets import bucket_of, digits_of
from consumer.domain.events import LedgerPosition
from consumer.domain.losses import Loss
from consumer.wire.codec import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.domain.events import KeywordRecord


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
        )

    def _stopped(self, partition: int, offset: int, why: str) -> StoppedBucket:
        return StoppedBucket(
            f"{self.topic} [{partition}] stops at offset {offset}: {why}; if a newer version wrote it, upgrade this "
            "worker (appliers are upgraded before classifiers)"
        )
