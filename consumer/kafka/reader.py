"""Reads partitions from an offset on, or from their beginning, outside of any group: for whoever takes no part."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from consumer.kafka.cluster import PRODUCERS_ONLY, without
from consumer.kafka.errors import KafkaGone, Triage, sentence, triage
from consumer.kafka.inbox import Partition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from confluent_kafka import Message

BATCH = 500


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
        settings = {
            **without(config, PRODUCERS_ONLY),
            "group.id": "optout-reader",  # the client asks for one; it joins none
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",  # where what stood at an offset is gone
            "fetch.queue.backoff.ms": 5,
            "fetch.wait.max.ms": 10,  # a broker answers in turn: a fetch that waits holds up the question for ends
        }
        try:
            self._consumer = Consumer(settings)
        except KafkaException as problem:  # a value that a consumer's property cannot have
            raise KafkaGone(
                f"the Kafka client refuses its settings ({sentence(problem)}): see OPTOUT_KAFKA_*"
            ) from None
        self._consumer.assign(
            [TopicPartition(p.topic, p.number, offset or OFFSET_BEGINNING) for p, offset in self._reached.items()]
        )

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """Return the partition's first offset and its end, as they are now. Raises KafkaGone."""
        try:
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(partition.topic, partition.number), timeout=self._patience
            )
        except KafkaException as problem:
            raise KafkaGone(f"{partition.topic} cannot be read: {sentence(problem)}") from None
        return int(low), int(high)

    def read(self) -> Iterator[Message]:
        """Give every message up to the ends of now that was not given before, each partition in its order.

        Raises KafkaGone where an end is not reached.
        """
        ends = {partition: self.bounds(partition)[1] for partition in self._reached}
        heard = time.monotonic()
        while behind := [partition for partition, end in ends.items() if self._reached[partition] < end]:
            messages = self._consumer.consume(BATCH, 0.1)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > self._patience:
                raise KafkaGone(f"{behind[0].topic} could not be read to its end: Kafka went silent")
            for message in messages:
                if self._note(message):
                    yield message

    def _note(self, message: Message) -> bool:
        """Note how far we are; whether this is a record. An end lies behind control records that nobody is given."""
        topic, number, offset = message.topic(), message.partition(), message.offset()
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - the client's own codes
            if triage(error) is Triage.FATAL:
                raise KafkaGone(f"{topic} cannot be read: {sentence(error)}")
            return False
        assert topic is not None and number is not None and offset is not None  # noqa: PT018 - these have all three
        self._reached[Partition(topic, number)] = offset + (error is None)
        return error is None

    def close(self) -> None:
        """Close the client."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
