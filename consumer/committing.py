"""Tells Kafka how far inbound is done. While commits are on their way reading goes on.

Several may be: where Kafka is far away others learn of what is done as soon as they can. The client sends again what
failed, and so an earlier one may come after a later one: what Kafka has then is true all the same, and is sent again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from consumer.domain.marks import Marks
    from consumer.kafka.inbox import Inbox, Partition

STUCK_AFTER = 5.0
"""Seconds without any progress after which it is said that Kafka takes nothing; acknowledgements may be slow."""
MOST_ON_THEIR_WAY = 6


class Commits:
    """What of the done marks Kafka has taken, and what is on its way."""

    def __init__(self, marks: Marks[Partition]) -> None:
        self._marks = marks
        self._taken: dict[Partition, int] = {}
        self._sent: dict[Partition, int] = {}
        """The last offset that was sent and is not refused, for as long as an answer that concerns it is to come."""
        self._unanswered: dict[Partition, int] = {}
        """How many commits of a partition are on their way."""
        self.on_their_way = 0
        """Commits that Kafka has not answered."""
        self.sent_at = 0.0
        """When the last one was sent, in seconds of time.monotonic()."""
        self._moved_at = time.monotonic()

    def begin(self, partition: Partition, offset: int) -> None:
        """Take an offset for committed: it was found so, with our note."""
        self._taken[partition] = offset

    def taken(self) -> dict[Partition, int]:
        """Return what Kafka has taken. For any thread."""
        return dict(self._taken)

    def forget(self, partitions: Collection[Partition]) -> None:
        """Commit these once more: somebody overwrote what Kafka had taken."""
        for partition in partitions:
            self._taken.pop(partition, None)
            self._sent.pop(partition, None)

    def leave(self, partitions: Collection[Partition]) -> None:
        """Forget what was given up: whatever the answer to a commit on its way says of it concerns nobody."""
        for partition in partitions:
            self._taken.pop(partition, None)
            self._sent.pop(partition, None)
            self._unanswered.pop(partition, None)

    def send(self, inbox: Inbox, notes: Mapping[str, str]) -> None:
        """Commit what is done, if that moved and not too many are on their way, and do not wait. Raises KafkaGone."""
        due = self._due(self._marks.done(), self._taken | self._sent)
        if due and self.on_their_way < MOST_ON_THEIR_WAY:
            self._sent |= due
            self._unanswered |= {partition: self._unanswered.get(partition, 0) + 1 for partition in due}
            self.on_their_way += 1
            self.sent_at = time.monotonic()
            inbox.commit_soon(due, notes, self._heard)

    def _heard(self, answers: Mapping[Partition, int | None]) -> None:
        """Hear of one commit which offset of each partition Kafka took, None where it took none."""
        self.on_their_way -= 1
        answers = {partition: offset for partition, offset in answers.items() if partition in self._unanswered}
        self._take({partition: offset for partition, offset in answers.items() if offset is not None})
        for partition, offset in answers.items():
            self._unanswered[partition] -= 1
            is_last = not self._unanswered[partition]
            if offset is None or is_last:
                self._sent.pop(partition, None)
            if is_last:
                del self._unanswered[partition]

    def finish(self, inbox: Inbox, notes: Mapping[str, str], partitions: Collection[Partition]) -> None:
        """Commit what is done of these partitions, and wait for it. Raises KafkaGone."""
        done = {p: offset for p, offset in self._marks.done().items() if p in partitions}
        due = self._due(done, self._taken)
        if inbox.commit(due, notes):
            self._take(due)

    @staticmethod
    def _due(offsets: Mapping[Partition, int], there: Mapping[Partition, int]) -> dict[Partition, int]:
        return {p: offset for p, offset in offsets.items() if there.get(p) != offset}

    def _take(self, offsets: Mapping[Partition, int]) -> None:
        self._taken.update(offsets)
        if offsets:
            self._moved_at = time.monotonic()

    def stuck(self) -> bool:
        """Whether something was read that could not be committed, not even in part, for a while."""
        if not self._due(self._marks.positions, self._taken):
            self._moved_at = time.monotonic()
        return time.monotonic() - self._moved_at > STUCK_AFTER
