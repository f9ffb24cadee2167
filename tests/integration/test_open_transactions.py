"""Whoever reads a topic in which a transaction stays open says so: nobody hangs, or ends early without a word."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from consumer.domain.buckets import bucket_of
from tests.parts.system import Applying, System, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.kafka import Kafka

HERE, PATIENT = "loc-1", "+12025550143"
BUCKETS = 2
BUCKET = bucket_of(HERE, BUCKETS)


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """One STOP that is applied; then a START behind a transaction that somebody leaves open on each topic."""
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as system:
        system.make_topics(ledger=BUCKETS, dead=1, actions=1)
        system.append((HERE, PATIENT, "STOP"))
        member = Applying(system)

        def applied() -> bool:
            member.apply()
            return system.metas("applied") == system.ends("ledger")

        wait_for("applied", applied)
        member.die()
        strangers = [system.transaction("ledger", b"no record", partition=BUCKET)]
        system.append((HERE, PATIENT, "START"))
        strangers += [system.transaction(role, b"no record") for role in ("dead", "actions")]
        yield system
        for stranger in strangers:
            stranger.abort_transaction(10)


def test_commands_say_that_a_transaction_is_open(system: System) -> None:
    """`history`, `verify`, `dead-letters` and `maintenance` tell what they could read, and what kept them from more."""
    commands = (
        ("history", HERE, PATIENT),
        ("verify", "--json"),
        ("dead-letters", "list"),
        ("dead-letters", "replay", "--all", "--yes"),
        ("maintenance", "status"),
        ("check-config",),
    )
    with ThreadPoolExecutor(len(commands)) as pool:
        history, verify, listed, replayed, status, checked = pool.map(lambda command: system.run(*command), commands)
    topics = system.topics
    on_ledger = f"{topics['ledger']} [{BUCKET}] has an open transaction: nothing from offset 1 on can be read"
    assert (history.returncode, on_ledger in history.stderr) == (1, True), history.stderr
    assert history.stdout.startswith(f"{PATIENT} at {HERE}: opted out")
    found = [json.loads(line) for line in verify.stdout.splitlines()]
    assert verify.returncode == 1, verify.stderr
    assert next(one["what"] for one in found if one["kind"] == "ledger").startswith(on_ledger)
    assert {one["kind"] for one in found if one["bucket"] == BUCKET} <= {"ledger", "bucket", "change missing"}
    on_dead = f"{topics['dead']} [0] has an open transaction: nothing from offset 0 on can be read"
    assert (listed.returncode, listed.stdout, on_dead in listed.stderr) == (1, "no dead letters\n", True)
    assert (replayed.returncode, on_dead in replayed.stderr) == (1, True)
    on_actions = f"{topics['actions']} [0] has an open transaction: nothing from offset 0 on can be read"
    assert (status.returncode, on_actions in status.stdout) == (0, True), status.stderr
    assert (checked.returncode, on_ledger in checked.stderr) == (1, True), checked.stderr
    assert not any("Traceback" in done.stderr for done in (history, verify, listed, replayed, status, checked))


def test_a_gap_at_the_ledgers_end_is_named(system: System) -> None:
    """Where a transaction on the ledger was aborted `verify` names the offset that holds no record, and ends."""
    stranger = system.transaction("ledger", b"no record", partition=1 - BUCKET)
    stranger.abort_transaction(10)
    wait_for("its marker is written", lambda: system.ends("ledger")[1 - BUCKET] == 2)
    done = system.run("verify", "--json", "--bucket", str(1 - BUCKET))
    assert done.returncode == 1, done.stderr
    assert f"[{1 - BUCKET}] has no record at offset 0" in done.stdout
