"""Where a stage may go on although it cannot read what comes next, because an operator wrote so.

The loop of the stage asks and never waits: a thread beside it reads the topic of skips whenever somebody stands, and
reads anew where a skip says that there is no record. What the loop is handed proves no such thing: after a seek that
may be what was fetched before.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from consumer.kafka.errors import KafkaGone
from consumer.kafka.reader import OpenTransaction
from consumer.ops.complaints import Complaints
from consumer.wire.errors import SchemaSourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from structlog.typing import FilteringBoundLogger

    from consumer.kafka.inbox import Partition
    from consumer.ops.metrics import Metrics
    from consumer.skips import Allowed

LOOK_AT_STOP = 1.0
"""Seconds after which a thread that nobody asks looks whether it is told to stop."""
LOOK_AGAIN = 1.0
"""Seconds from one look to the next. A stage that stands asks ten times a second, and a look makes clients of Kafka."""


class Passage:
    """What one stage may pass over."""

    def __init__(
        self,
        allowed: Allowed,
        goes_on: Callable[[Partition, int, int], int],
        *,
        metrics: Metrics,
        log: FilteringBoundLogger,
    ) -> None:
        self.allowed = allowed
        self._goes_on = goes_on
        self._metrics = metrics
        self._log = log
        self._complaints = Complaints(log)
        self._asked = threading.Event()
        self._wanted: dict[tuple[Partition, int], int] = {}
        self._proven: dict[tuple[Partition, int], int] = {}

    # For the loop

    @property
    def changes(self) -> int:
        """Count up with all that is learned: who stands may try again."""
        return self.allowed.changes + len(self._proven)

    def past(self, partition: Partition, position: int, blocked: int = 0) -> int:
        """Return where to go on where no record seems to be at this position; `position` where that is not allowed.

        Nor is it before it was read anew from there; where a skip would allow it, that is had done. What is allowed
        begins at `blocked` where that lies behind the position: a stage that takes places without a record for
        granted, as those of transactions' markers, needs a skip of what it cannot unpack alone.
        """
        start = max(position, blocked)
        if self.allowed.gap_end(partition, start) == start:
            return position
        proven = self._proven.get((partition, position))
        if proven is None:
            self._wanted[partition, position] = start
            self._asked.set()
            return position
        return proven

    def passed(self, stage: str, partition: Partition, places: Sequence[tuple[int, int]]) -> None:
        """Cry: somebody's STOP may be in what was passed over."""
        for offset, end in places:
            self._metrics.passed_over.labels(stage).inc(end - offset)
            self._log.error(
                "passed over what nobody can read, as an operator allowed: an opt-out may be in it",
                topic=partition.topic,
                partition=partition.number,
                offset=offset,
                end=end,
            )

    def ask(self) -> None:
        """Have the topic read again: somebody stands."""
        self._asked.set()

    # Beside it

    def read(self) -> None:
        """Take in every skip that was written since, and name those that let nothing pass.

        What somebody's open transaction keeps from being read is read when that ends. Raises KafkaGone and
        SchemaSourceUnavailable.
        """
        try:
            for void in self.allowed.read():
                self._metrics.void_skips.inc()
                self._log.error("a skip lets nothing pass", where=void.place, why=void.problem)
        except OpenTransaction as problem:
            self._complaints.say("not all skips can be read", reason=str(problem))

    def run(self, stop: threading.Event) -> None:
        """Read on whenever somebody stands, until told to stop."""
        while not stop.is_set():
            if self._asked.wait(LOOK_AT_STOP) and not stop.is_set():
                self._asked.clear()
                self.look()
                stop.wait(LOOK_AGAIN)

    def look(self) -> None:
        """Read on once, and read anew where that was asked for."""
        try:
            self.read()
            for (partition, position), start in sorted(self._wanted.items()):
                allowed = self.allowed.gap_end(partition, start)
                proven = self._goes_on(partition, position, allowed)
                self._wanted.pop((partition, position), None)
                if proven > position:
                    self._proven[partition, position] = proven
        except (KafkaGone, SchemaSourceUnavailable) as problem:
            self._complaints.say("the skips cannot be read: who stands goes on standing", reason=str(problem))
