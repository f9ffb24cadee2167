"""What is changed while a worker runs, though a start looks at it: the worker says so, and goes on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined] # public all the same
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from structlog.testing import CapturingLogger

from consumer.ops.metrics import Metrics
from consumer.watch import CRIES, Watch
from tests.parts.system import System, inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.kafka import Kafka
    from tests.parts.redis import MakeRedis

HERE, PATIENT = "loc-1", "+12025550143"
OFTEN = "import sys; from consumer import __main__, watch; watch.LOOK_EVERY = 0.5; sys.exit(__main__.main())"
"""A worker that looks twice a second."""
CHANGES = {
    "inbound": ("inbound", "retention.ms", "3600000"),
    "clocks": ("ledger", "message.timestamp.type", "CreateTime"),
    "skips": ("skips", "cleanup.policy", "compact"),
    "sizes": ("changed", "max.message.bytes", "1000"),
}
"""What is looked at, and a topic's setting with which it is wrong."""


@pytest.fixture
def system(kafka: Kafka, own_redis: MakeRedis, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    server = own_redis(settings={"maxmemory-policy": "noeviction", "appendonly": "yes"})
    with System(kafka.bootstrap, server.url, topic_prefix, tmp_path, buckets=2) as deployment:
        deployment.create_topics()
        deployment.command = [sys.executable, "-c", OFTEN]
        yield deployment


def change(system: System, role: str, name: str, value: str | None) -> None:
    """Set a topic's setting, or take it back."""
    how = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
    entry = ConfigEntry(name, value or "", incremental_operation=how)
    resource = ConfigResource(ResourceType.TOPIC, system.topics[role], incremental_configs=[entry])
    system.admin.incremental_alter_configs([resource])[resource].result(10)


def test_what_is_changed_while_a_worker_runs(system: System) -> None:
    """Each change that a start would see is named while a worker runs, with what to do, and opt-outs go on."""
    worker = system.start_worker()
    wait_for("it runs", lambda: "worker started" in worker.events())

    def cried() -> dict[str, str]:
        return {line["about"]: line["reason"] for line in worker.log() if line["event"] in CRIES.values()}

    assert cried() == {}
    for role, name, value in CHANGES.values():
        change(system, role, name, value)
    system.admin.delete_topics([system.topics["reviews"]])[system.topics["reviews"]].result(10)
    with system.redis() as client:
        client.config_set("appendonly", "no")
    wait_for("all is named", lambda: cried().keys() == CRIES.keys())
    for about, (role, name, value) in CHANGES.items():
        assert system.topics[role] in cried()[about]
        assert value in cried()[about]
        assert name in cried()[about]
    assert system.topics["reviews"] in cried()["topics"]
    assert "appendonly yes" in cried()["redis"]
    system.send([inbound(HERE, PATIENT, "STOP")])
    wait_for("in force", lambda: system.members() == {(HERE, PATIENT)})
    change(system, "inbound", "retention.ms", None)
    wait_for("well again", lambda: [line for line in worker.log() if line["event"] == "it is well again"])
    assert worker.stop() == 0


def test_what_cannot_be_asked_is_no_reason_to_stop() -> None:
    """Whatever goes wrong with looking is said, and what was known stays known."""
    log = CapturingLogger()
    answers: Iterator[list[str] | ValueError] = iter([["wrong"], ValueError("a secret"), ["wrong"], []])

    def ask() -> list[str]:
        answer = next(answers)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    metrics = Metrics()
    watch = Watch({"skips": ask}, (KeyError,), metrics, log)
    counted = []
    for _ in range(4):
        watch.look()
        counted.append(metrics.registry.get_sample_value("optout_standing_faults", {"about": "skips"}))
    assert counted == [1, 1, 1, 0]
    assert [call.method_name for call in log.calls] == ["error", "warning", "info"]
    assert "secret" not in str(log.calls)
