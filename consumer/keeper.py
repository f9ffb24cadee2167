"""Keeps what the classifiers' group has committed where no stranger overwrites it (L5), in a thread of its own.

Each offset that the classifier knows to be committed is written into the group's copy. Every 10 s both are read: what
is lower, without our note or of another topic is written again, and each hour everything, for offsets that nobody
writes expire.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol

from consumer.kafka.committed import names_a_ledger

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Mapping

    from structlog.typing import FilteringBoundLogger

    from consumer.kafka.committed import KeptOffsets, OffsetsCopy, Partition

KEEP_EVERY = 1.0
LOOK_EVERY = 10.0
WRITE_EVERY = 3600.0
ASKED_WITHIN = 5.0


class Committing(Protocol):
    """Whoever commits in the group: may be asked by any thread."""

    def known(self) -> tuple[dict[Partition, int], Mapping[str, str]]:
        """Return what is known to be committed, and the note of each topic."""
        ...

    def write_again(self, partitions: Iterable[Partition]) -> None:
        """Commit what is known to be committed once more, in time."""
        ...


class Keeper:
    """Writes the copy beside one classifier. Nobody fences it: what it writes late is older, and true all the same."""

    def __init__(self, classifier: Committing, copy: OffsetsCopy, kept: KeptOffsets, log: FilteringBoundLogger) -> None:
        self._classifier = classifier
        self._copy = copy
        self._kept = kept
        self._log = log
        self._written: dict[Partition, int] = {}
        self._looked = self._renewed = -math.inf

    def run(self, stop: threading.Event) -> None:
        """Keep until told to stop. Raises KafkaGone."""
        try:
            while not stop.wait(KEEP_EVERY):
                self.keep()
        finally:
            self._kept.close()

    def keep(self) -> None:
        """Write what was committed since the last time, and what was overwritten."""
        now = time.monotonic()
        known, notes = self._classifier.known()
        if now - self._renewed > WRITE_EVERY:
            self._renewed = now
            self._written.clear()
            self._classifier.write_again(known)
        if now - self._looked > LOOK_EVERY:
            self._looked = now
            self._look(known, notes)
        due = {partition: offset for partition, offset in known.items() if self._written.get(partition) != offset}
        if due and self._copy.write(due, notes):
            self._written.update(due)
        self._written = {partition: offset for partition, offset in self._written.items() if partition in known}

    def _look(self, known: Mapping[Partition, int], notes: Mapping[str, str]) -> None:
        try:
            found = self._kept.both(list(known), ASKED_WITHIN)
        except TimeoutError:
            return  # asked again
        overwritten = []
        for partition, (group, copy) in found.items():
            note = notes[partition.topic]
            both = [one for one in (group, copy) if one is not None]
            theirs = [one.offset for one in both if one.note != note and not names_a_ledger(one.note)]
            if theirs:
                overwritten.append(f"{partition.topic} [{partition.number}] at {theirs[0]}")
            if copy is None or copy.note != note or copy.offset < known[partition]:
                self._written.pop(partition, None)
            if group is None or group.note != note or group.offset < known[partition]:
                self._classifier.write_again([partition])
        if overwritten:
            self._log.error(
                "somebody else commits offsets in our group: they do not count, and are written again; find out who",
                places=overwritten[:10],
            )
