"""Workers that were set up wrongly: they say so, and do no harm to those that were not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.parts.kafka import Kafka
from tests.parts.system import LEDGER_SETTINGS, inbound, wait_for

if TYPE_CHECKING:
    from tests.parts.system import System

PATIENT = "+12025550143"


def test_a_worker_with_another_ledger_takes_no_stop_away(system: System) -> None:
    """A worker with a wrong ledger topic is refused, with and without an applier, and no STOP is lost to it."""
    right = system.start_worker()
    system.send([inbound("loc-1", PATIENT, "hello")])
    wait_for("ALLOWED", lambda: system.verdict("loc-1", PATIENT) == "ALLOWED")
    wait_for("read", system.settled)
    assert right.stop() == 0

    other = {"OPTOUT_KEYWORD_LEDGER_TOPIC": f"{system.prefix}other-ledger"}
    refused = system.run("topics", "create", **other)
    assert (refused.returncode, "it was deleted, or has another name" in refused.stderr) == (1, True)
    Kafka(system.bootstrap).create_topic(other["OPTOUT_KEYWORD_LEDGER_TOPIC"], system.buckets, LEDGER_SETTINGS)
    system.send([inbound(f"loc-{i}", PATIENT, "STOP") for i in range(20)])
    for arguments in ((), ("--only", "classify")):
        wrong = system.start_worker(*arguments, **other)
        assert wrong.process.wait(30) == 1
        assert "another ledger" in wrong.log_file.read_text()

    system.start_worker()
    wait_for("all are opted out", lambda: len(system.members()) == 20)
    assert system.verdict("loc-7", PATIENT) == "SUPPRESSED"


def test_a_worker_that_never_had_a_redis_takes_no_buckets(system: System) -> None:
    """Beside a worker without Redis the others keep every bucket, and a STOP is in force as ever."""
    system.start_worker()
    wait_for("ALLOWED", lambda: system.verdict("loc-1", PATIENT) == "ALLOWED")
    lost = system.start_worker("--only", "apply", OPTOUT_REDIS_URL="redis://127.0.0.1:1/0")
    wait_for("it waits", lambda: "waiting for Redis before taking any bucket" in lost.events())
    system.send([inbound(f"loc-{i}", PATIENT, "STOP") for i in range(20)])
    wait_for("all are opted out", lambda: len(system.members()) == 20, 10)
    assert "buckets received" not in lost.events()
    assert lost.stop() == 0


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        (
            "redis://127.0.0.1:1/0",
            "Redis does not answer (ConnectionError): is it running, and",
        ),
        ("{redis}/99", "Redis has no database of that number: see OPTOUT_REDIS_URL"),
        ("{redis}/abc", "OPTOUT_REDIS_URL cannot be understood: a database is named by its number"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ("verify",),
        ("rebuild", "--yes", "--reason", "a test"),
        ("maintenance", "status"),
        ("maintenance", "begin", "--for", "5m", "--reason", "a test"),
        ("check-config",),
    ],
    ids=lambda command: "-".join(command[:2]),
)
def test_a_redis_that_does_not_answer(system: System, command: tuple[str, ...], address: str, sentence: str) -> None:
    """Whoever operates the system reads what is wrong with Redis, where that is set, and no more."""
    where = address.format(redis=system.redis_url.removesuffix("/0"))
    done = system.run(*command, OPTOUT_REDIS_URL=where)
    assert done.returncode in {1, 2}
    if command == ("check-config",):
        sentence = sentence.replace("does not answer", "cannot be reached")
    said = [line for line in done.stderr.splitlines() if "Redis" in line or "REDIS" in line]
    assert len(said) == 1, done.stderr
    assert sentence in said[0]


def test_a_topic_for_two_things(system: System) -> None:
    """Dead letters in inbound would be read as texts: a topic that is named for two things is refused."""
    done = system.run("worker", OPTOUT_DEAD_LETTER_TOPIC=system.topics["inbound"])
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert sentence == (
        f"optout: OPTOUT_INBOUND_TOPICS and OPTOUT_DEAD_LETTER_TOPIC name the same topic, {system.topics['inbound']}: "
        "give each its own"
    )
