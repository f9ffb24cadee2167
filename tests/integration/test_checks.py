"""What `optout check-config` sees of a ledger, and of the appliers' offsets, that are not what they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # public all the same
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from consumer.watch import CRIES
from tests.integration.test_verify import system
from tests.parts.system import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.parts.system import System

__all__ = ["system"]


def set_back(system: System) -> None:
    system.commit_both("apply", "ledger", {0: 1})


def truncate(system: System) -> None:
    place = TopicPartition(system.topics["ledger"], 0, 1)
    system.admin.delete_records([place])[place].result(10)


def read_on(system: System) -> None:
    system.redis().hset("optout:{0.2}:meta", "applied", 9)


SENTENCES: dict[Callable[[System], None], str] = {
    set_back: "the offset that the group of the appliers has committed of {} [0] is 1, but changes up to 4 were told",
    truncate: "{} [0] begins at offset 1: its first records were deleted",
    read_on: "{} [0] ends at offset 4, but 9 records of it were read",
}


@pytest.mark.parametrize("damage", SENTENCES)
def test_what_is_not_what_it_was_is_named(system: System, damage: Callable[[System], None]) -> None:
    """A worker would stop because of it some time later; who looks is told before."""
    assert f"{system.topics['ledger']} [" not in faults(system)
    damage(system)
    assert SENTENCES[damage].format(system.topics["ledger"]) in faults(system)


def faults(system: System) -> str:
    done = system.run("check-config")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_ledger_that_keeps_its_writers_times_is_named(system: System) -> None:
    """An older ledger goes on as it is; whoever looks is told what a forged START could do there."""
    assert f"{system.topics['ledger']} has message.timestamp.type=CreateTime: set LogAppendTime" in faults(system)
    assert "message.timestamp.type" not in system.run("topics", "create").stderr


LOSING = {
    "cleanup.policy": "compact,delete",
    "retention.ms": "3600000",
    "retention.bytes": "1000000000",
    "unclean.leader.election.enable": "true",
}


def test_inbound_that_can_lose_texts_is_named(system: System) -> None:
    """Whatever setting can lose texts unread, `check-config` names it, and a worker that starts cries, and reads."""
    system.create_topics()
    inbound = system.topics["inbound"]
    assert f"{inbound} has" not in faults(system)
    requests = system.topics["requests"]
    for topic, settings in ((inbound, LOSING), (requests, {"retention.ms": "86399999"})):
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in settings.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        system.admin.incremental_alter_configs([resource])[resource].result(10)
    named = [
        *(f"{inbound} has {name}={value}: set " for name, value in LOSING.items()),
        f"{requests} has retention.ms=",
    ]
    wait_for("named", lambda: all(one in faults(system) for one in named))
    worker = system.start_worker()
    wait_for("read", lambda: system.committed("classify", "inbound") == system.ends("inbound"))

    def cried() -> list[str]:
        return [line["reason"] for line in worker.log() if line["event"] == CRIES["inbound"]]

    wait_for("cried", lambda: len(cried()) == len(named))
    assert all(any(one in reason for reason in cried()) for one in named)


def test_a_user_that_workers_cannot_work_with_is_named(system: System) -> None:
    """Settings are not called sound that a worker refuses."""
    user = f"limited-{system.prefix[:-1]}"
    with system.redis() as client:
        client.acl_setuser(user, enabled=True, passwords="+pw", keys=["other:*"], commands=["+@all"])
    system.environment["OPTOUT_REDIS_URL"] = system.redis_url.replace("redis://", f"redis://{user}:pw@")
    assert "Redis refuses our user or password" in faults(system)
    with system.redis() as client:
        client.acl_deluser(user)


def test_nothing_is_lost_with_what_is_met_later(system: System) -> None:
    """A view of another ledger is named beside what was found before it."""
    system.redis().hset("optout:{1.2}:meta", "log", "another/one")
    said = faults(system)
    assert "Redis holds the view of another ledger" in said
    assert f"there is no topic {system.topics['reviews']}: run `optout topics create`" in said


def test_a_kafka_that_checks_no_rights(system: System) -> None:
    """Where nobody is refused anything, it is said that everybody may write to the ledger, and nothing is refused."""
    said = faults(system)
    assert f"no rule says who may write to {system.topics['ledger']} and {system.topics['skips']}: unless" in said
    assert "everybody who reaches Kafka may, and so opt anybody in" in said
