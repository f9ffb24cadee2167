"""Where partitions begin and end, and how far groups have come: asked live, for vouching and for the checks of L1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from consumer.kafka.errors import sentence
from consumer.kafka.inbox import Partition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from confluent_kafka.admin import AdminClient


class OffsetsUnavailable(Exception):
    """Kafka did not say where a partition ends, or how far a group has come. Ask again later."""


class Offsets:
    """Asks the cluster for offsets; nothing is cached. Every method raises OffsetsUnavailable."""

    def __init__(self, admin: AdminClient, *, timeout: float = 5.0) -> None:
        self._admin = admin
        self._timeout = timeout

    def partitions(self, topics: Iterable[str]) -> list[Partition]:
        """Return the partitions that these topics have now."""
        found = []
        for topic in topics:
            try:
                metadata = self._admin.list_topics(topic, timeout=self._timeout).topics[topic]
            except KafkaException as problem:
                raise OffsetsUnavailable(f"{topic}: {sentence(problem)}") from None
            if metadata.error is not None:
                raise OffsetsUnavailable(f"{topic}: {sentence(metadata.error)}")
            found += [Partition(topic, number) for number in metadata.partitions]
        return found

    def ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Return the offset after the last record that a read_committed reader may read, for each partition."""
        return self._listed(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def starts(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Return the first offset that each partition holds."""
        return self._listed(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def _listed(self, partitions: Sequence[Partition], spec: OffsetSpec) -> dict[Partition, int]:
        if not partitions:
            return {}
        asked = {TopicPartition(p.topic, p.number): spec for p in partitions}
        futures = self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=self._timeout
        )
        return {Partition(tp.topic, tp.partition): int(self._result(future).offset) for tp, future in futures.items()}

    def committed(self, group: str, partitions: Sequence[Partition], note: str) -> Mapping[Partition, int | None]:
        """Return the offsets that a group has committed; None where there is none, or one with another note.

        One without a note was set by hand, and counts.
        """
        if not partitions:
            return {}
        asked = [ConsumerGroupTopicPartitions(group, [TopicPartition(p.topic, p.number) for p in partitions])]
        answer = self._result(self._admin.list_consumer_group_offsets(asked, request_timeout=self._timeout)[group])
        return {
            Partition(p.topic, p.partition): p.offset if p.offset >= 0 and p.metadata in (None, "", note) else None
            for p in answer.topic_partitions
        }

    def _result(self, future: Any) -> Any:
        try:
            return future.result(self._timeout + 1)
        except KafkaException as problem:
            raise OffsetsUnavailable(sentence(problem)) from None
        except TimeoutError:
            raise OffsetsUnavailable("no answer in time") from None
