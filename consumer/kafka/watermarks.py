"""Where a partition begins and ends, asked for outside of any group."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from confluent_kafka import TopicPartition

from consumer.kafka.errors import CLIENT_ERRORS, KafkaSilent, or_gone

if TYPE_CHECKING:
    from confluent_kafka import Consumer

    from consumer.kafka.inbox import Partition

ASK_AGAIN_S = 0.1
LEAST_S = 0.1


def watermarks(client: Consumer, partition: Partition, patience: float) -> tuple[int, int]:
    """Return the first offset of a partition and the one after its last.

    A leader that is new, or was one, refuses at once: it is asked again for as many seconds as `patience` says. Raises
    KafkaSilent, or KafkaGone for what does not pass.
    """
    place = TopicPartition(partition.topic, partition.number)
    until = time.monotonic() + patience
    while True:
        try:
            with or_gone(f"{partition.topic} cannot be read"):
                low, high = client.get_watermark_offsets(place, timeout=max(LEAST_S, until - time.monotonic()))
                return int(low), int(high)
        except KafkaSilent:
            if time.monotonic() >= until:
                raise
        time.sleep(ASK_AGAIN_S)
        with suppress(*CLIENT_ERRORS):  # learns who leads it now
            client.list_topics(partition.topic, timeout=max(LEAST_S, until - time.monotonic()))
