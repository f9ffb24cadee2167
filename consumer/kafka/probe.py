"""What stands at an offset, or comes next: asked of Kafka anew, so that nothing fetched before can answer for it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from consumer.kafka.cluster import NO_GROUP, PRODUCERS_ONLY, without
from consumer.kafka.errors import CLIENT_ERRORS, REFUSED, KafkaGone, Triage, is_unreadable, or_gone, sentence, triage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from confluent_kafka import Message

    from consumer.kafka.inbox import Partition


NOWHERE = -1


class Found(NamedTuple):
    """What comes at an offset or behind it: a record, a batch that cannot be unpacked, or the end.

    `offset` is that of the record, of the batch's first record, or the end itself; NOWHERE for an offset that the
    partition does not hold.
    """

    offset: int
    message: Message | None = None
    unpacked: bool = True


class Probe:
    """Looks at single places as a read_committed reader. Raises KafkaGone where Kafka does not answer in time.

    It must take as much as whoever is to go on there (`deployment.reading_config`): else it would call unreadable what
    that one reads.
    """

    def __init__(self, config: Mapping[str, Any], *, patience: float = 10.0) -> None:
        self._patience = patience
        settings = {
            **without(config, PRODUCERS_ONLY),
            "group.id": NO_GROUP,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 10,
            "fetch.error.backoff.ms": 1,
        }
        with or_gone(REFUSED):
            self._consumer = Consumer(settings)

    def find(self, partition: Partition, offset: int) -> Found:
        """Return what comes first at this offset or behind it."""
        place = f"{partition.topic} [{partition.number}]"
        deadline = time.monotonic() + self._patience
        with or_gone(f"{place} cannot be read at {offset}"):
            self._consumer.assign([TopicPartition(partition.topic, partition.number, offset or OFFSET_BEGINNING)])
            while time.monotonic() < deadline:
                message = self._consumer.poll(0.1)
                if message is not None and (found := self._found(message)) is not None:
                    self._consumer.unassign()
                    return found
        raise KafkaGone(f"{place} could not be read at {offset}: Kafka went silent")

    def goes_on(self, partition: Partition, offset: int, limit: int) -> int:
        """Return where something can be read from this offset on, or the end; `limit` where that lies behind it."""
        found = self.find(partition, offset)
        while not found.unpacked and offset < limit:
            offset = self.batch_end(partition, max(offset, found.offset), found.offset)
            found = self.find(partition, offset)
        return min(limit, found.offset) if found.unpacked else limit

    def batch_end(self, partition: Partition, offset: int, first: int) -> int:
        """Return the offset after a batch that cannot be unpacked, whose first record is `first`.

        Wherever in it one reads, the client names its first record: so its end is found in few steps.
        """

        def is_within(place: int) -> bool:
            found = self.find(partition, place)
            return not found.unpacked and found.offset == first

        within, behind = offset, offset + 1
        while is_within(behind):
            within, behind = behind, behind + 2 * (behind - offset)
        while behind - within > 1:
            middle = (within + behind) // 2
            within, behind = (middle, behind) if is_within(middle) else (within, middle)
        return behind

    def _found(self, message: Message) -> Found | None:
        error, at = message.error(), message.offset()
        if error is None:
            assert at is not None
            return Found(at, message)
        if error.code() == KafkaError._PARTITION_EOF and at is not None:  # noqa: SLF001 - the client's own codes
            return Found(at)
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
            return Found(NOWHERE)
        if is_unreadable(error) and at is not None:
            return Found(at, unpacked=False)
        if triage(error) is Triage.FATAL:
            raise KafkaGone(f"{message.topic()} [{message.partition()}] cannot be read: {sentence(error)}")
        return None

    def close(self) -> None:
        """Close the client."""
        with suppress(*CLIENT_ERRORS):
            self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
