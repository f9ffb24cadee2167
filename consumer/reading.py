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
from consumer.wire.errors import SchemaAwaited

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from consumer.domain.bucket import Entry
    from consumer.kafka.inbox import Message, Read
    from consumer.ledger import Ledger
    from consumer.passage import Passage

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
    unknown_id: int | None = None
    """The schema that it stopped for, since nobody knew it."""
    ask_at: float = 0.0
    """When the registry is asked for that again."""
    full: bool = False
    away: bool = False
    schema_id: int | None = None
    """The schema that its next record waits for."""
    astray: tuple[int, float] | None = None
    """The position whose record does not come, and since when."""

    @property
    def drops(self) -> bool:
        """Return whether what was fetched before it was paused is dropped, to be read again."""
        return self.away or self.stopped is not None or self.schema_id is not None

    @property
    def stands_still(self) -> bool:
        """Return whether it is not to be read now."""
        return self.drops or self.full

    def try_again(self) -> None:
        """Read on in front of what stopped it."""
        self.stopped, self.unknown_id, self.astray, self.seek = None, None, None, True

    def go_to(self, position: int) -> None:
        """Go on at another offset. What stopped the bucket stops it again when reading gets there."""
        if position != self.position:
            self.stopped = self.unknown_id = self.schema_id = None
        self.position, self.seek, self.astray = position, True, None


@dataclass(slots=True)
class Part:
    """What one read brought for one bucket: all that stands from `position` to before `end`.

    `passed` are the places among them, each to before an end, that an operator let pass: there are no entries of them.
    """

    position: int
    end: int = field(init=False)
    entries: list[Entry] = field(default_factory=list)
    passed: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.end = self.position

    def add(self, entry: Entry) -> None:
        """Take the next record in."""
        self.entries.append(entry)
        self.end = entry.offset + 1

    def pass_over(self, end: int) -> None:
        """Go on at this offset without what stands before it."""
        self.passed.append((self.end, end))
        self.end = end


def by_bucket(
    read: Read, readings: Mapping[Partition, Reading], ledger: Ledger, passage: Passage, log: FilteringBoundLogger
) -> dict[Partition, Part]:
    """Sort messages into buckets, dropping what is not next there.

    A bucket whose record cannot be read is stopped; one whose record's schema is not known yet waits for that.
    """
    parts: dict[Partition, Part] = {}
    for message in read.messages:
        topic, number, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None and number is not None and offset is not None  # noqa: PT018 - an error has none
        partition = Partition(topic, number)
        reading = readings.get(partition)
        if reading is None or reading.drops:
            continue
        if not _comes_next(partition, offset, reading, parts, passage, log):
            continue
        reading.astray = None
        part = parts.get(partition) or Part(offset)
        if _taken(message, partition, part, reading, ledger, passage, log):
            parts[partition] = part
    for partition, end in read.ends.items():  # behind the last record there may be places without one
        reading = readings.get(partition)
        reached = parts.get(partition)
        if reading and not reading.drops and end > (reached.end if reached else reading.position):
            _comes_next(partition, end, reading, parts, passage, log)
    return parts


def _taken(  # noqa: PLR0917 - what is known of the record
    message: Message,
    partition: Partition,
    part: Part,
    reading: Reading,
    ledger: Ledger,
    passage: Passage,
    log: FilteringBoundLogger,
) -> bool:
    """Take the next record into the bucket's part, or pass over it; else its bucket stops, or waits for its schema."""
    number, offset = partition.number, message.offset()
    assert offset is not None
    try:
        part.add(ledger.entry(message.value(), number, offset, appended_at(message)))
    except SchemaAwaited as awaited:
        reading.schema_id = awaited.schema_id
        return False
    except StoppedBucket as problem:
        if not passage.allowed.record(partition, offset, message.value()):
            reading.stopped, reading.unknown_id, reading.ask_at = str(problem), problem.unknown_id, 0.0
            log.error(reading.stopped, bucket=number, offset=offset)  # noqa: TRY400 - a sentence, no traceback
            return False
        part.pass_over(offset + 1)
    else:
        if passage.allowed.names(partition, offset):
            log.error("a skip lets nothing pass: the record can be read, and counts", bucket=number, offset=offset)
    return True


def _comes_next(  # noqa: PLR0917 - what is known of the place
    partition: Partition,
    offset: int,
    reading: Reading,
    parts: dict[Partition, Part],
    passage: Passage,
    log: FilteringBoundLogger,
) -> bool:
    """Return whether this offset is the one that comes next, passing over what lies before it where that may be."""
    part = parts.get(partition)
    at = part.end if part else reading.position
    if offset == at:
        return True
    if offset > at and (past := passage.past(partition, at)) > at:
        part = parts[partition] = part or Part(at)
        part.pass_over(min(past, offset))
        at = part.end
        if offset == at:
            return True
    _astray(partition, reading, offset, log, late=part is not None)
    return False


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
            f"{partition.topic} [{partition.number}] has no record at offset {reading.position}, and goes on at "
            f"{offset}: it was written to in transactions, or compacted; see `a place without a record` in "
            "docs/FAILURES.md"
        )
        log.error(reading.stopped, bucket=partition.number, offset=offset)
