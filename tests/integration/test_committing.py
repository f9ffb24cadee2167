"""How far inbound is committed while acknowledgements are slow, overtake each other, or come too late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer import classifier as module
from consumer.classifier import TooManyDeadLetters
from consumer.domain.bad_records import BadRecords
from tests.integration.test_classifier import system, text, until_committed
from tests.parts.acknowledging import HeldBack
from tests.parts.system import Classifying, wait_for

if TYPE_CHECKING:
    from tests.parts.system import System

__all__ = ["system"]
HELD = "held back"
"""The location whose records are written, and not heard of."""


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gives partitions up does not wait for what is held back."""
    monkeypatch.setattr(module, "FLUSH_ON_REVOKE", 0.5)


def held_back(classifier: Classifying) -> HeldBack:
    return HeldBack(classifier.producer, lambda key: key.startswith(HELD.encode()))


def committed(system: System) -> dict[int, int]:
    return system.committed("classify", "inbound")


def test_acknowledgements_overtake_each_other(system: System) -> None:
    """However many acknowledgements come, no offset passes a record that none came for; all before it is committed."""
    classifier = Classifying(system)
    until_committed(system, classifier)
    acknowledging = held_back(classifier)
    system.write("inbound", (0, text(system, "STOP")), (0, text(system, "hello")))
    classifier.until(lambda: committed(system) == {0: 2, 1: 0})
    system.write("inbound", (0, text(system, "STOP", HELD)), (0, text(system, "STOP", "loc-2")))
    classifier.until(lambda: acknowledging.held == 1)
    for body in ("STOP", "START", "talk"):
        system.write("inbound", (0, text(system, body, "loc-3")), (1, text(system, body, "loc-4")))
        classifier.classify(3)
        assert committed(system) == {0: 2, 1: 0}
    acknowledging.release()
    until_committed(system, classifier)
    classifier.die()


def test_late_acknowledgement_moves_nobody_elses_offset(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is acknowledged after its partition was given up takes the offset of the one who has it now nowhere."""
    monkeypatch.setattr(module, "COMMIT_EVERY", 0.0)  # so that whatever is done is committed before more is
    former = Classifying(system)
    until_committed(system, former)
    acknowledging = held_back(former)
    for marks in (1, 2):  # the first is to be done while the second is not: both hold what is given up
        system.write("inbound", *((partition, text(system, "STOP", HELD)) for partition in (0, 1)))
        former.until(lambda marks=marks: acknowledging.held == 2 * marks)  # type: ignore[misc]
    heir = Classifying(system)

    def shared() -> bool:
        heir.classify()
        former.classify()
        return len(former.inbox.owned) == len(heir.inbox.owned) == 1

    wait_for("the partitions are shared", shared)
    (moved,) = (partition.number for partition in heir.inbox.owned)
    assert committed(system) in ({0: 0, 1: 0}, {moved: 2, 1 - moved: 0})
    system.write("inbound", (moved, text(system, "START", HELD)))
    heir.until(lambda: committed(system)[moved] == 3)
    acknowledging.release(2)
    former.until(lambda: committed(system)[1 - moved] == 1)
    assert committed(system)[moved] == 3
    acknowledging.release()
    former.until(lambda: committed(system)[1 - moved] == 2)
    assert committed(system)[moved] == 3
    former.die()
    heir.die()


def test_partition_that_comes_back_waits_for_its_own(system: System) -> None:
    """A partition that left and came back is read again from its offset, and waits for what is made of it then."""
    classifier = Classifying(system)
    until_committed(system, classifier)
    acknowledging = held_back(classifier)
    system.write("inbound", (0, text(system, "STOP", HELD)), (0, text(system, "END", HELD)))
    classifier.until(lambda: acknowledging.held == 2)
    heir = Classifying(system)
    held_back(heir)

    def shared() -> bool:
        heir.classify()
        classifier.classify()
        return len(classifier.inbox.owned) == len(heir.inbox.owned) == 1

    wait_for("the partitions are shared", shared)
    heir.die()  # it has committed nothing of what is held back
    classifier.until(lambda: len(classifier.inbox.owned) == 2)
    classifier.until(lambda: acknowledging.held >= 2)
    assert committed(system)[0] == 0

    def all_heard() -> bool:
        acknowledging.release()  # and what is read again after that, as soon as it is written
        return committed(system) == system.ends("inbound")

    classifier.until(all_heard)
    classifier.die()


def test_who_gives_up_commits_what_is_done(system: System) -> None:
    """With a record outstanding a classifier that leaves commits all before it, and its successor reads the rest."""
    first = Classifying(system)
    until_committed(system, first)
    acknowledging = held_back(first)
    system.write("inbound", (0, text(system, "STOP")), (0, text(system, "STOP", HELD)), (0, text(system, "talk")))
    first.until(lambda: acknowledging.held == 1)
    first.die()
    assert committed(system)[0] < 2
    second = Classifying(system)
    until_committed(system, second)
    second.die()
    keywords = [written.record["location_id"] for written in system.read("ledger")]
    assert keywords.count(HELD) == 2


def test_too_many_dead_letters_commit_what_is_done(system: System) -> None:
    """A classifier that stops for too many dead letters commits none of them before it is acknowledged."""
    system.make_topics(dead=1)
    classifier = Classifying(system, limits=BadRecords(in_a_row=2))
    until_committed(system, classifier)
    HeldBack(classifier.producer, lambda _key: True)
    system.write("inbound", (0, text(system, "talk")), (0, b"no record"), (0, b"no record"), (0, b"no record"))
    with pytest.raises(TooManyDeadLetters):
        classifier.until(lambda: False)
    assert committed(system)[0] <= 1
    classifier.die()
    assert committed(system)[0] <= 1
