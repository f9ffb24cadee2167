"""The examples that can run do, on a real Kafka and a real Redis, and say what the documents say that they do."""

from __future__ import annotations

import subprocess
import sys
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import pytest

from tests.docs import console
from tests.docs.documents import block_with, blocks
from tests.docs.world import WHO_STOPPED, saved
from tests.parts.system import inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.docs.documents import Block
    from tests.docs.world import World


class Enough(Exception):
    """The reader has seen what the test waited for."""


@pytest.mark.parametrize("block", [b for b in blocks("console") if console.can_run(b)], ids=str)
def test_commands_say_what_is_shown(world: World, block: Block) -> None:
    """Each command that a document shows with its output has that output."""
    steps = console.steps(world.here(block.text))
    for step, said in zip(steps, console.run(steps, environment=world.environment, folder=world.folder), strict=True):
        assert console.matches([world.shown(line) for line in step.output], world.shown(said)), (
            f"{block}: `{step.command}` said:\n{said}"
        )


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_runs(world: World, block: Block) -> None:
    """Each piece of Python in a document runs to its end as it stands, in a folder with our schemas."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", world.here(block.text)],
        env=world.environment,
        cwd=world.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{block}: {done.stderr}"


def test_the_reader_of_changes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader keeps each subscription's newest change, and reading all again changes nothing."""
    system = world.system
    system.send([inbound("loc-2", WHO_STOPPED, "STOP")])
    wait_for("opted out", lambda: ("loc-2", WHO_STOPPED) in system.members())
    system.send([inbound("loc-2", WHO_STOPPED, "START")])
    wait_for("opted in", lambda: ("loc-2", WHO_STOPPED) not in system.members())
    wait_for("told", system.settled)

    code = world.here(block_with("docs/CONTRACT.md", "python", "def follow").text)
    reader = saved(world.folder, code, monkeypatch)
    expected = {("loc-1", WHO_STOPPED): ("OPTED_OUT", 1), ("loc-2", WHO_STOPPED): ("OPTED_IN", 2)}
    for group in ("first", "again"):
        seen = _followed(reader, world, group, messages=len(system.read("changed")))
        kept = {key: (change["status"], change["version"]) for key, change in reader["known"].items()}
        assert kept.items() >= expected.items()
        assert all(change["event_id"] == _event_id(change["ledger"]) for change in seen)
        assert [change["version"] for change in seen if change["location_id"] == "loc-2"] == [1, 2]


def test_the_request_of_an_import(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request suppresses its patient and is told once, however often it is made; nobody is sent a confirmation."""
    system = world.system
    code = world.here(block_with("docs/CONTRACT.md", "python", "def request").text)
    for _ in range(2):
        past = saved(world.folder, code, monkeypatch)["past"]
    wait_for("SUPPRESSED", lambda: system.verdict(past["location_id"], past["patient_number"]) == "SUPPRESSED")
    wait_for("settled", system.settled)
    told = [w.record for w in system.read("changed") if w.record["location_id"] == past["location_id"]]
    assert [(change["source"], change["version"], change["keyword"]) for change in told] == [("IMPORT", 1, "UNSUB")]
    assert past["location_id"] not in [w.record["location_id"] for w in system.read("confirmations")]
    assert not system.read("dead")


def _followed(reader: dict[str, Any], world: World, group: str, *, messages: int) -> list[dict[str, Any]]:
    """Let the reader run until it has kept so many changes, and return them."""
    keep: Callable[[dict[str, Any]], None] = reader["keep"]
    seen: list[dict[str, Any]] = []

    def watched(change: dict[str, Any]) -> None:
        keep(change)
        seen.append(change)
        if len(seen) == messages:
            raise Enough

    reader["follow"].__globals__["keep"] = watched
    with pytest.raises(Enough):
        reader["follow"](world.system.bootstrap, f"{world.system.prefix}{group}")
    return seen


def _event_id(ledger: dict[str, Any]) -> str:
    """Return the event's id, made as the document says."""
    text = f"{ledger['topic_id']}:{ledger['partition']}:{ledger['offset']}:SubscriptionChanged"
    return blake2b(text.encode(), digest_size=16).hexdigest()
