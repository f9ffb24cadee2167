"""A worker killed and Redis flushed under load: every change is told once, and the view is what the ledger says."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts import oracle
from tests.parts.chance import seed_of
from tests.parts.system import System, inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.kafka import Kafka

MESSAGES = int(os.environ.get("OPTOUT_TEST_MESSAGES", "20000"))
SEED = seed_of("kill and flush")
KEYWORDS = ("STOP", "stop ", "Start", "UNSTOP", "quit", "yes", "End", "cancel")
TALK = ("see you at 3", "stop messages", "thanks!", "UNSUB", "can I move my appointment to Tuesday? my son is ill")


def messages(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Make texts of 3 % keywords from 2,000 patients of 50 locations, some twice, some out of order."""
    chance = random.Random(seed)
    now = time.time_ns() // 1_000_000 - count
    last = None
    for number in range(count):
        if last is not None and chance.random() < 0.001:
            yield {**last, "message_id": f"again-{number}"}
            continue
        patient = chance.randrange(2000)
        body = chance.choice(KEYWORDS) if chance.random() < 0.03 else chance.choice(TALK)
        late = chance.randrange(5000) if chance.random() < 0.1 else 0
        last = inbound(f"loc-{patient % 50}", f"+1202555{patient:04d}", body, received_at=now + number - late)
        yield last


@pytest.mark.timeout(600)
def test_each_change_is_told_once(replicated_kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> None:
    """With three workers, one of them killed, and Redis flushed, no change is lost, doubled or out of order."""
    print(f"{MESSAGES} messages, seed {SEED}")  # noqa: T201 - beside the header that says how to have it again
    sent = list(messages(MESSAGES, SEED))
    with System(replicated_kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=16) as system:
        system.create_topics()
        workers = [system.start_worker() for _ in range(3)]
        wait_for("all have work", lambda: all("buckets received" in worker.events() for worker in workers), 60)
        third = len(sent) // 3
        system.send(sent[:third])
        wait_for("some are applied", lambda: sum(system.metas("applied").values()) > third // 100, 60)
        workers[0].kill()
        system.send(sent[third : 2 * third])
        system.flush_redis()
        system.send(sent[2 * third :])
        wait_for("settled", system.settled, 120)
        changes = oracle.changes_of(system.read("ledger"))
        # A commit returns before its markers are written, and until then a read_committed reader sees less.
        wait_for("every change can be read", lambda: len(system.read("changed")) >= len(changes))
        told = system.read("changed")
        assert not oracle.twice(oracle.told(told))
        assert oracle.told(told) == changes
        assert system.members() == oracle.members_of(changes) == oracle.members_after(sent)
        assert len(system.read("confirmations")) == len(changes) > MESSAGES // 100
        assert in_order(told)
        assert all(worker.stop() == 0 for worker in workers[1:])


def in_order(told: list[oracle.Written]) -> bool:
    """Whether each subscription's versions count 1, 2, 3 in the order in which a reader meets them."""
    last: dict[tuple[str, str], int] = {}
    for *_, record in sorted(told, key=lambda written: written[:2]):
        key = (record["location_id"], record["patient_number"])
        if record["version"] != last.get(key, 0) + 1:
            return False
        last[key] = record["version"]
    return True
