"""A member of a group on real Kafka: how it leaves."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import pytest

from consumer.kafka.inbox import Inbox
from tests.parts.kafka import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumer.kafka.inbox import Partition
    from tests.parts.kafka import Kafka

PARTITIONS = 4
PATIENCE_S = 10.0
"""For how long a member asks where to begin; it is not to be waited for by one that leaves."""

silent = logging.getLogger(__name__)
silent.addHandler(logging.NullHandler())
silent.propagate = False


class Asking:
    """Begins where the group had come to, as classifiers do."""

    def __init__(self, kafka: Kafka, group: str, topic: str) -> None:
        self.received: list[Partition] = []
        self.given_up: list[Partition] = []
        config = {"bootstrap.servers": kafka.bootstrap, "group.id": group, "logger": silent}
        config |= {"session.timeout.ms": 6000, "heartbeat.interval.ms": 200}
        self.inbox = Inbox(config, lambda *_: None)
        self.inbox.subscribe([topic], self)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._over.is_set():
            self.inbox.read(100, 0.05)

    def assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        self.received += partitions
        found = self.inbox.committed(partitions, PATIENCE_S)
        return {partition: committed.offset if committed else 0 for partition, committed in found.items()}

    def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> None:
        self.given_up += partitions

    def cease(self) -> None:
        """Read no more; the client's own thread still takes part in what the group does."""
        self._over.set()
        self._thread.join()


@pytest.mark.timeout(120)
def test_partitions_that_come_while_leaving_are_not_waited_for(kafka: Kafka, topic_prefix: str) -> None:
    """A member that is told to end while the group hands it partitions ends at once, and asks nothing about them."""
    topic, group = f"{topic_prefix}left", f"{topic_prefix}leaving"
    kafka.create_topic(topic, PARTITIONS)
    stays, leaves = Asking(kafka, group, topic), Asking(kafka, group, topic)
    wait_until(lambda: bool(stays.inbox.owned and leaves.inbox.owned), "both have a share", 60)
    wait_until(lambda: len(stays.inbox.owned) + len(leaves.inbox.owned) == PARTITIONS, "all are assigned", 60)
    share = stays.inbox.owned
    leaves.cease()
    leaves.inbox.close()
    stays.cease()
    time.sleep(2)  # the rest is offered to it meanwhile
    received = list(stays.received)
    began = time.monotonic()
    stays.inbox.close()
    assert time.monotonic() - began < PATIENCE_S / 2
    assert stays.received == received
    assert set(stays.given_up) >= share
