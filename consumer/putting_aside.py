"""Tells changes, and puts aside by name the one that no topic takes, so that the others do not wait behind it.

What is told is bounded, so there ought to be none: a ledger record whose location or number is longer than any that a
classifier wrote leads to one. Its opt-out is in force. A dead letter stands for it, in the transaction that commits the
offset behind it: `published` never passes a change that neither was told nor has its alarm. Its version is used up.

Where one of its two records is refused the other one is sent all the same: who must know of the change hears of it, and
the patient is answered.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from consumer.domain.evidence import LARGEST_RECORD
from consumer.kafka.inbox import Partition
from consumer.kafka.producers import NotPublished, Refused
from consumer.letter import UNSENDABLE, UNSENDABLE_CONFIRMATION, Place, unsendable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from consumer.kafka.inbox import Token
    from consumer.kafka.producers import Outgoing, Publishing
    from consumer.ops.metrics import Metrics

MOST_IN_A_ROW = 10
"""Records that a topic refuses with none taken between them. More are no defect of theirs: it refuses all."""
TOLD = {
    UNSENDABLE: "a change is refused by its topic and put aside: it is in force, and only a dead letter tells of it",
    UNSENDABLE_CONFIRMATION: "a confirmation is refused by its topic and put aside: the change is in force and told, "
    "and nobody answers the patient",
}


class PuttingAside:
    """A Publishing that does without changes which are refused alone. `source` of each record names its change."""

    def __init__(self, outbox: Publishing, dead_letters: str, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self._outbox = outbox
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._log = log
        self._in_a_row: Counter[str] = Counter()

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
                self._put_aside(records, problem, offsets, token, note)
                return
            for half, behind in _halves(records, offsets):
                self.publish(half, behind, token, note)
        else:
            self._taken(records)

    def _taken(self, records: Sequence[Outgoing]) -> None:
        for topic in {record.topic for record in records}:
            self._in_a_row.pop(topic, None)

    def _put_aside(
        self,
        records: Sequence[Outgoing],
        problem: Refused,
        offsets: Mapping[Partition, int],
        token: Token,
        note: str,
    ) -> None:
        """Publish one change without the record that is refused, with a letter in its place; without both if need be.

        Raises NotPublished where that is no defect of the change.
        """
        refused: list[Outgoing] = []
        while another := [r for r in records if problem.topic in {None, r.topic} and r not in refused]:
            self._look(another, problem)
            refused += another
            taken = [record for record in records if record not in refused]
            now = time.time_ns() // 1_000_000
            reason = UNSENDABLE if records[0] in refused else UNSENDABLE_CONFIRMATION  # see Changes
            letter = unsendable(self._dead_letters, reason, refused[0], problem.name, now)
            try:
                self._outbox.publish([*taken, letter], offsets, token, note)
            except Refused as next_problem:
                problem = next_problem
            else:
                self._taken(taken)
                self._cry(reason, refused, problem)
                return
        raise problem

    def _look(self, refused: Sequence[Outgoing], problem: Refused) -> None:
        """Raise NotPublished where it is the topic that has to change."""
        largest = max(refused, key=_size)
        topic, size = largest.topic, _size(largest)
        if problem.too_large and size <= LARGEST_RECORD:
            raise NotPublished(
                f"{topic} does not take a record of {size} bytes: set its max.message.bytes to {LARGEST_RECORD} or "
                "more, as `optout check-config` says"
            )
        if self._in_a_row[topic] >= MOST_IN_A_ROW:
            raise NotPublished(
                f"{topic} refused {self._in_a_row[topic]} records in a row ({problem}), which were put aside: no more "
                "are, for it is the topic that refuses them; set its settings right"
            )

    def _cry(self, reason: str, refused: Sequence[Outgoing], problem: Refused) -> None:
        self._in_a_row.update(record.topic for record in refused)
        counter = self._metrics.put_aside if reason == UNSENDABLE else self._metrics.confirmations_put_aside
        counter.inc()
        self._log.error(
            TOLD[reason],
            where=str(refused[0].source),
            topic=", ".join(record.topic for record in refused),
            reason=str(problem),
            bytes=max(map(_size, refused)),
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
