"""What became of one run of the crash matrix: what was lost, told twice or wrongly allowed, and what else is wrong."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.parts import oracle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.faults.texts import Text
    from tests.parts.system import System


VISIBLE_SECONDS = 20.0
"""Longer than the broker lets a transaction stand open that nobody ends."""


@dataclass
class Outcome:
    """One run. `wrong` holds what else is not as it must be, a sentence each; `notes` what is worth knowing.

    `folder` holds what the workers logged; it is there only where something is wrong.
    """

    step: str
    fault: str
    seed: int
    lost: int = 0
    doubled: int = 0
    allowed: int = 0
    kills: int = 0
    stops: int = 0
    probes: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folder: str = ""

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.allowed or self.wrong)

    def failed(self, problem: Exception) -> None:
        """Note that something failed, or did not come."""
        self.wrong.append(str(problem) if isinstance(problem, AssertionError) else repr(problem))

    @contextmanager
    def noting_failures(self) -> Iterator[None]:
        """Note what fails within the block, and go on behind it: what was lost is to be counted all the same."""
        try:
            yield
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is the verdict
            self.failed(problem)

    def __str__(self) -> str:
        verdict = "ok " if self.well else "BAD"
        harm = "" if self.well else f"  {self.lost} lost, {self.doubled} doubled, {self.allowed} allowed"
        logs = [] if self.well else [f"logs in {self.folder}"]
        words = "; ".join([*self.wrong, *self.notes, *logs])
        return f"{verdict} {self.step:27} {self.fault:14} seed {self.seed:<3} {self.seconds:5.1f} s{harm}  {words}"


def judge(outcome: Outcome, system: System, sent: list[Text]) -> None:
    """Hold what Kafka and Redis have at the end against what was sent, by folds that share no code with the product."""
    ledger = system.read("ledger")
    changes = oracle.changes_of(ledger)
    _texts(outcome, ledger, sent)
    _await_visible(system, len(changes))
    _once(outcome, changes, oracle.told(system.read("changed")))
    _confirmed(outcome, system, changes)
    _members(outcome, system, changes, sent)
    order = sorted(system.read("changed"), key=lambda written: written[:2])
    gaps = oracle.gaps((record["location_id"], record["patient_number"], record["version"]) for *_, record in order)
    outcome.wrong += [f"versions of {location} {number[-4:]} are out of order" for location, number in gaps]
    if any(system.metas("outbox").values()):
        outcome.wrong.append("the outbox is not empty")
    if dead := len(system.read("dead")):
        outcome.wrong.append(f"{dead} dead letters")


def _await_visible(system: System, changes: int) -> None:
    """Wait for a while until so many changes and confirmations can be read.

    What is committed behind a transaction that a dead worker left open is hidden until the broker ends that one.
    """
    deadline = time.monotonic() + VISIBLE_SECONDS
    while time.monotonic() < deadline:
        if min(len(system.read("changed")), len(system.read("confirmations"))) >= changes:
            return
        time.sleep(0.5)


def _texts(outcome: Outcome, ledger: Iterable[oracle.Written], sent: list[Text]) -> None:
    """Every text that is a keyword stands in the ledger, and only those."""
    written = {
        (record["location_id"], record["patient_number"], record["origin"]["message_id"]) for *_, record in ledger
    }
    expected = {(text["location_id"], text["patient_number"], text["message_id"]) for text in sent}
    outcome.lost += len(expected - written)
    if written - expected:
        outcome.wrong.append(f"{len(written - expected)} ledger records that nobody sent")


def _once(outcome: Outcome, changes: list[oracle.Change], told: list[oracle.Change]) -> None:
    """Every true change is told, and once."""
    outcome.lost += len(set(changes) - set(told))
    outcome.doubled += len(told) - len(set(told))
    if set(told) - set(changes):
        outcome.wrong.append(f"{len(set(told) - set(changes))} changes told that were none")


def _confirmed(outcome: Outcome, system: System, changes: list[oracle.Change]) -> None:
    """Every change is confirmed to its patient, and once."""
    expected = Counter((change.location, change.number) for change in changes)
    found = Counter((w.record["location_id"], w.record["patient_number"]) for w in system.read("confirmations"))
    outcome.lost += (expected - found).total()
    outcome.doubled += (found - expected).total()


def _members(outcome: Outcome, system: System, changes: list[oracle.Change], sent: list[Text]) -> None:
    """The sets in Redis are what the ledger says, and what the texts say."""
    members, folded, expected = system.members(), oracle.members_of(changes), oracle.members_after(sent)
    outcome.lost += len(expected - members)
    if members - expected:
        outcome.wrong.append(f"{len(members - expected)} members too many")
    if folded != expected:
        outcome.wrong.append("the ledger says other than the texts")
