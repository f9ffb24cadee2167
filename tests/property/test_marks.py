"""How far inbound may be committed, held to an oracle that remembers every record and looks at each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consumer.domain.marks import MOST_NOTED, Marks

if TYPE_CHECKING:
    from consumer.domain.marks import Mark

partitions = st.integers(0, 2)


@dataclass(eq=False)
class Made:
    """One record, of a message that stood at this offset under one assignment of its partition."""

    partition: int
    offset: int
    assignment: int
    mark: Mark[int]


@dataclass
class Owned:
    """One partition: where it was begun, and how far it was read."""

    assignment: int
    position: int
    noted: list[int] = field(default_factory=list)


class AcknowledgedInAnyOrder(RuleBasedStateMachine):
    """Partitions come and go, their messages become records, and these are acknowledged in any order, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: Marks[int] = Marks(most_noted=3)
        self.owned: dict[int, Owned] = {}
        self.outstanding: list[Made] = []
        self.assignments = 0

    @rule(partition=partitions, start=st.integers(0, 5))
    def begin(self, partition: int, start: int) -> None:
        if partition not in self.owned:
            self.assignments += 1
            self.owned[partition] = Owned(self.assignments, start)
            self.marks.positions[partition] = start

    @rule(partition=partitions)
    def leave(self, partition: int) -> None:
        self.owned.pop(partition, None)
        self.marks.leave([partition])

    @rule(partition=partitions, records=st.integers(0, 3), step=st.integers(1, 3))
    def read(self, partition: int, records: int, step: int) -> None:
        one = self.owned.get(partition)
        if one is not None:
            self.outstanding += [
                Made(partition, one.position, one.assignment, self.marks.made()) for _ in range(records)
            ]
            one.position += step
            self.marks.positions[partition] = one.position

    @precondition(lambda self: self.outstanding)
    @rule(which=st.integers(0, 100))
    def acknowledge(self, which: int) -> None:
        self.outstanding.pop(which % len(self.outstanding)).mark.acknowledged()

    @rule()
    def note(self) -> None:
        self.marks.note()
        for one in self.owned.values():
            one.noted.append(one.position)

    @invariant()
    def nothing_outstanding_lies_below(self) -> None:
        for partition, offset in self.marks.done().items():
            owned = self.owned[partition]  # none that was given up
            assert offset in owned.noted
            assert not [
                made
                for made in self.outstanding
                if (made.partition, made.assignment) == (partition, owned.assignment) and made.offset < offset
            ]

    @invariant()
    def all_is_done_when_all_is_acknowledged(self) -> None:
        if not self.outstanding:
            self.note()
            self.marks.done()
            self.note()
            assert self.marks.done() == {partition: one.position for partition, one in self.owned.items()}


TestAcknowledgedInAnyOrder = AcknowledgedInAnyOrder.TestCase
TestAcknowledgedInAnyOrder.settings = settings(max_examples=50, deadline=None)


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 40))
def test_done_reaches_the_first_outstanding_mark(made: list[int], silent: int) -> None:
    """While one record is never acknowledged all that was noted before it is done, and nothing behind it, ever."""
    marks: Marks[str] = Marks()
    for number, records in enumerate(made):
        for _ in range(records):
            marks.made().acknowledged()
        if number == silent:
            marks.made()
        marks.positions["p"] = number + 1
        marks.note()
    reached = min(silent, len(made))
    assert marks.done() == ({"p": reached} if reached else {})


def test_marks_take_no_more_room_than_they_may() -> None:
    """However long nothing is acknowledged, only so many marks are kept; afterwards the last position is done."""
    marks: Marks[str] = Marks()
    stuck = [marks.made()]
    for position in range(10 * MOST_NOTED):
        marks.positions["p"] = position
        stuck.append(marks.made())
        marks.note()
    assert len(marks._noted) == MOST_NOTED
    assert marks.done() == {}
    for mark in stuck:
        mark.acknowledged()
    marks.done()
    marks.note()
    assert marks.done() == {"p": 10 * MOST_NOTED - 1}
