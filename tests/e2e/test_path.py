"""The main job, as its users meet it: commands, workers as processes, a real Kafka and a real Redis."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.parts import oracle
from tests.parts.system import inbound, wait_for

if TYPE_CHECKING:
    from tests.parts.system import System

PATIENT = "+12025550143"


@pytest.mark.smoke
def test_stop_holds_until_start(system: System) -> None:
    """A STOP is in force within a second, near misses lift nothing, START does, and both changes are told once."""
    worker = system.start_worker()
    wait_for("ALLOWED", lambda: system.verdict("loc-1", PATIENT) == "ALLOWED")

    assert system.run("simulate", "--no-wait", "loc-1", PATIENT, " stop ").returncode == 0
    sent = time.monotonic()
    wait_for("in the set", lambda: ("loc-1", PATIENT) in system.members(), 5)
    assert time.monotonic() - sent < 1.0
    assert system.verdict("loc-1", PATIENT) == "SUPPRESSED"
    assert system.verdict("loc-2", PATIENT) == "ALLOWED"

    for talk in ("stop messages", "UNSUB"):
        assert system.run("simulate", "loc-1", PATIENT, talk).returncode == 0
    wait_for("read", system.settled)
    assert system.verdict("loc-1", PATIENT) == "SUPPRESSED"

    assert system.run("simulate", "loc-1", PATIENT, "Start").returncode == 0
    wait_for("ALLOWED again", lambda: system.verdict("loc-1", PATIENT) == "ALLOWED")
    wait_for("told", system.settled)
    changes = system.read("changed")
    assert [(c.record["status"], c.record["previous_status"], c.record["version"]) for c in changes] == [
        ("OPTED_OUT", "OPTED_IN", 1),
        ("OPTED_IN", "OPTED_OUT", 2),
    ]
    confirmations = [written.record for written in system.read("confirmations")]
    assert [confirmation["status"] for confirmation in confirmations] == ["OPTED_OUT", "OPTED_IN"]
    for confirmation in confirmations:
        claims = [system.guard().claim_confirmation("loc-1", PATIENT, confirmation["event_id"]).kind for _ in range(2)]
        assert claims == ["ALLOWED", "SUPPRESSED"]
    assert worker.stop() == 0
    assert "worker stopped" in worker.events()


def test_unreadable_and_unattributable_records_are_kept(system: System) -> None:
    """What cannot be read or attributed lies whole in the dead-letter topic, with its reason, and stops nobody else."""
    system.start_worker()
    nobody = inbound("", PATIENT, "STOP")
    no_number = inbound("loc-1", "not a number", "Stop")
    system.send([nobody, no_number, inbound("loc-1", PATIENT, "STOP")], raw=[b"\x00garbage", b"", b"\xff" * 100])
    wait_for("read", system.settled)
    letters = system.read("dead")
    reasons = sorted(dict(letter.record["headers"])["optout.reason"].decode() for letter in letters)
    assert reasons == sorted(
        ["not-framed", "not-framed", "unattributable-opt-out", "unattributable-opt-out", "unknown-schema"]
    )
    assert {letter.record["raw"] for letter in letters} >= {b"\x00garbage", b"", b"\xff" * 100}
    assert system.members() == {("loc-1", PATIENT)}


def test_order_ties_and_duplicates(system: System) -> None:
    """The patient's clock decides, the opt-out wins a tie, and a text that comes again changes nothing."""
    system.start_worker()
    now = time.time_ns() // 1_000_000 - 60_000
    late_start = [
        inbound("loc-1", PATIENT, "STOP", received_at=now),
        inbound("loc-1", PATIENT, "START", received_at=now - 5),
    ]
    tie = [inbound("loc-2", PATIENT, body, received_at=now) for body in ("STOP", "START")]
    tie_reversed = [inbound("loc-3", PATIENT, body, received_at=now) for body in ("START", "STOP")]
    again = [inbound("loc-4", PATIENT, "Quit", received_at=now + i) for i in range(3)]
    system.send([*late_start, *tie, *tie_reversed, *again])
    wait_for("settled", system.settled)
    assert system.members() == {(f"loc-{i}", PATIENT) for i in (1, 2, 3, 4)}
    told = oracle.told(system.read("changed"))
    assert sorted((change.location, change.version) for change in told) == [(f"loc-{i}", 1) for i in (1, 2, 3, 4)]
    assert told == oracle.changes_of(system.read("ledger"))


def test_the_examples_go_their_way(system: System) -> None:
    """What stands beside the schemas as examples is read, decided and told as on any day, and its evidence is kept."""
    system.start_worker()
    messages = json.loads((oracle.SCHEMAS / "examples" / "InboundMessage.json").read_text("utf-8"))
    golden = (oracle.SCHEMAS / "examples" / "OptOutRequested.534D5302.hex").read_text("ascii").split()
    system.write("requests", *((0, bytes.fromhex(line)) for line in golden))
    system.send(messages)
    wait_for("settled", system.settled)
    ledger = system.read("ledger")
    assert len(ledger) == len(golden) + sum(1 for message in messages if message["body"].strip() == "STOP")
    evidence = {written.record["origin"]["message_id"]: written.record["raw_body"] for written in ledger}
    assert evidence[messages[0]["message_id"]] == messages[0]["body"]
    told = oracle.changes_of(ledger)
    wait_for("told", lambda: oracle.told(system.read("changed")) == told)
    assert system.members() == oracle.members_of(told)
    assert not system.read("dead")


def test_nothing_personal_in_logs(system: System) -> None:
    """No body and no full number stands in what a worker logs."""
    worker = system.start_worker()
    secret = "please stop calling my sister Ann"
    system.send(
        [inbound("loc-1", PATIENT, secret), inbound("loc-1", "12", "STOP"), inbound("loc-1", PATIENT, " UnStop ")]
    )
    wait_for("settled", system.settled)
    worker.stop()
    log = worker.log_file.read_text()
    assert "Ann" not in log
    assert "UnStop" not in log
    assert PATIENT[1:] not in log
