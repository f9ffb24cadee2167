"""Where partitions begin and end, asked of brokers that fail: vouching waits for the answer."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pytest

from consumer.kafka.cluster import connect
from consumer.kafka.inbox import CommittedReader, Partition
from consumer.kafka.offsets import Offsets, OffsetsUnavailable

if TYPE_CHECKING:
    from tests.parts.kafka import KafkaCluster

PARTITIONS = 6
PASSES, PAUSE_S = 5, 0.5

silent = logging.getLogger(__name__)
silent.addHandler(logging.NullHandler())
silent.propagate = False


def test_a_new_leader_is_asked_after_the_old_one_failed(breakable_kafka: KafkaCluster, topic_prefix: str) -> None:
    """When every partition has its leader again, offsets are told within a few passes, on a client that was there."""
    if breakable_kafka.size < 3:
        pytest.skip("one broker alone: this machine has too little memory for three")
    topic = f"{topic_prefix}led"
    breakable_kafka.create_topic(topic, partitions=PARTITIONS)
    config = {"bootstrap.servers": breakable_kafka.bootstrap, "logger": silent}
    reader = CommittedReader(config, topic)
    offsets = Offsets(connect(config), reader)
    partitions = [Partition(topic, number) for number in range(PARTITIONS)]
    assert offsets.ends(partitions) == dict.fromkeys(partitions, 0)
    leaders = breakable_kafka.admin().list_topics(topic, timeout=10).topics[topic].partitions
    breakable_kafka.kill_broker(leaders[0].leader - 1)
    with pytest.raises(OffsetsUnavailable):
        offsets.ends(partitions)  # this is how a leader that is gone is remembered
    breakable_kafka.start_broker(leaders[0].leader - 1)
    breakable_kafka.heal()
    told = []
    for _ in range(PASSES):
        try:
            told.append(offsets.ends(partitions))
        except OffsetsUnavailable:
            time.sleep(PAUSE_S)
    reader.close()
    assert told, "still refused when the cluster is whole"
