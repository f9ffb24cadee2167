"""Where partitions begin and end, and how far groups have come: asked live, for vouching and for the checks of L1."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from confluent_kafka import (
    IsolationLevel,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from consumer.kafka.committed import Partition
from consumer.kafka.errors import CLIENT_ERRORS, sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from confluent_kafka.admin import AdminClient

    from consumer.kafka.committed import Kept, KeptOffsets, KeptOffsetsPool


class OffsetsUnavailable(Exception):
    """Kafka did not say where a partition ends, or how far a group has come. Ask again later."""


class Offsets:
    """Asks the cluster for offsets; nothing is cached. Every method raises OffsetsUnavailable."""

    def __init__(
        self,
        admin: AdminClient,
        classified: KeptOffsets | KeptOffsetsPool,
        *,
        describes: bool = False,
        timeout: float = 5.0,
    ) -> None:
        """Have topics described where the broker can do that: to list them takes two round trips."""
        self._admin = admin
        self._describes = describes
        self._classified = classified
        self._timeout = timeout

    def partitions(self, topics: Iterable[str]) -> list[Partition]:
        """Return the partitions that these topics have now."""
        if self._describes:
            return self._described([*topics])
        found = []
        for topic in topics:
            try:
                metadata = self._admin.list_topics(topic, timeout=self._timeout).topics[topic]
            except CLIENT_ERRORS as problem:
                raise OffsetsUnavailable(f"{topic}: {sentence(problem)}") from None
            if metadata.error is not None:
                raise OffsetsUnavailable(f"{topic}: {sentence(metadata.error)}")
            found += [Partition(topic, number) for number in metadata.partitions]
        return found

    def _described(self, topics: Sequence[str]) -> list[Partition]:
        try:
            futures = self._admin.describe_topics(TopicCollection([*topics]), request_timeout=self._timeout)
        except CLIENT_ERRORS as problem:
            raise OffsetsUnavailable(sentence(problem)) from None
        described = {topic: self._result(future) for topic, future in futures.items()}
        return [Partition(topic, each.id) for topic in topics for each in described[topic].partitions]

    def ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Return the high watermark of each partition: where what Kafka holds ends, whoever may read it yet (L4, L5).

        What is acknowledged to a producer with acks=all lies below it, also behind a transaction that is open.
        """
        return self._listed(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def stable_ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Return the last stable offset of each partition: a read_committed reader gets no further for now."""
        return self._listed(partitions, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)  # type: ignore[no-untyped-call]

    def starts(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Return the first offset that each partition holds."""
        return self._listed(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def _listed(
        self,
        partitions: Sequence[Partition],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[Partition, int]:
        try:
            return self._answered(partitions, spec, isolation) if partitions else {}
        except OffsetsUnavailable:
            self._learn_leaders({partition.topic for partition in partitions})
            raise

    def _answered(
        self, partitions: Sequence[Partition], spec: OffsetSpec, isolation: IsolationLevel
    ) -> dict[Partition, int]:
        asked = {TopicPartition(p.topic, p.number): spec for p in partitions}
        try:
            futures = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=self._timeout)
        except CLIENT_ERRORS as problem:
            raise OffsetsUnavailable(sentence(problem)) from None
        found = {Partition(tp.topic, tp.partition): int(self._result(future).offset) for tp, future in futures.items()}
        for (topic, number), offset in found.items():
            if offset < 0:  # a broker that comes back may answer without one, and each position would have reached it
                raise OffsetsUnavailable(f"{topic} [{number}]: Kafka answers without an offset")
        return found

    def _learn_leaders(self, topics: Iterable[str]) -> None:
        """Have the client ask who leads these partitions now.

        It would go on asking the broker that it once heard of, and be refused by it, for as long as nobody asks for
        the topic itself: it takes no refusal as a sign that it should.
        """
        for topic in topics:
            with suppress(*CLIENT_ERRORS):  # away: asked again when the next question fails
                self._admin.list_topics(topic, timeout=self._timeout)

    def kept(self, partitions: Sequence[Partition], notes: Mapping[str, str]) -> Mapping[Partition, Kept]:
        """Return what the classifiers' group and its copy hold of each partition, whoever wrote it there.

        While one of them does not answer, the other's offsets are enough where all of them have these notes.

        Asked through consumers: the admin client's own call for this brings the process down when the group's
        coordinator has moved (a canary test holds that this one does not).
        """
        try:
            return self._classified.both(partitions, self._timeout, notes)
        except TimeoutError as problem:
            raise OffsetsUnavailable(str(problem)) from None

    def classified(self, partitions: Sequence[Partition], notes: Mapping[str, str]) -> Mapping[Partition, int | None]:
        """Return up to where the classifiers have read; None where nobody says so in our name."""
        return counted(self.kept(partitions, notes), notes)

    def _result(self, future: Any) -> Any:
        try:
            return future.result(self._timeout + 1)
        except CLIENT_ERRORS as problem:
            raise OffsetsUnavailable(sentence(problem)) from None
        except TimeoutError:
            raise OffsetsUnavailable("no answer in time") from None


def counted(found: Mapping[Partition, Kept], notes: Mapping[str, str]) -> dict[Partition, int | None]:
    """Return up to where each partition was read; None where nobody says so in our name.

    `notes` holds the note that counts for each topic. The greatest offset with it counts, in the group or in its copy;
    one without proves nothing.
    """
    return {partition: kept.greatest(notes[partition.topic]) for partition, kept in found.items()}
