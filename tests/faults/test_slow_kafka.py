"""Kafka far away: everything takes half a second each way, and answers stay as fresh as that allows.

`OPTOUT_TEST_SLOW_SECONDS=300` watches for five minutes.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from statistics import median
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from tests.parts.slow_kafka import SlowLines
from tests.parts.system import System, inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.kafka import KafkaCluster

SECONDS = float(os.environ.get("OPTOUT_TEST_SLOW_SECONDS", "8"))
EACH_WAY = 0.5
TEXTS_A_SECOND = 20
OLDEST = 7.5 if SECONDS > 60 else 15.0
"""Seconds that an answer may be old: what the way of a text and of its commit takes, and what they wait in between.

docs/FAILURES.md says what these are. The short run is for machines that do other things besides: it only sees that time
does not stand still.
"""
NEAR = 3.0
"""Seconds that an answer may be old before Kafka is moved far away: until then the groups may still come together."""
LONGEST_GAP = 0.2
SETTLES = 15.0
"""Seconds until what was sent while Kafka was near is over."""
HERE, FINE = "loc-1", "+12025550144"
WATCHED = """
import sys, threading, time
from consumer.kafka import inbox
ended = [None]
def watched(read):
    def call(self, *arguments):
        if threading.current_thread().name != "classify":
            return read(self, *arguments)
        if ended[0] is not None and time.monotonic() - ended[0] > {longest}:
            with open({gaps!r}, "a") as file:
                file.write(f"{{time.monotonic()}} {{time.monotonic() - ended[0]}}\\n")
        try:
            return read(self, *arguments)
        finally:
            ended[0] = time.monotonic()
    return call
inbox.Inbox.read, inbox.Inbox.read_batch = watched(inbox.Inbox.read), watched(inbox.Inbox.read_batch)
from consumer.__main__ import main
sys.exit(main())
"""
"""A worker that writes down for how long its classifier was away from reading."""


@pytest.fixture
def slow(kafka_cluster: KafkaCluster) -> Iterator[SlowLines]:
    with SlowLines(kafka_cluster) as lines:
        yield lines


def texts(system: System, stop: threading.Event) -> None:
    """Send texts at a steady rate, every fifth of them a keyword."""
    producer = Producer({"bootstrap.servers": system.bootstrap, "linger.ms": 0})
    number, due = 0, time.monotonic()
    while not stop.wait(max(0.0, due - time.monotonic())):
        body = ("STOP", "see you", "thanks", "ok", "hello")[number % 5]
        value = system.text(inbound(HERE, f"+1202555{100 + number % 100:04d}", body))
        producer.produce(system.topics["inbound"], value, str(number))
        producer.poll(0)
        number, due = number + 1, due + 1 / TEXTS_A_SECOND


@pytest.mark.timeout(SECONDS + 280)
def test_answers_stay_fresh(
    kafka_cluster: KafkaCluster, slow: SlowLines, redis_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    """With 0.5 s each way, under steady traffic, answers stay fresh, and reading never pauses for 0.2 s."""
    with System(kafka_cluster.bootstrap, redis_url, topic_prefix, tmp_path, buckets=4) as system:
        system.create_topics()
        gaps = tmp_path / "gaps"
        system.command = [sys.executable, "-c", WATCHED.format(gaps=str(gaps), longest=LONGEST_GAP)]
        system.start_worker(OPTOUT_KAFKA_BOOTSTRAP_SERVERS=slow.far)
        guard = system.guard()
        stop = threading.Event()
        sending = threading.Thread(target=texts, args=(system, stop), daemon=True)
        sending.start()

        def fresh() -> bool:
            age = guard.check(HERE, FINE).age
            return age is not None and age < NEAR

        try:
            wait_for("fresh while Kafka is near", fresh, 60)
            slow.delay(EACH_WAY)
            time.sleep(SETTLES)
            began = time.monotonic()
            ages: list[float] = []
            while time.monotonic() - began < SECONDS:
                ages.append(guard.check(HERE, FINE).age or math.inf)
                time.sleep(0.1)
        finally:
            stop.set()
            sending.join()
        middle, tenth = median(ages), sorted(ages)[len(ages) * 9 // 10]
        print(f"ages: {min(ages):.1f} to {max(ages):.1f} s, half {middle:.1f}, nine tenths {tenth:.1f} s")  # noqa: T201
        assert max(ages) <= OLDEST
        lines = [line.split() for line in gaps.read_text().splitlines()] if gaps.exists() else []
        assert [gap for at, gap in lines if float(at) > began] == []
