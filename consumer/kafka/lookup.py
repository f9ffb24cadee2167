"""Looks up single records of a partition by their offsets: next to each other in one go, far apart one by one."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from consumer.kafka.cluster import NO_GROUP, PRODUCERS_ONLY, without
from consumer.kafka.errors import CLIENT_ERRORS, REFUSED, KafkaGone, Triage, is_unreadable, or_gone, sentence, triage
from consumer.kafka.reader import UnreadableBatch
from consumer.kafka.watermarks import watermarks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from confluent_kafka import Message

    from consumer.kafka.inbox import Partition

BATCH = 500
NEAR = 5_000
"""Records that are rather read than leapt over: about what is read in the time of one question to a broker."""


class Lookup:
    """A reader of single records, as a read_committed reader has them. It joins no group.

    `patience` is for how many seconds Kafka may have nothing to say while there is more to be read. Every method raises
    KafkaGone.
    """

    def __init__(self, config: Mapping[str, Any], *, patience: float = 10.0) -> None:
        self._patience = patience
        settings = {
            **without(config, PRODUCERS_ONLY),
            "group.id": NO_GROUP,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",  # where what stood at an offset is gone
            "fetch.queue.backoff.ms": 5,
            "fetch.wait.max.ms": 10,
        }
        with or_gone(REFUSED):
            self._consumer = Consumer(settings)

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """Return the partition's first offset and its end, as they are now."""
        return watermarks(self._consumer, partition, self._patience)

    def first(self, partition: Partition) -> Message | None:
        """Return the first record that a partition holds, None where it holds none."""
        low, high = self.bounds(partition)
        return next(self._read(partition, low, high), None) if low < high else None

    def at(self, partition: Partition, offsets: Sequence[int]) -> Iterator[Message]:
        """Give what stands at these offsets, which ascend, in their order; nothing for those where nothing stands.

        Nor for those in a batch that nobody can unpack.
        """
        low, high = self.bounds(partition)
        left = [offset for offset in offsets if low <= offset < high]
        while left:
            last = next((i for i, offset in enumerate(left[1:], 1) if offset - left[i - 1] > NEAR), len(left)) - 1
            run, left = left[: last + 1], left[last + 1 :]
            wanted, reached = set(run), run[0]
            try:
                for message in self._read(partition, run[0], run[-1] + 1):
                    reached = (message.offset() or 0) + 1
                    if message.offset() in wanted:
                        yield message
            except UnreadableBatch as found:  # where it ends nobody has asked: the next one that is wanted is tried
                behind = max(reached, found.offset)
                left = [offset for offset in run if offset > behind] + left

    def _read(self, partition: Partition, start: int, end: int) -> Iterator[Message]:
        """Give the records from one offset up to another."""
        with or_gone(f"{partition.topic} cannot be read"):
            self._consumer.assign([TopicPartition(partition.topic, partition.number, start)])
        reached, heard = start, time.monotonic()
        while reached < end:
            with or_gone(f"{partition.topic} cannot be read"):
                messages = self._consumer.consume(min(BATCH, end - reached), 0.1)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > self._patience:
                raise KafkaGone(f"{partition.topic} could not be read: Kafka went silent")
            for message in messages:
                error, offset = message.error(), message.offset()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - the client's own codes
                    if is_unreadable(error) and offset is not None:
                        raise UnreadableBatch(partition, offset, error)
                    if triage(error) is Triage.FATAL:
                        raise KafkaGone(f"{partition.topic} cannot be read: {sentence(error)}")
                    continue
                assert offset is not None
                reached = offset + (error is None)
                if error is not None:  # nothing more is there now: what follows are control records
                    return
                if start <= offset < end:
                    yield message

    def close(self) -> None:
        """Close the client."""
        with suppress(*CLIENT_ERRORS):
            self._consumer.close()
