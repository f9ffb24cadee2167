"""Upstream that writes in transactions all the time, half of them aborted: time goes on behind every one of them.

`OPTOUT_TEST_TRANSACTIONS_SECONDS=300` runs it for five minutes, and holds it to two seconds. The short run is for
machines that do other things besides, and only sees that time does not stand still.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from consumer.guard import VerdictKind
from tests.parts.system import System, inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from consumer.guard import Guard
    from tests.parts.kafka import Kafka

SECONDS = float(os.environ.get("OPTOUT_TEST_TRANSACTIONS_SECONDS", "12"))
PARTITIONS = 6
PRODUCERS, EVERY = 2, 0.1
"""How many write at once, and seconds from one transaction of each to its next: 20 a second on every partition."""
OPEN = 0.03
"""Seconds for which each is left open at least."""
OLDEST = 2.0 if SECONDS > 60 else 7.0
"""Seconds that `fresh` may be old, the length of a transaction aside."""
HERE, FINE = "loc-1", "+12025550144"


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=2) as system:
        system.make_topics(inbound=PARTITIONS)
        system.create_topics()
        yield system


@dataclass
class Upstream:
    """Writes a text to every partition but the last in each transaction, and aborts every other one.

    To the last it writes in those alone that it aborts: nobody is ever handed a record of it.
    """

    system: System
    stop: threading.Event = field(default_factory=threading.Event)
    committed: int = 0
    aborted: int = 0
    longest: float = 0.0
    """Seconds that a transaction was open, from its beginning to the answer to its end."""

    def run(self) -> None:
        """Write until told to stop."""
        topic, talk = self.system.topics["inbound"], self.system.text(inbound(HERE, FINE, "see you"))
        name = f"{topic}.{id(self)}"
        producer = Producer(
            {"bootstrap.servers": self.system.bootstrap, "transactional.id": name, "retry.backoff.ms": 5}
        )
        producer.init_transactions(30)
        due = time.monotonic()
        while not self.stop.is_set():
            began = time.monotonic()
            producer.begin_transaction()
            aborts = self.committed > self.aborted
            for partition in range(PARTITIONS if aborts else PARTITIONS - 1):
                producer.produce(topic, talk, partition=partition)
            producer.flush(30)
            time.sleep(OPEN)
            if aborts:
                producer.abort_transaction(30)
                self.aborted += 1
            else:
                producer.commit_transaction(30)
                self.committed += 1
            self.longest = max(self.longest, time.monotonic() - began)
            due = max(due + EVERY, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))


@dataclass
class Ages:
    """How old the answers were, and by how much the machine kept the one who asked waiting beyond that."""

    oldest: float = 0.0
    stalled: float = 0.0
    asked: int = 0

    def watch(self, guard: Guard, seconds: float) -> None:
        """Ask again and again."""
        until = time.monotonic() + seconds
        while (began := time.monotonic()) < until:
            time.sleep(0.02)
            answer = guard.check(HERE, FINE)
            assert answer.kind is VerdictKind.ALLOWED
            assert answer.age is not None
            self.stalled = max(self.stalled, time.monotonic() - began - 0.02)
            self.oldest = max(self.oldest, answer.age)
            self.asked += 1


@pytest.mark.timeout(SECONDS + 120)
def test_time_goes_on_under_steady_transactions(system: System) -> None:
    """With 20 transactions a second on every partition an answer is at most two seconds and one of them old."""
    system.start_worker()
    upstream, ages = [Upstream(system) for _ in range(PRODUCERS)], Ages()
    guard = system.guard()

    def young() -> bool:
        age = guard.check(HERE, FINE).age
        return age is not None and age < OLDEST

    wait_for("fresh", young)
    writing = [threading.Thread(target=one.run) for one in upstream]
    for thread in writing:
        thread.start()
    try:
        wait_for("transactions come and go", lambda: all(one.aborted > 2 for one in upstream))
        wait_for("fresh", young)
        ages.watch(guard, SECONDS)
    finally:
        for one in upstream:
            one.stop.set()
        for thread in writing:
            thread.join(60)
    ended = sum(one.committed + one.aborted for one in upstream)
    longest = max(one.longest for one in upstream)
    print(f"{ages}, {ended} transactions, the longest {longest:.2f} s")  # noqa: T201 - for who runs it for minutes
    assert ages.oldest <= OLDEST + longest + ages.stalled
    wait_for("read to the end", lambda: system.committed("classify", "inbound") == system.ends("inbound"))
