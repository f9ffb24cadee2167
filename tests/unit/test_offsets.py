"""What Kafka does not know of a partition is not taken for an offset."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import OFFSET_INVALID

from consumer.kafka.inbox import Partition
from consumer.kafka.offsets import Offsets, OffsetsUnavailable

PARTITION = Partition("sms.inbound", 3)


class Recovering:
    """A cluster whose broker answers before it knows where the partition ends."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def list_offsets(self, asked: dict[Any, Any], **_: object) -> dict[Any, Future[SimpleNamespace]]:
        answers = {}
        for place in asked:
            answers[place] = Future[SimpleNamespace]()
            answers[place].set_result(SimpleNamespace(offset=OFFSET_INVALID))
        return answers

    def list_topics(self, topic: str, **_: object) -> None:
        self.asked.append(topic)


def test_no_offset_is_not_an_offset() -> None:
    """An end of -1001 would be reached by every commit, and time be vouched for that nobody knows anything of."""
    cluster = Recovering()
    offsets = Offsets(cast("Any", cluster), cast("Any", None))
    for ask in (offsets.ends, offsets.starts):
        with pytest.raises(OffsetsUnavailable, match=r"sms\.inbound \[3\]"):
            ask([PARTITION])
    assert set(cluster.asked) == {PARTITION.topic}  # who leads it now
