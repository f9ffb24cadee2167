"""Names who is in our consumer groups and is no worker of ours.

A group lets in whoever may use it and knows its name: `kafka-console-consumer --group` takes partitions from a worker
and commits offsets that stand for nothing. These do not count (L3, L5), but what it holds stands still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumer.domain.words import printable
from consumer.kafka.committed import copy_of
from consumer.kafka.members import members

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Mapping

    from structlog.typing import FilteringBoundLogger

    from consumer.kafka.committed import Partition
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
    """Looks at one group and its copy every 30 s. `overwritten` gives the partitions that somebody else committed."""

    def __init__(  # noqa: PLR0917 - what the root has at hand
        self,
        config: Mapping[str, Any],
        group: str,
        configured: object,
        overwritten: Callable[[], Collection[Partition]],
        metrics: Metrics,
        log: FilteringBoundLogger,
    ) -> None:
        self._config = config
        self._group = group
        self._before = {BEFORE, str(configured or BEFORE)}
        self._overwritten = overwritten
        self._metrics = metrics
        self._log = log
        self._named: set[tuple[str, str, str]] = set()

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop."""
        while not stop.wait(LOOK_EVERY):
            self.look(stop)

    def look(self, stop: threading.Event | None = None) -> None:
        """Name everybody who was not there the last time."""
        try:
            found = members(self._config, [self._group, copy_of(self._group)], ASKED_WITHIN, stop)
        except TimeoutError:
            return  # asked again
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

    def _is_stranger(self, member: GroupMember) -> bool:
        """Whether a member is none of ours, nor of the version before: that one never loses the note of an offset."""
        if member.group != self._group:
            return True  # nobody joins the copy
        if member.client_id.startswith(CLIENT_ID):
            return False
        return member.client_id not in self._before or not member.partitions.isdisjoint(self._overwritten())
