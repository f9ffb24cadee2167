"""Each way in which a ledger can be another one than it was, on a worker that runs: it ends in words, or cries out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # public all the same
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from consumer.domain.buckets import bucket_prefix, meta_key
from tests.parts.system import System, inbound, location_in, wait_for
from tests.parts.watching import LISTEN, Eyes, patched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.kafka import Kafka


class Doomed:
    """A deployment with a worker whose ledger is tampered with."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.topic = system.topics["ledger"]
        system.command = patched(ledger_watch__IDENTIFY_EVERY=0.5)
        system.create_topics()
        self.eyes = Eyes(system.start_worker(**LISTEN))
        wait_for("it is ready", lambda: not self.eyes.unready(), 60)
        self.location = location_in(0, system.buckets)
        system.send([inbound(self.location, f"+1202555{number:04d}", "STOP") for number in range(5)])
        wait_for("settled", system.settled, 60)

    def ends(self, kind: str) -> str:
        """Wait until the worker has ended, and return the sentence in which it says why."""
        wait_for("the worker ends", lambda: self.eyes.worker.process.poll() is not None, 60)
        assert self.eyes.worker.process.returncode == 1
        sentences = [line["event"] for line in self.eyes.lines(level="critical", loss=kind)]
        assert sentences, "\n".join(self.eyes.worker.events()[-6:])
        return str(sentences[0])


@pytest.fixture
def doomed(replicated_kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[Doomed]:
    with System(replicated_kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=2) as system:
        yield Doomed(system)


def test_recreated_ledger(doomed: Doomed) -> None:
    """A ledger that was deleted and made anew under its name, with fewer buckets even, ends a worker in words."""
    doomed.system.admin.delete_topics([doomed.topic])[doomed.topic].result(30)
    doomed.system.make_topics(ledger=1)
    assert "it was deleted and made anew" in doomed.ends("ledger-recreated")


def test_no_empty_ledger_takes_the_place_of_a_lost_one(doomed: Doomed) -> None:
    """Where a ledger was, none is created in its place: who lost it is told so, and what may be left of it."""
    system = doomed.system
    system.admin.delete_topics([doomed.topic])[doomed.topic].result(30)
    wait_for("it is gone", lambda: doomed.topic not in system.admin.list_topics(timeout=10).topics)
    doomed.eyes.worker.kill()
    done = system.run("topics", "create")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "Redis holds the view of one and the group" in done.stderr
    assert "may be the last copy" in done.stderr
    system.flush_redis()
    done = system.run("topics", "create")
    assert (done.returncode, "has read inbound into one: it was deleted" in done.stderr) == (1, True), done.stderr
    assert doomed.topic not in system.admin.list_topics(timeout=10).topics
    done = system.run("topics", "create", OPTOUT_GROUP=f"{system.group}.anew")
    assert (done.returncode, done.stdout) == (0, f"created {doomed.topic}\n"), done.stderr


def test_truncated_ledger(doomed: Doomed) -> None:
    """A ledger whose first records were deleted ends a worker in words."""
    place = TopicPartition(doomed.topic, 0, 2)
    doomed.system.admin.delete_records([place])[place].result(30)
    assert "[0] begins at offset 2" in doomed.ends("ledger-truncated")


def test_shortened_ledger(doomed: Doomed) -> None:
    """A ledger that ends before what was read of it ends a worker in words."""
    with redis.Redis.from_url(doomed.system.redis_url) as client:  # as if the ledger had held 7 more
        client.hincrby(meta_key(bucket_prefix(0, 2)), "applied", 7)
    assert "[0] ends at offset 5, but 12 records of it were read" in doomed.ends("ledger-shortened")


def test_unsafe_ledger(doomed: Doomed) -> None:
    """Settings that could lose records, set while workers run, are an error and a metric, and stop nobody."""
    system, eyes = doomed.system, doomed.eyes

    def set_in_sync(replicas: int) -> None:
        entry = ConfigEntry("min.insync.replicas", str(replicas), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, doomed.topic, incremental_configs=[entry])
        system.admin.incremental_alter_configs([resource])[resource].result(30)

    set_in_sync(1)
    wait_for("it is named", lambda: eyes.lines(loss="ledger-unsafe", level="error"))
    assert "min.insync.replicas=1" in str(eyes.lines(loss="ledger-unsafe")[0]["settings"])
    assert eyes.metric("optout_ledger_unsafe_settings") == 1
    assert eyes.metric("optout_losses_total", kind="ledger-unsafe") == 1
    system.send([inbound(doomed.location, "+12025559999", "STOP")])
    wait_for("it goes on", lambda: (doomed.location, "+12025559999") in system.members())
    set_in_sync(2)
    wait_for("it is safe again", lambda: eyes.lines(loss="ledger-unsafe", level="info"))
    assert eyes.metric("optout_ledger_unsafe_settings") == 0
    assert eyes.worker.stop() == 0
    assert len(eyes.lines(loss="ledger-unsafe", level="error")) == 1
