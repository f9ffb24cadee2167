"""Reads partitions from an offset on, or from their beginning, outside of any group: for whoever takes no part."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from consumer.kafka.cluster import NO_GROUP, PRODUCERS_ONLY, without
from consumer.kafka.errors import (
    CLIENT_ERRORS,
    REFUSED,
    KafkaGone,
    KafkaSilent,
    Triage,
    is_unreadable,
    or_gone,
    sentence,
    triage,
    unreadable,
)
from consumer.kafka.inbox import Partition
from consumer.kafka.watermarks import watermarks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from confluent_kafka import Message

BATCH = 500
HOW_TO_END = 'docs/FAILURES.md, "A transaction that stays open", says how to find its producer and how to abort it'


class OpenTransaction(KafkaGone):
    """A transaction that is open keeps a reader from records that Kafka holds: where, and from which offset on."""

    def __init__(self, partition: Partition, offset: int) -> None:
        super().__init__(
            f"{partition.topic} [{partition.number}] has an open transaction: nothing from offset {offset} on "
            f"can be read until that ends; {HOW_TO_END}"
        )


class UnreadableBatch(KafkaGone):
    """What no client of ours can read at a place of a partition; `offset` is that of the batch's first record."""

    def __init__(self, partition: Partition, offset: int, error: KafkaError) -> None:
        super().__init__(unreadable(*partition, offset, error))
        self.offset = offset


class Reader:
    """Reads these partitions as a read_committed reader does. It commits nothing, and nobody waits for it.

    Each from its first record on, or from the first at or above an offset in `begin`. `patience` is for how many
    seconds Kafka may have nothing to say while there is more to be read. Raises KafkaGone for settings that the client
    refuses.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        partitions: Iterable[Partition],
        *,
        begin: Mapping[Partition, int] | None = None,
        patience: float = 10.0,
    ) -> None:
        self._patience = patience
        self._reached = {partition: (begin or {}).get(partition, 0) for partition in partitions}
        asking = {
            **without(config, PRODUCERS_ONLY),
            "group.id": NO_GROUP,
            "enable.auto.commit": False,
            "isolation.level": "read_uncommitted",
        }
        settings = {
            **asking,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",  # where what stood at an offset is gone
            "fetch.queue.backoff.ms": 5,
            "fetch.wait.max.ms": 10,  # a broker answers in turn: a fetch that waits holds up the question for ends
        }
        with or_gone(REFUSED):
            self._consumer = Consumer(settings)
            self._asking = Consumer(asking)  # a client is told of an end by its own isolation level
        places = [TopicPartition(p.topic, p.number, offset or OFFSET_BEGINNING) for p, offset in self._reached.items()]
        with or_gone("Kafka cannot be read"):
            self._consumer.assign(places)

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """Return the partition's first offset and its high watermark, as they are now. Raises KafkaGone."""
        return watermarks(self._asking, partition, self._patience)

    def reached(self, partition: Partition) -> int:
        """Return the offset below which nothing is left to be given: behind the last record, and what is none."""
        return self._reached[partition]

    def read(self) -> Iterator[Message]:
        """Give every message up to the ends of now that was not given before, each partition in its order.

        Raises OpenTransaction where one is in the way for longer than `patience`, when all else is given, and
        UnreadableBatch and KafkaGone where an end is not reached for another reason.
        """
        ends = {partition: self.bounds(partition)[1] for partition in self._reached}
        moved = time.monotonic()
        while behind := {partition: at for partition, at in self._reached.items() if at < ends[partition]}:
            with or_gone("Kafka cannot be read"):
                messages = self._consumer.consume(BATCH, 0.1)
            for message in messages:
                if self._note(message):
                    yield message
            if any(self._reached[partition] != at for partition, at in behind.items()):
                moved = time.monotonic()
            elif time.monotonic() - moved > self._patience:
                raise self._why(behind)

    def go_on(self, partition: Partition, offset: int) -> None:
        """Go on at a later offset. Raises KafkaGone."""
        self._reached[partition] = offset
        with or_gone(f"{partition.topic} cannot be read"):
            self._consumer.assign([TopicPartition(p.topic, p.number, at) for p, at in self._reached.items()])

    def _why(self, behind: Mapping[Partition, int]) -> KafkaGone:
        """Return why these partitions are read no further than this."""
        for partition, at in behind.items():
            if at >= watermarks(self._consumer, partition, self._patience)[1]:
                return OpenTransaction(partition, at)
        return KafkaSilent(f"{next(iter(behind)).topic} could not be read to its end: Kafka went silent")

    def _note(self, message: Message) -> bool:
        """Note how far we are; whether this is a record. An end lies behind control records that nobody is given."""
        topic, number, offset = message.topic(), message.partition(), message.offset()
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - the client's own codes
            if is_unreadable(error) and topic is not None and number is not None and offset is not None:
                raise UnreadableBatch(Partition(topic, number), offset, error)
            if triage(error) is Triage.FATAL:
                place = topic if number is None else f"{topic} [{number}] at offset {offset}"
                raise KafkaGone(f"{place} cannot be read: {sentence(error)}")
            return False
        assert topic is not None and number is not None and offset is not None  # noqa: PT018 - these have all three
        self._reached[Partition(topic, number)] = offset + (error is None)
        return error is None

    def close(self) -> None:
        """Close the clients."""
        for client in (self._consumer, self._asking):
            with suppress(*CLIENT_ERRORS):
                client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
