"""Where each bucket that is ours is read, and what one read brings it: only ever the record that comes next.

After a seek the client may still hand out what it had fetched before; what is not the next record is dropped and asked
for again. A record that does not come at all is missing in the ledger, and its bucket stops.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumer.kafka.inbox import Partition, appended_at
from consumer.ledger import StoppedBucket

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from consumer.domain.bucket import Entry
    from consumer.kafka.inbox import Message
    from consumer.ledger import Ledger

GAP_SECONDS = 10.0
"""Seconds after which a record that does not come is taken to be missing."""


@dataclass(slots=True)
class Reading:
    """One bucket that is ours: the offset to go on at, and why it stands still, if it does."""

    position: int
    seek: bool = False
    unknown: bool = False
    """Whether Redis has not said yet where it stands."""
    stopped: str | None = None
    full: bool = False
    away: bool = False
    astray: tuple[int, float] | None = None
    """The position whose record does not come, and since when."""

    @property
    def stands_still(self) -> bool:
        """Return whether it is not to be read now."""
        return self.away or self.full or self.stopped is not None

    def go_to(self, position: int) -> None:
        """Go on at another offset. What stopped the bucket stops it again when reading gets there."""
        if position != self.position:
            self.stopped = None
        self.position, self.seek, self.astray = position, True, None


@dataclass(slots=True)
class Part:
    """What one read brought for one bucket: records without a gap, from `position` on."""

    position: int
    entries: list[Entry] = field(default_factory=list)

    @property
    def end(self) -> int:
        """Return the offset after the last record."""
        return self.entries[-1].offset + 1


def by_bucket(
    messages: Sequence[Message], readings: Mapping[Partition, Reading], ledger: Ledger, log: FilteringBoundLogger
) -> dict[Partition, Part]:
    """Sort messages into buckets, dropping what is not next there; a bucket whose record cannot be read is stopped.

    Raises SchemaSourceUnavailable.
    """
    parts: dict[Partition, Part] = {}
    for message in messages:
        topic, number, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None and number is not None and offset is not None  # noqa: PT018 - an error has none
        partition = Partition(topic, number)
        reading = readings.get(partition)
        if reading is None or reading.stopped or reading.away:
            continue  # away: fetched before the pause, to be read again
        part = parts.get(partition)
        if offset != (part.end if part else reading.position):
            _astray(partition, reading, offset, log, late=part is not None)
            continue
        reading.astray = None
        try:
            entry = ledger.entry(message.value(), number, offset, appended_at(message))
        except StoppedBucket as problem:
            reading.stopped = str(problem)
            log.error(reading.stopped, bucket=number, offset=offset)  # noqa: TRY400 - a sentence, no traceback
            continue
        if part is None:
            part = parts[partition] = Part(offset)
        part.entries.append(entry)
    return parts


def _astray(partition: Partition, reading: Reading, offset: int, log: FilteringBoundLogger, *, late: bool) -> None:
    """Drop a message that is not the next one, and ask for the next one again."""
    if offset < reading.position:
        return
    reading.seek = True
    if late:
        return
    now = time.monotonic()
    if reading.astray is None or reading.astray[0] != reading.position:
        reading.astray = (reading.position, now)
    if now - reading.astray[1] > GAP_SECONDS:  # it is missing: somebody wrote to the ledger who must not
        reading.stopped = (
            f"{partition.topic} [{partition.number}] has no record at offset {reading.position} and the next is at "
            f"{offset}: it was written to in transactions, or compacted; see docs/ARCHITECTURE.md, L1"
        )
        log.error(reading.stopped, bucket=partition.number, offset=offset)
