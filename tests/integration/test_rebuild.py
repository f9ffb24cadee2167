"""`optout rebuild` on a real ledger and a real Redis: the owners replay, nothing is told again, nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import TopicPartition

from consumer.recovery import rebuild as module
from consumer.recovery.rebuild import NotRebuilt, Rebuild
from consumer.settings import load
from tests.parts import oracle
from tests.parts.system import COMMAND, Applying, System, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.kafka import Kafka

BUCKETS = 2
HERE, THERE = location_in(0, BUCKETS), location_in(1, BUCKETS)
PATIENT, OTHER = "+12025550143", "+12025550144"
REBUILD = ("rebuild", "--yes", "--reason", "a test")
KEYWORDS = [(HERE, PATIENT, "STOP"), (HERE, OTHER, "STOP"), (HERE, OTHER, "START"), (THERE, PATIENT, "STOP")]


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """Two buckets and some keywords; no worker."""
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.create_topics()
        deployment.append(*KEYWORDS)
        yield deployment


def settled(system: System) -> bool:
    return system.settled() and min(system.metas("fresh").values()) > 0


def applied(system: System) -> None:
    """Apply and tell all, without a worker."""
    member = Applying(system)

    def done() -> bool:
        member.apply()
        return member.publish() and system.metas("applied") == system.ends("ledger")

    wait_for("applied and told", done)
    member.die()


def epochs(system: System) -> list[object]:
    with system.redis() as client:
        return [client.hget(f"optout:{{{bucket}.{BUCKETS}}}:meta", "epoch") for bucket in range(BUCKETS)]


def test_owners_replay(system: System) -> None:
    """What was damaged is whole again, the other bucket is left alone, and no change is told a second time."""
    worker = system.start_worker()
    wait_for("settled", lambda: settled(system))
    with system.redis() as client:
        client.srem(f"optout:{{0.{BUCKETS}}}:set:{HERE}", PATIENT[1:])
    before = epochs(system)
    done = system.run(*REBUILD, "--bucket", "0")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("3 records will be replayed into 1 bucket")
    assert done.stdout.startswith("replayed and vouched for after ")
    assert (epochs(system)[0] == before[0], epochs(system)[1] == before[1]) == (False, True)
    named = [line["loss"] for line in worker.log() if "loss" in line]
    assert set(named) == {"rebuilt"}, named  # nothing was lost, and nothing is said to be
    assert system.verdict(HERE, PATIENT) == "SUPPRESSED"
    assert system.run("verify").returncode == 0
    system.append((HERE, PATIENT, "START"))
    wait_for("settled", lambda: settled(system))
    wait_for("told", lambda: len(system.read("changed")) >= len(KEYWORDS) + 1)
    assert oracle.told(system.read("changed")) == oracle.changes_of(system.read("ledger"))
    assert worker.stop() == 0


def test_changes_that_wait_are_not_lost(system: System) -> None:
    """What was applied and not yet told when its bucket was begun anew is told after the replay, once."""
    classify = system.start_worker("--only", "apply", OPTOUT_KAFKA_TRANSACTION_TIMEOUT_MS="10000")
    wait_for("settled", lambda: system.metas("applied") == system.ends("ledger"))
    classify.kill()  # with or without its changes told
    done = system.run(*REBUILD, "--no-wait")
    assert (done.returncode, done.stdout) == (0, "begun anew; the workers replay them\n"), done.stderr
    assert system.metas("applied") == {0: 0, 1: 0}
    assert system.verdict(HERE, PATIENT) == "UNKNOWN"
    worker = system.start_worker()
    wait_for("settled", lambda: settled(system), 60)
    wait_for("told", lambda: len(system.read("changed")) >= len(KEYWORDS))
    assert oracle.told(system.read("changed")) == oracle.changes_of(system.read("ledger"))
    assert system.members() == {(HERE, PATIENT), (THERE, PATIENT)}
    named = [line["loss"] for line in worker.log() if "loss" in line]
    assert set(named) <= {"rebuilt"}, named
    assert worker.stop() == 0


def test_nobody_applies(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no worker runs that is said after a while; one that starts later finds the buckets and replays them."""
    applied(system)
    for name, value in system.environment.items():
        if name.startswith("OPTOUT_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "NOBODY_AFTER", 1.0)
    rebuild = Rebuild(load(), [0, 1])
    rebuild.begin()
    seen: list[tuple[int, int]] = []
    told: list[str] = []
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    with pytest.raises(NotRebuilt, match="2 of 2 buckets are not vouched for, and nothing has moved"):
        rebuild.await_vouched(lambda done, total: seen.append((done, total)), lambda: told.append("once"))
    assert set(seen) == {(0, 4)}
    assert told == ["once"]
    system.start_worker()
    rebuild = Rebuild(load(), [0, 1])
    monkeypatch.setattr(module, "NOBODY_AFTER", 30.0)
    assert rebuild.await_vouched(lambda done, total: seen.append((done, total))) > 0
    assert system.members() == {(HERE, PATIENT), (THERE, PATIENT)}


def test_waiting_can_be_ended(system: System) -> None:
    """Ctrl-C ends the waiting, not the replay, and says so."""
    applied(system)
    process = subprocess.Popen(
        [*COMMAND, *REBUILD],
        env=system.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - it takes no lock
    )
    wait_for("begun anew", lambda: system.metas("applied") == {0: 0, 1: 0})
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == (
        "optout: not waited for any longer; workers replay what was begun anew, now or when they run"
    )


def test_what_is_refused(system: System) -> None:
    """Nothing is begun anew unasked, or where what Redis holds could not be read again, or is another ledger's."""
    applied(system)
    before = epochs(system)
    done = system.run("rebuild", "--reason", "a test")
    assert (done.returncode, done.stderr) == (2, "optout: there is no terminal to ask at: say --yes\n")
    done = system.run(*REBUILD, OPTOUT_REDIS_URL="redis://127.0.0.1:1/0")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    done = system.run(*REBUILD, "--bucket", "2")
    assert (done.returncode, done.stderr) == (2, "optout: --bucket 2: there are 2 buckets, 0 to 1\n")
    done = system.run(*REBUILD, OPTOUT_GROUP="another")
    assert done.returncode == 1
    assert "Redis holds the view of another ledger" in done.stderr
    place = TopicPartition(system.topics["ledger"], 1, 1)
    system.admin.delete_records([place])[place].result(10)
    done = system.run(*REBUILD)
    assert done.returncode == 1
    assert "[1] lost its beginning" in done.stderr
    assert epochs(system) == before
