"""Partitions that wait for schemas: what is taken of them, and when, whatever the client hands out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from structlog.testing import CapturingLogger

from consumer import holding
from consumer.holding import MOST_ASTRAY, HeldBack
from consumer.kafka.inbox import Partition

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from consumer.kafka.inbox import Inbox
    from consumer.wire.lookups import Lookups

HERE, THERE = Partition("texts", 0), Partition("texts", 1)


class ScriptedLookups:
    """Lookups that wait for the ids that a test names."""

    def __init__(self) -> None:
        self.awaited = {7}
        self.renewed: list[int] = []

    def awaits(self, schema_id: int) -> bool:
        return schema_id in self.awaited

    def renew(self, schema_id: int) -> None:
        self.renewed.append(schema_id)


class Sought:
    """An inbox that remembers where it was sent."""

    def __init__(self, *, can: bool = True) -> None:
        self.can = can
        self.seeks: list[tuple[Partition, int]] = []

    def seek(self, partition: Partition, offset: int) -> bool:
        self.seeks.append((partition, offset))
        return self.can


class HeldPartition:
    """A partition that is held back in front of offset 5."""

    def __init__(self) -> None:
        self.lookups, self.inbox, self.log = ScriptedLookups(), Sought(), CapturingLogger()
        self.held = HeldBack(cast("Lookups", self.lookups), cast("FilteringBoundLogger", self.log))
        self.held.hold(HERE, 5, 7)

    def turn(self) -> None:
        """What a loop does between two reads."""
        self.held.release()
        self.held.seek(cast("Inbox", self.inbox))


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> HeldPartition:
    monkeypatch.setattr(holding, "SEEK_AGAIN", 0.0)
    return HeldPartition()


def test_nothing_is_taken_while_it_waits(case: HeldPartition) -> None:
    """Neither the record itself nor what is behind it, and no other partition is touched."""
    case.turn()
    assert case.held.paused == {HERE}
    assert not any(case.held.takes(HERE, offset) for offset in (4, 5, 6, 7))
    assert case.held.takes(THERE, 6)
    assert HERE in case.held
    assert not case.inbox.seeks


def test_only_the_record_that_it_waited_for_lets_it_go_on(case: HeldPartition) -> None:
    """What the client had fetched before is dropped: it is not what comes next."""
    case.lookups.awaited.clear()
    case.turn()
    assert case.held.paused == set()
    assert case.inbox.seeks == [(HERE, 5)]
    assert not any(case.held.takes(HERE, offset) for offset in (6, 7, 8))
    assert HERE in case.held
    assert case.held.takes(HERE, 5)
    assert HERE not in case.held
    assert case.held.takes(HERE, 6)


def test_a_record_that_is_gone_is_not_waited_for_without_end(case: HeldPartition) -> None:
    """Where each of many seeks brings a later record the one before is not there any more: said, and read on."""
    case.lookups.awaited.clear()
    taken = []
    for _ in range(MOST_ASTRAY):
        case.turn()
        taken += [case.held.takes(HERE, 6), case.held.takes(HERE, 7)]
    assert taken == [False] * (2 * MOST_ASTRAY - 2) + [True, True]
    (said,) = case.log.calls
    assert said.method_name == "error"
    assert said.kwargs["offset"] == 5


def test_records_that_come_without_a_seek_prove_nothing(case: HeldPartition) -> None:
    """A client that cannot seek yet, or was not told to, may hand out what it likes: nothing is passed over."""
    case.lookups.awaited.clear()
    case.inbox.can = False
    for _ in range(2 * MOST_ASTRAY):
        case.turn()
        assert not case.held.takes(HERE, 6)
    case.inbox.can = True
    case.turn()
    assert not any(case.held.takes(HERE, 6) for _ in range(2 * MOST_ASTRAY))
    assert not case.log.calls


def test_a_no_counts_until_the_record_is_there_again(case: HeldPartition) -> None:
    """However long fetching it again takes, what was decided for it holds: else it could wait in a circle."""
    case.lookups.awaited.clear()
    case.turn()
    case.turn()
    assert case.lookups.renewed == [7, 7]


def test_a_slow_fetch_is_waited_for(case: HeldPartition, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing comes the seek is not repeated, which would drop the fetch; it is after a later record, or long."""
    case.lookups.awaited.clear()
    case.turn()
    case.turn()
    assert case.inbox.seeks == [(HERE, 5)]
    assert not case.held.takes(HERE, 6)
    case.turn()
    assert case.inbox.seeks == [(HERE, 5)] * 2
    monkeypatch.setattr(holding, "SEEK_UNHEARD", 0.0)
    case.turn()
    assert case.inbox.seeks == [(HERE, 5)] * 3


def test_who_gives_a_partition_up_forgets_it(case: HeldPartition) -> None:
    """Its next owner, this one too, begins where the group stands."""
    case.held.forget([HERE, THERE])
    assert HERE not in case.held
    assert case.held.takes(HERE, 6)
    assert case.held.trouble() is None


def test_without_a_registry_nothing_waits() -> None:
    """Where there are only the files' ids nothing is asked for."""
    held = HeldBack(None, cast("Any", CapturingLogger()))
    held.look_ahead([])
    assert held.takes(HERE, 5)
    assert held.trouble() is None
