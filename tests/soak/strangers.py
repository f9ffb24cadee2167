"""Another program in our consumer groups: it takes partitions from workers and commits offsets that stand for nothing.

It is a process of its own, which ends with the soak, and says on its output what it did.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaException, TopicPartition

from consumer.embedded.process import end, spawn
from tests.parts.system import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.parts.system import System

STAGES = {"classify": ("inbound", "second"), "apply": ("ledger",)}
NAME = "another-program"
"""The client id under which workers name it."""
TAKES_WITHIN_S = 60.0
COMMIT_EVERY = 3
"""Polls between two commits."""
REPOSITORY = Path(__file__).parents[2]


class Strangers:
    """Has strangers join our groups, one after the other."""

    def __init__(self, system: System, folder: Path) -> None:
        self._system = system
        self._folder = folder
        self.joined = 0
        self.taken = 0
        self.committed = 0

    def join(self, number: int, seconds: float, stop: threading.Event) -> str:
        """Let one join, take partitions, commit for so long, and leave or die; `number` says in which group and how."""
        stage, dies = ("classify", "apply")[number % 2], number // 2 % 2 == 1
        log = self._folder / f"stranger-{self.joined}.log"
        self.joined += 1
        asked = {
            "bootstrap": self._system.bootstrap,
            "group": f"{self._system.group}.{stage}",
            "topics": [self._system.topics[role] for role in STAGES[stage]],
            "seed": number,
        }
        process = spawn([sys.executable, "-m", __name__, json.dumps(asked)], folder=REPOSITORY, output=log)
        try:
            wait_for(f"a stranger took and committed in {stage}", lambda: _said(log)["committed"], TAKES_WITHIN_S)
            stop.wait(seconds)
        finally:
            if dies:
                process.kill()
                process.wait()
            end([process], 5.0)
        said = _said(log)
        self.taken += said["held"]
        self.committed += said["committed"]
        how = "died" if dies else "left"
        return f"in {stage}: took {said['held']} partitions, committed {said['committed']} offsets, and {how}"

    def line(self) -> str:
        """Return what they did, and in how many lines workers named them."""
        logs = [event for worker in self._system.workers for event in worker.log()]
        named = sum(event.get("client_id") == NAME for event in logs)
        overwritten = sum("somebody else commits offsets" in event["event"] for event in logs)
        return (
            f"strangers: {self.joined} joined, took {self.taken} partitions and committed {self.committed} offsets; "
            f"workers named one {named} times, and what it committed {overwritten} times"
        )


def _said(log: Path) -> dict[str, int]:
    """Return what a stranger said last; a line that is not whole yet does not count."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    said = [line for line in lines if line.startswith("{")]
    return dict(json.loads(said[-1])) if said else {"held": 0, "committed": 0}


def _stranger(bootstrap: str, group: str, topics: Sequence[str], seed: int) -> None:
    """Join as any program does whose assignor fits, and commit the end, the beginning or a place between, for ever."""
    chance = random.Random(seed)
    leaves = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: leaves.set())
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "client.id": NAME,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 3000,
            "heartbeat.interval.ms": 500,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe(list(topics))
    held = committed = polls = 0
    while not leaves.is_set():
        consumer.poll(0.1)
        polls += 1
        mine = consumer.assignment()
        held = max(held, len(mine))
        if mine and polls % COMMIT_EVERY == 0:
            committed += _commit(consumer, mine, chance)
            sys.stdout.write(json.dumps({"held": held, "committed": committed}) + "\n")
            sys.stdout.flush()
    consumer.close()


def _commit(consumer: Consumer, mine: Sequence[TopicPartition], chance: random.Random) -> int:
    """Commit something of each partition, without a note; return how many offsets Kafka took."""
    share = chance.choice((0.0, 1.0, chance.random()))
    try:
        places = []
        for place in mine:
            _, high = consumer.get_watermark_offsets(place, timeout=2)
            places.append(TopicPartition(place.topic, place.partition, int(high * share)))
        done = consumer.commit(offsets=places, asynchronous=False)
    except KafkaException:  # the group is dividing its partitions anew, or a broker is away
        return 0
    return sum(place.error is None for place in done or [])


if __name__ == "__main__":
    _stranger(**json.loads(sys.argv[1]))
