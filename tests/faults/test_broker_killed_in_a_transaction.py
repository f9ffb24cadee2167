"""A broker is killed while a transaction is open: whatever becomes of that one, each change is told once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from consumer.kafka.producers import TransactionalOutbox
from tests.parts import oracle
from tests.parts.system import Applying, System, Watched, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.parts.kafka import KafkaCluster

BUCKETS = 4
TRANSACTION_S = 2.0
"""Less than a cluster takes to find another coordinator, so that the client which asks for the commit is abandoned."""
PATIENT_S = 60.0


def coordinator(kafka: KafkaCluster, transactional_id: str) -> int:
    """Return which broker, counted from 0, coordinates this id's transactions: the leader of where they are kept."""
    number = 0
    for sign in transactional_id:  # as Java hashes a string
        number = (31 * number + ord(sign)) & 0xFFFFFFFF
    number = abs(number - (1 << 32) if number >> 31 else number)
    partitions = kafka.admin().list_topics("__transaction_state", timeout=10).topics["__transaction_state"].partitions
    return int(partitions[number % len(partitions)].leader) - 1


def once(kill: Callable[[], None]) -> Callable[[], None]:
    """Return what does this the first time that it is called, and nothing later."""
    left = [kill]

    def act() -> None:
        if left:
            left.pop()()

    return act


def test_each_change_is_told_once(
    breakable_kafka: KafkaCluster, redis_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    """The coordinator of a transaction dies before its commit: the client's successor tells what it holds, once."""
    if breakable_kafka.size < 3:
        pytest.skip("one broker alone: this machine has too little memory for three")
    with System(breakable_kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as system:
        system.create_topics()
        outbox = TransactionalOutbox(system.client(), timeout=TRANSACTION_S)
        owner = Applying(system, outbox=outbox, properties={"session.timeout.ms": 45_000})
        written = 0

        def published() -> bool:  # told by Redis alone: a question for offsets would wait for the dead broker
            owner.apply()
            if not owner.publish() or any(system.metas("outbox").values()):
                return False
            return sum(system.metas("applied").values()) == written

        def change(number: int) -> int:
            where = [location_in(bucket, BUCKETS) for bucket in range(BUCKETS)]
            system.append(*((location, f"+1202555{number:04d}", "STOP") for location in where))
            return len(where)

        written += change(100)
        wait_for("told", published)
        victim = coordinator(breakable_kafka, str(outbox._config["transactional.id"]))
        killed: list[float] = []

        def kill() -> None:
            breakable_kafka.kill_broker(victim)
            killed.append(time.monotonic())

        written += change(101)
        abandoned = outbox._producer = cast("Any", Watched(outbox._ready(), before={"commit_transaction": once(kill)}))
        wait_for("told", published, PATIENT_S)
        assert killed
        assert outbox._producer is not abandoned
        print(f"told {time.monotonic() - killed[0]:.1f} s after the kill")  # noqa: T201
        written += change(102)
        wait_for("told", published, PATIENT_S)
        breakable_kafka.heal()
        changes = oracle.changes_of(system.read("ledger"))
        assert len(changes) == 3 * BUCKETS
        wait_for("all can be read", lambda: len(system.read("changed")) >= len(changes))
        told = oracle.told(system.read("changed"))
        assert not oracle.twice(told)
        assert told == changes
