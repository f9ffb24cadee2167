"""Redis, Kafka or transactions alone are away for longer than a session: nothing is dropped, and it resumes by itself.

A worker that cannot do its work keeps its partitions, holds no more than it has room for, says why it is not ready, and
lives.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined] # public all the same
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from consumer.guard import VerdictKind
from tests.parts import oracle
from tests.parts.system import System, inbound, location_in, wait_for
from tests.parts.watching import LISTEN, Eyes, patched, steadily

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.kafka import Kafka, KafkaCluster
    from tests.parts.redis import MakeRedis

SESSION = 6.0
AWAY = SESSION + 1
"""Seconds for which a part is away."""
HERE, THERE = location_in(0, 2), location_in(1, 2)
MOST_WAITING, MOST_UNACKNOWLEDGED, MOST_RECORDS = 20, 50, 10


def stops(location: str, first: int, count: int) -> list[dict[str, Any]]:
    return [inbound(location, f"+1202555{number:04d}", "STOP") for number in range(first, first + count)]


def is_suppressed(system: System, text: dict[str, Any]) -> bool:
    return system.guard().check(text["location_id"], text["patient_number"]).kind is VerdictKind.SUPPRESSED


def require_in_sync(system: System, topic: str, replicas: int) -> None:
    """Make a topic refuse every record that fewer replicas than these have: more than there are stop it."""
    entry = ConfigEntry("min.insync.replicas", str(replicas), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    system.admin.incremental_alter_configs([resource])[resource].result(30)


def begin(system: System) -> Eyes:
    """Start a worker and wait until it is ready."""
    system.create_topics()
    eyes = Eyes(system.start_worker(**LISTEN, OPTOUT_KAFKA_SESSION_TIMEOUT_MS=str(int(SESSION * 1000))))
    wait_for("it is ready", lambda: not eyes.unready(), 90)
    eyes.mark()
    return eyes


def no_rebalance(eyes: Eyes) -> bool:
    moved = [line for line in eyes.lines() if line["event"].endswith((" given up", " received"))]
    assert not moved
    return True


def all_told(system: System, sent: list[dict[str, Any]]) -> bool:
    """Whether every change was told once, and everybody who texted STOP is opted out."""
    told = oracle.told(system.read("changed"))
    assert not oracle.twice(told)
    return len(told) == len(sent) and system.members() == oracle.members_after(sent)


@pytest.mark.timeout(300)
def test_redis_away(kafka: Kafka, own_redis: MakeRedis, topic_prefix: str, tmp_path: Path) -> None:
    """A Redis that hangs, and one that is dead, for longer than a session: paused, kept, and taken up again."""
    server = own_redis()
    with System(kafka.bootstrap, server.url, topic_prefix, tmp_path, buckets=2) as system:
        eyes = begin(system)
        sent = stops(HERE, 0, 3)
        system.send(sent)
        wait_for("settled", system.settled, 60)

        def away(reason: str) -> None:
            more = stops(HERE, len(sent), 20) + stops(THERE, len(sent), 20)
            sent.extend(more)
            system.send(more)
            wait_for("the applier says so", lambda: reason in str(eyes.unready().get("apply")))
            steadily(
                "it lives, keeps its buckets and is not ready", lambda: no_rebalance(eyes) and eyes.unready(), AWAY
            )
            assert eyes.metric("optout_trouble", part="apply", kind="redis") == 1

        os.kill(server.pid, signal.SIGSTOP)
        away("Timeout")
        os.kill(server.pid, signal.SIGCONT)
        wait_for("it is ready again", lambda: not eyes.unready(), 30)
        wait_for("settled", system.settled, 60)
        server.kill()
        away("ConnectionError")
        server.start()
        wait_for("settled", system.settled, 60)
        wait_for("it is ready again", lambda: not eyes.unready(), 30)
        wait_for("all is told", lambda: all_told(system, sent), 30)
        assert no_rebalance(eyes)
        assert eyes.metric("optout_trouble", part="apply", kind="redis") == 0
        assert eyes.worker.stop() == 0


@pytest.mark.timeout(300)
def test_writes_stuck(breakable_kafka: KafkaCluster, redis_url: str, topic_prefix: str, tmp_path: Path) -> None:
    """Transactions alone are stuck, then the ledger alone: what can go on does, what cannot waits within its limit."""
    with System(breakable_kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=2) as system:
        system.command = patched(
            applier__Applier__most_waiting=MOST_WAITING,
            applier__MOST_RECORDS=MOST_RECORDS,
            classifier__Classifier__most_unacknowledged=MOST_UNACKNOWLEDGED,
            classifier__MOST_MESSAGES=MOST_RECORDS,
        )
        eyes = begin(system)
        sent = stops(HERE, 0, 3)
        system.send(sent)
        wait_for("settled", system.settled, 60)
        breakable_kafka.stop_broker(2)  # in order, so that nothing but what asks for three replicas minds
        sent += transactions_stuck(system, eyes)
        sent += ledger_stuck(system, eyes)
        wait_for("all is told", lambda: all_told(system, sent), 30)
        assert eyes.worker.stop() == 0


def transactions_stuck(system: System, eyes: Eyes) -> list[dict[str, Any]]:
    require_in_sync(system, "__transaction_state", 3)
    few, many = stops(THERE, 100, 5), stops(HERE, 100, 300)
    system.send(few)
    wait_for("what comes now is in force", lambda: all(is_suppressed(system, text) for text in few), 30)
    system.send(many)
    wait_for("the outbox is full", lambda: "wait for the publisher" in str(eyes.unready().get("apply")), 60)
    wait_for("publishing is stuck", lambda: "publish" in eyes.unready(), 60)
    eyes.mark()

    def held() -> bool:
        most = max(system.metas("outbox").values())
        return no_rebalance(eyes) and bool(eyes.unready()) and most <= MOST_WAITING + MOST_RECORDS

    steadily("it lives, keeps its buckets, and holds no more than it may", held, AWAY)
    assert all(is_suppressed(system, text) for text in few)
    assert eyes.metric("optout_outbox_changes_max") > MOST_WAITING
    assert eyes.metric("optout_buckets", state="full") == 1
    require_in_sync(system, "__transaction_state", 2)
    wait_for("settled", system.settled, 90)
    wait_for("it is ready again", lambda: not eyes.unready(), 30)
    return few + many


def ledger_stuck(system: System, eyes: Eyes) -> list[dict[str, Any]]:
    require_in_sync(system, system.topics["ledger"], 3)
    sent = stops(HERE, 1000, 300)
    system.send(sent)
    wait_for("inbound is held", lambda: "acknowledge" in str(eyes.unready().get("classify")), 60)
    eyes.mark()

    def held() -> bool:
        waiting = eyes.metric("optout_unacknowledged_records")
        return waiting <= MOST_UNACKNOWLEDGED + MOST_RECORDS and no_rebalance(eyes)

    steadily("it lives, keeps its partitions, and holds no more than it may", held, AWAY)
    assert eyes.metric("optout_unacknowledged_records") > MOST_UNACKNOWLEDGED
    require_in_sync(system, system.topics["ledger"], 2)
    wait_for("settled", system.settled, 90)
    wait_for("it is ready again", lambda: not eyes.unready(), 30)
    return sent


@pytest.mark.timeout(300)
def test_kafka_away(breakable_kafka: KafkaCluster, redis_url: str, topic_prefix: str, tmp_path: Path) -> None:
    """All brokers hang for longer than a session: it lives, guards answer, and it goes on where it was by itself.

    That it loses its place in the group is Kafka's way: a member without an answer for a session gives up by itself.
    """
    with System(breakable_kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=2) as system:
        eyes = begin(system)
        sent = stops(HERE, 0, 3)
        system.send(sent)
        wait_for("settled", system.settled, 60)
        for broker in range(breakable_kafka.size):
            breakable_kafka.pause_broker(broker)
        wait_for("it is not ready", lambda: "Kafka cannot answer" in str(eyes.unready().get("vouch")), 30)
        steadily(
            "it lives and guards answer", lambda: eyes.unready() and all(is_suppressed(system, t) for t in sent), AWAY
        )
        for broker in range(breakable_kafka.size):
            breakable_kafka.resume_broker(broker)
        more = stops(HERE, 100, 20)
        wait_for("it is ready again", lambda: not eyes.unready(), 90)
        system.send(more)
        sent += more
        wait_for("settled", system.settled, 90)
        wait_for("all is told", lambda: all_told(system, sent), 30)
        assert eyes.worker.stop() == 0
