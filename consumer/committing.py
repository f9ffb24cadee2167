"""Tells Kafka how far inbound is done: one commit at a time, so that none can be overtaken by an earlier one.

While it is on its way reading goes on; what is done meanwhile goes with the next one.
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


class Commits:
    """What of the done marks Kafka has taken, and what is on its way."""

    def __init__(self, marks: Marks[Partition]) -> None:
        self._marks = marks
        self._taken: dict[Partition, int] = {}
        self._sent: dict[Partition, int] | None = None
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

    def leave(self, partitions: Collection[Partition]) -> None:
        """Forget what was given up: whatever the answer to a commit on its way says of it concerns nobody."""
        for partition in partitions:
            self._taken.pop(partition, None)
            if self._sent is not None:
                self._sent.pop(partition, None)

    def send(self, inbox: Inbox, notes: Mapping[str, str]) -> None:
        """Commit what is done, if that moved and no other is on its way, and do not wait. Raises KafkaGone."""
        if self._sent is None and (due := self._due(self._marks.done())):
            self._sent, self.sent_at = due, time.monotonic()
            inbox.commit_soon(due, notes, self._heard)

    def _heard(self, taken: Collection[Partition]) -> None:
        sent, self._sent = self._sent or {}, None
        self._take({partition: offset for partition, offset in sent.items() if partition in taken})

    def finish(self, inbox: Inbox, notes: Mapping[str, str], partitions: Collection[Partition]) -> None:
        """Commit what is done of these partitions, and wait for it. Raises KafkaGone."""
        due = {p: offset for p, offset in self._due(self._marks.done()).items() if p in partitions}
        if inbox.commit(due, notes):
            self._take(due)

    def _due(self, offsets: Mapping[Partition, int]) -> dict[Partition, int]:
        return {p: offset for p, offset in offsets.items() if self._taken.get(p) != offset}

    def _take(self, offsets: Mapping[Partition, int]) -> None:
        self._taken.update(offsets)
        if offsets:
            self._moved_at = time.monotonic()

    def stuck(self) -> bool:
        """Whether something was read that could not be committed, not even in part, for a while."""
        if not self._due(self._marks.positions):
            self._moved_at = time.monotonic()
        return time.monotonic() - self._moved_at > STUCK_AFTER
