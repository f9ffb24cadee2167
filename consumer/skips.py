"""The topic of skips as whoever passes over something reads it, and what it allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from consumer.domain.events import digest_of
from consumer.kafka.inbox import Partition
from consumer.kafka.reader import Reader
from consumer.wire.errors import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from consumer.domain.events import Skip
    from consumer.domain.skips import Skips


class Written(NamedTuple):
    """One record of the topic of skips: where it stands, and the skip; None, and why, for one that is none."""

    place: str
    skip: Skip | None
    problem: str | None = None


class SkipLog:
    """The topic of skips: one list, read on from where it was read to. It stands in the topic's first partition."""

    def __init__(self, config: Mapping[str, Any], topic: str, decode: Callable[[bytes | None], Skip]) -> None:
        self._config = config
        self._partition = Partition(topic, 0)
        self._decode = decode
        self._reached = 0

    def read(self) -> Iterator[Written]:
        """Give what was not read before. Raises KafkaGone and SchemaSourceUnavailable: then it is given next time."""
        with Reader(self._config, [self._partition], begin={self._partition: self._reached}) as reader:
            for message in reader.read():
                offset = message.offset()
                assert offset is not None
                place = f"{self._partition.topic} [0] {offset}"
                try:
                    written = Written(place, self._decode(message.value()))
                except Unreadable as problem:
                    written = Written(place, None, f"it cannot be read ({problem})")
                self._reached = offset + 1
                yield written


class Allowed:
    """What operators let pass of some topics, as far as it was read."""

    def __init__(self, topics: Sequence[Skips], log: SkipLog | None = None) -> None:
        self._topics = {skips.topic: skips for skips in topics}
        self._log = log
        self.changes = 0
        """Counts up with each skip that is taken in: who stands may try again."""

    def read(self) -> Iterator[Written]:
        """Take in what was written since; give those records that allow nothing, each with its problem.

        Raises KafkaGone and SchemaSourceUnavailable.
        """
        for written in self._log.read() if self._log is not None else ():
            problem = written.problem
            if written.skip is not None and (skips := self._topics.get(written.skip.topic)) is not None:
                problem = skips.add(written.skip)
                self.changes += problem is None
            if problem is not None:
                yield written._replace(problem=problem)

    def read_all(self) -> None:
        """Take in what was written since. Raises KafkaGone and SchemaSourceUnavailable."""
        for _void in self.read():
            pass

    def record(self, partition: Partition, offset: int, value: bytes | None) -> bool:
        """Return whether this record, which cannot be read, may be passed over."""
        skips = self._topics[partition.topic]
        number = partition.number
        return skips.names(number, offset) and skips.allows(number, offset, digest_of(value))

    def names(self, partition: Partition, offset: int) -> bool:
        """Return whether somebody wrote a skip of the record at this place, right or wrong."""
        return self._topics[partition.topic].names(partition.number, offset)

    def gap_end(self, partition: Partition, position: int) -> int:
        """Return up to where places without a record may be passed over; `position` for not at all."""
        return self._topics[partition.topic].gap_end(partition.number, position)
