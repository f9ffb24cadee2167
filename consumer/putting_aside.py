"""Tells changes, and puts aside by name the one that no topic takes, so that the others do not wait behind it.

What is told is bounded, so there ought to be none: a ledger record whose location or number is longer than any that a
classifier wrote leads to one. Its opt-out is in force. A dead letter stands for it, in the transaction that commits the
offset behind it: `published` never passes a change that neither was told nor has its alarm. Its version is used up.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from consumer.domain.evidence import LARGEST_RECORD
from consumer.kafka.inbox import Partition
from consumer.kafka.producers import NotPublished, Refused
from consumer.letter import Place, unsendable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from consumer.kafka.inbox import Token
    from consumer.kafka.producers import Outgoing, Publishing
    from consumer.ops.metrics import Metrics

MOST_IN_A_ROW = 10
"""Changes that are put aside with none told between them. More are no defect of theirs: the topic refuses all."""


class PuttingAside:
    """A Publishing that does without changes which are refused alone. `source` of each record names its change."""

    def __init__(self, outbox: Publishing, dead_letters: str, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self._outbox = outbox
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._log = log
        self._in_a_row = 0

    def settle(self) -> None:
        """See Publishing."""
        self._outbox.settle()

    def close(self) -> None:
        """See Publishing."""
        self._outbox.close()

    def publish(
        self, records: Sequence[Outgoing], offsets: Mapping[Partition, int], token: Token, note: str = ""
    ) -> None:
        """See Publishing. Where a record is refused, halves are tried, down to the change that is not taken alone."""
        try:
            self._outbox.publish(records, offsets, token, note)
        except Refused as problem:
            if len({record.source for record in records}) == 1:
                self._put_aside(records, problem, lambda letter: self._outbox.publish([letter], offsets, token, note))
                return
            for half, behind in _halves(records, offsets):
                self.publish(half, behind, token, note)
        else:
            if records:
                self._in_a_row = 0

    def _put_aside(self, records: Sequence[Outgoing], problem: Refused, write: Callable[[Outgoing], None]) -> None:
        refused = max(records, key=_size)
        size = _size(refused)
        if problem.too_large and size <= LARGEST_RECORD:
            raise NotPublished(
                f"{refused.topic} does not take a record of {size} bytes: set its max.message.bytes to "
                f"{LARGEST_RECORD} or more, as `optout check-config` says"
            )
        if self._in_a_row >= MOST_IN_A_ROW:
            raise NotPublished(
                f"{self._in_a_row} changes in a row were refused ({problem}) and put aside: no more are, for it is "
                f"{refused.topic} that refuses them; set its settings right"
            )
        source = refused.source
        assert isinstance(source, Place)  # see Changes
        now = time.time_ns() // 1_000_000
        letter = unsendable(self._dead_letters, source, refused.value or b"", problem.name, now)
        write(letter)
        self._in_a_row += 1
        self._metrics.put_aside.inc()
        self._log.error(
            "a change is refused by its topic and put aside: it is in force, and nobody was told but by a dead letter",
            where=str(source),
            topic=refused.topic,
            reason=str(problem),
            bytes=size,
        )


def _size(record: Outgoing) -> int:
    return len(record.key or b"") + len(record.value or b"")


def _partition(record: Outgoing) -> Partition:
    assert isinstance(record.source, Place)  # see Changes
    return Partition(record.source.topic, record.source.partition)


def _halves(
    records: Sequence[Outgoing], offsets: Mapping[Partition, int]
) -> Iterator[tuple[list[Outgoing], dict[Partition, int]]]:
    """Give the first half of the changes and then the others, each with the offsets that lie behind it."""
    sources = list(dict.fromkeys(record.source for record in records))
    first = set(sources[: len(sources) // 2])
    early = [record for record in records if record.source in first]
    late = [record for record in records if record.source not in first]
    left = {_partition(record) for record in late}
    behind = {}
    for record in early:  # in their order: the last one of a partition counts
        partition = _partition(record)
        assert isinstance(record.source, Place)
        behind[partition] = record.source.offset + 1 if partition in left else offsets[partition]
    yield early, behind
    yield late, {partition: offset for partition, offset in offsets.items() if behind.get(partition) != offset}
