"""Partitions whose next record cannot be read yet, for nobody knows its schema: they wait, all others go on.

A partition that waits is not fetched, and what was fetched of it is dropped. Its position stays in front of the record,
so nothing behind it is committed; when the schema is known, or given up, it is read again from there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.wire import framing
from consumer.wire.errors import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from structlog.typing import FilteringBoundLogger

    from consumer.kafka.inbox import Inbox, Message, Partition
    from consumer.wire.lookups import Lookups

SEEK_AGAIN = 1.0
"""Seconds after a seek that brought a later record before the next one."""
SEEK_UNHEARD = 30.0
"""Seconds after a seek that brought nothing before the next one: each drops the fetch that is under way, so that where
a fetch takes longer than this the record would never come."""
MOST_ASTRAY = 10
"""Seeks that each brought a later record before the one that was waited for is taken to be gone from Kafka."""


@dataclass(slots=True)
class _Waiting:
    """One partition: in front of which record it waits, and for which schema."""

    offset: int
    schema_id: int
    returning: bool = False
    """Whether it is to be read again from there."""
    sought: float | None = None
    """When the client was last told to."""
    astray: int = 0
    """How many times that brought a later record."""
    went_astray: bool = False


class HeldBack:
    """The partitions of one member that wait for schemas."""

    def __init__(self, lookups: Lookups | None, log: FilteringBoundLogger) -> None:
        self._lookups = lookups
        self._log = log
        self._waiting: dict[Partition, _Waiting] = {}

    def look_ahead(self, messages: Iterable[Message]) -> None:
        """Have the schemas of these asked for together."""
        if self._lookups is not None:
            ids = {schema_id for message in messages if (schema_id := _schema_id(message)) is not None}
            self._lookups.look_ahead(ids)

    def hold(self, partition: Partition, offset: int, schema_id: int) -> None:
        """Keep a partition in front of this record."""
        self._waiting[partition] = _Waiting(offset, schema_id)

    def __contains__(self, partition: Partition) -> bool:
        """Whether it has to come back to a record first."""
        return partition in self._waiting

    def takes(self, partition: Partition, offset: int) -> bool:
        """Return whether a message is to be taken: in a partition that was held back only the one that it waited for.

        After a seek the client may still hand out what it had fetched before.
        """
        waiting = self._waiting.get(partition)
        if waiting is None:
            return True
        if offset != waiting.offset or not waiting.returning:
            if waiting.sought is None or waiting.went_astray or offset < waiting.offset:
                return False
            waiting.went_astray = True
            waiting.astray += 1
            if waiting.astray < MOST_ASTRAY:
                return False
            self._log.error(
                "a record that waited for its schema is not there any more: Kafka has deleted it",
                topic=partition.topic,
                partition=partition.number,
                offset=waiting.offset,
            )
        del self._waiting[partition]
        return True

    @property
    def paused(self) -> set[Partition]:
        """Return the partitions that are not to be fetched now."""
        return {partition for partition, waiting in self._waiting.items() if not waiting.returning}

    def release(self) -> None:
        """Have partitions read on whose schema is known or given up."""
        for waiting in self._waiting.values():
            if self._lookups is None or not self._lookups.awaits(waiting.schema_id):
                waiting.returning = True

    def seek(self, inbox: Inbox) -> None:
        """Go back to the records that were waited for; to be called once their partitions are fetched again."""
        now = time.monotonic()
        for partition, waiting in self._waiting.items():
            if not waiting.returning:
                continue
            if self._lookups is not None:
                self._lookups.renew(waiting.schema_id)
            again = SEEK_AGAIN if waiting.went_astray else SEEK_UNHEARD
            if (waiting.sought is None or now - waiting.sought > again) and inbox.seek(partition, waiting.offset):
                waiting.sought, waiting.went_astray = now, False

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Forget partitions that are given up, or begin anew."""
        for partition in partitions:
            self._waiting.pop(partition, None)

    def trouble(self) -> str | None:
        """Return what is wrong with the registry, if a partition waits for it."""
        problem = self._lookups.trouble() if self._lookups is not None and self._waiting else None
        return problem and f"{len(self.paused)} partitions wait for a schema: {problem}"


def _schema_id(message: Message) -> int | None:
    value = message.value()
    try:
        return framing.schema_id_of(value) if isinstance(value, bytes) else None
    except Unreadable:
        return None
