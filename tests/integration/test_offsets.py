"""Where partitions begin and end, asked of brokers that fail: vouching waits for the answer."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from consumer.deployment import HUNG_MS
from consumer.kafka.cluster import connect
from consumer.kafka.committed import KeptOffsets, Partition
from consumer.kafka.offsets import Offsets, OffsetsUnavailable
from tests.parts.kafka import wait_until

if TYPE_CHECKING:
    from tests.parts.kafka import KafkaCluster

PARTITIONS = 6
PASSES, PAUSE_S = 5, 0.5
GIVEN_UP_S = 45.0
"""What it takes at most: a pass asks three questions, each may be one that the broker took, and a pass that failed ends
up to one question's patience later. With the client's own minute for each it takes two and more."""

silent = logging.getLogger(__name__)
silent.addHandler(logging.NullHandler())
silent.propagate = False


def tells(offsets: Offsets, partitions: list[Partition]) -> bool:
    try:
        return offsets.ends(partitions) == dict.fromkeys(partitions, 0)
    except OffsetsUnavailable:
        return False


def test_a_new_leader_is_asked_after_the_old_one_failed(breakable_kafka: KafkaCluster, topic_prefix: str) -> None:
    """When every partition has its leader again, offsets are told within a few passes, on a client that was there."""
    if breakable_kafka.size < 3:
        pytest.skip("one broker alone: this machine has too little memory for three")
    topic = f"{topic_prefix}led"
    breakable_kafka.create_topic(topic, partitions=PARTITIONS)
    config = {"bootstrap.servers": breakable_kafka.bootstrap, "logger": silent}
    reader = KeptOffsets(config, topic)
    offsets = Offsets(connect(config), reader)
    partitions = [Partition(topic, number) for number in range(PARTITIONS)]
    wait_until(lambda: tells(offsets, partitions), "each broker knows the new topic", 30)
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


def test_a_hung_leader_is_given_up(breakable_kafka: KafkaCluster, topic_prefix: str) -> None:
    """A broker that took a question and stands still is not waited for by those that are asked afterwards."""
    if breakable_kafka.size < 3:
        pytest.skip("one broker alone: this machine has too little memory for three")
    topic = f"{topic_prefix}hung"
    breakable_kafka.create_topic(topic, partitions=PARTITIONS)
    config = {"bootstrap.servers": breakable_kafka.bootstrap, "logger": silent, "socket.timeout.ms": HUNG_MS}
    reader = KeptOffsets(config, topic)
    offsets = Offsets(connect(config), reader)
    partitions = [Partition(topic, number) for number in range(PARTITIONS)]
    wait_until(lambda: tells(offsets, partitions), "each broker knows the new topic", 30)
    assert set(offsets.classified(partitions, {topic: ""}).values()) == {None}
    for broker in range(3):  # leader, coordinator and the one that is asked for metadata are among them
        breakable_kafka.pause_broker(broker)
        began = time.monotonic()
        while True:
            try:
                offsets.partitions([topic])
                offsets.classified(partitions, {topic: ""})
                offsets.ends(partitions)
                break
            except OffsetsUnavailable:
                assert time.monotonic() - began < GIVEN_UP_S, "still waiting for the broker that stands still"
                time.sleep(PAUSE_S)
        breakable_kafka.heal()
    reader.close()


MEMBERS = """
import sys, time
from consumer.kafka.members import members

config = {"bootstrap.servers": sys.argv[1]}
groups = [f"group-{number}" for number in range(32)]
answers = refusals = 0
print("asking", flush=True)
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    try:
        assert members(config, groups, 2.0) == []
        answers += 1
    except TimeoutError:
        refusals += 1
print(answers > 0, refusals > 0, flush=True)
"""


def test_asking_who_is_in_a_group_kills_nobody(breakable_kafka: KafkaCluster) -> None:
    """Groups whose coordinators move, as with each restart of a broker, are asked for members without dying of it."""
    if breakable_kafka.size < 3:
        pytest.skip("one broker alone: this machine has too little memory for three")
    command = [sys.executable, "-c", MEMBERS, breakable_kafka.bootstrap, "15"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        assert asking.stdout.readline() == "asking\n"
        breakable_kafka.kill_broker(0)
        time.sleep(2)
        breakable_kafka.start_broker(0)
        breakable_kafka.heal()
        said = asking.stdout.read()
    assert (asking.returncode, said.split()[0]) == (0, "True")
