"""Names who is in our consumer groups and is no worker of ours.

A group lets in whoever may use it and knows its name: `kafka-console-consumer --group` takes partitions from a worker
and commits offsets that stand for nothing. These do not count (L3, L5), but what it holds stands still.

Workers of the version before have the client library's own id, as has every program that sets none. What tells them
apart is the note: such a worker commits each partition that it is given, moved or not, within a second, and never
without a note. So who holds a partition in two looks while the group's offset of it has none is a stranger.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from consumer.domain.words import printable
from consumer.kafka.committed import copy_of, names_a_ledger
from consumer.kafka.errors import KafkaGone
from consumer.kafka.members import members

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from consumer.kafka.committed import CommittedReader, Partition
    from consumer.kafka.members import GroupMember
    from consumer.ops.metrics import Metrics

CLIENT_ID = "sms-optout"
"""What the client ids of our members begin with."""
BEFORE = "rdkafka"
"""The client library's own, which members of the version before have."""
LOOK_EVERY = 30.0
ASKED_WITHIN = 5.0


def client_id(configured: object) -> str:
    """Return the client id of a member of ours; one that is configured stays a part of it."""
    return f"{CLIENT_ID}-{configured}" if configured else CLIENT_ID


class Strangers:
    """Looks at one group and its copy every 30 s.

    `committed` reads the group's offsets where workers of the version before may be in it; None: none may, as among the
    appliers, so that whoever has the client library's own id is a stranger.
    """

    def __init__(  # noqa: PLR0917 - what the root has at hand
        self,
        config: Mapping[str, Any],
        group: str,
        configured: object,
        committed: CommittedReader | None,
        metrics: Metrics,
        log: FilteringBoundLogger,
    ) -> None:
        self._config = config
        self._group = group
        self._before = {BEFORE, str(configured or BEFORE)}
        self._committed = committed
        self._without_note: set[tuple[str, Partition]] = set()
        self._found_out: set[str] = set()
        self._metrics = metrics
        self._log = log
        self._named: set[tuple[str, str, str]] = set()

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop."""
        try:
            while not stop.wait(LOOK_EVERY):
                self.look(stop)
        finally:
            if self._committed is not None:
                self._committed.close()

    def look(self, stop: threading.Event | None = None) -> None:
        """Name everybody who was not there the last time."""
        try:
            found = members(self._config, [self._group, copy_of(self._group)], ASKED_WITHIN, stop)
        except TimeoutError:
            return  # asked again
        with suppress(TimeoutError, KafkaGone):  # the next look tells; who has another name is named all the same
            self._find_out(found)
        strangers = {(one.group, one.client_id, one.host) for one in found if self._is_stranger(one)}
        for group in (self._group, copy_of(self._group)):
            self._metrics.strangers.labels(group).set(sum(one[0] == group for one in strangers))
        for group, name, host in sorted(strangers - self._named):
            self._log.error(
                "somebody who is no worker of ours is in our consumer group: stop it, for what it holds stands still",
                group=group,
                client_id=printable(name),
                host=host,
            )
        self._named = strangers

    def _find_out(self, found: Sequence[GroupMember]) -> None:
        """Remember who held the same partition at the last look, while the group's offset of it has no note."""
        if self._committed is None:
            return
        held = {(one.id, each) for one in found if one.group == self._group for each in one.partitions}
        offsets = self._committed.all_committed(sorted({partition for _, partition in held}), ASKED_WITHIN)
        without = {
            (member, partition)
            for member, partition in held
            if (at := offsets[partition]) is not None and not names_a_ledger(at.note)
        }
        self._found_out |= {member for member, _ in without & self._without_note}
        self._found_out &= {one.id for one in found}
        self._without_note = without

    def _is_stranger(self, member: GroupMember) -> bool:
        """Whether a member is none of ours, nor of the version before."""
        if member.group != self._group:
            return True  # nobody joins the copy
        if member.client_id.startswith(CLIENT_ID):
            return False
        return self._committed is None or member.client_id not in self._before or member.id in self._found_out
