"""Commits that are on their way at once: what Kafka has in the end is what is done, whatever becomes of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from consumer.committing import MOST_ON_THEIR_WAY, Commits
from consumer.domain.marks import Marks
from consumer.kafka.committed import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ZERO, ONE = Partition("inbound", 0), Partition("inbound", 1)


class Far:
    """Stands in for an inbox whose Kafka answers when the test has it answer."""

    def __init__(self) -> None:
        self.sent: list[dict[Partition, int]] = []
        self.heard: list[Any] = []

    def commit_soon(
        self, offsets: Mapping[Partition, int], _notes: Mapping[str, str], heard: Callable[[Any], None]
    ) -> None:
        self.sent.append(dict(offsets))
        self.heard.append(heard)

    def answer(self, number: int, *, refused: bool = False) -> None:
        """Answer the commit of this number."""
        self.heard[number]({p: None if refused else offset for p, offset in self.sent[number].items()})


class Classifying:
    """A classifier that has read, and whose records are acknowledged at once."""

    def __init__(self) -> None:
        self.marks: Marks[Partition] = Marks()
        self.commits = Commits(self.marks)
        self.far = Far()

    def reach(self, offsets: Mapping[Partition, int]) -> None:
        """Read up to these offsets, and send what can be sent."""
        self.marks.positions.update(offsets)
        self.marks.note()
        self.commits.send(cast("Any", self.far), {})


def test_what_is_done_goes_at_once() -> None:
    """A commit does not wait for the answer to the last one, and none says again what is on its way."""
    it = Classifying()
    it.reach({ZERO: 1, ONE: 1})
    it.reach({ZERO: 2})
    it.reach({ZERO: 2})
    assert it.far.sent == [{ZERO: 1, ONE: 1}, {ZERO: 2}]
    for number in range(2):
        it.far.answer(number)
    it.reach({ZERO: 2})
    assert len(it.far.sent) == 2
    assert it.commits.taken() == {ZERO: 2, ONE: 1}


def test_no_more_are_on_their_way_than_may() -> None:
    """A Kafka that does not answer is not sent one commit after the other; the next one says all."""
    it = Classifying()
    for offset in range(1, 10):
        it.reach({ZERO: offset})
    assert len(it.far.sent) == MOST_ON_THEIR_WAY
    it.far.answer(0)
    it.reach({})
    assert it.far.sent[-1] == {ZERO: 9}


def test_what_is_refused_is_sent_again() -> None:
    """What Kafka did not take goes with the next commit, although a later one was sent meanwhile."""
    it = Classifying()
    it.reach({ZERO: 1, ONE: 1})
    it.reach({ZERO: 2})
    it.far.answer(0, refused=True)
    it.reach({})
    assert it.far.sent[2:] == [{ZERO: 2, ONE: 1}]


def test_one_that_comes_late_is_put_right() -> None:
    """Where an earlier commit came to Kafka after a later one, the later offset is sent once more."""
    it = Classifying()
    it.reach({ZERO: 1})
    it.reach({ZERO: 2})
    it.far.answer(1)
    it.far.answer(0)
    assert it.commits.taken() == {ZERO: 1}
    it.reach({})
    assert it.far.sent[2:] == [{ZERO: 2}]


def test_one_that_is_answered_while_others_go_on_is_done_with() -> None:
    """Commits of other partitions that are on their way keep none from being written again, or put right."""
    it = Classifying()
    it.reach({ZERO: 1, ONE: 1})
    it.reach({ONE: 2})
    it.far.answer(0)
    it.far.answer(1)
    it.commits.forget([ZERO])  # somebody overwrote it
    it.reach({})
    assert it.far.sent[2:] == [{ZERO: 1}]
    it.reach({ZERO: 2})
    it.reach({ONE: 3})
    it.far.answer(3)
    it.far.answer(2)
    it.reach({})
    assert it.far.sent[5:] == [{ZERO: 2}]


def test_what_is_overwritten_meanwhile_is_written_again() -> None:
    """A partition that is to be written again is, also where an earlier commit of it is on its way."""
    it = Classifying()
    it.reach({ZERO: 1})
    it.commits.forget([ZERO])
    it.reach({})
    assert it.far.sent == [{ZERO: 1}, {ZERO: 1}]


def test_an_answer_of_what_was_given_up_concerns_nobody() -> None:
    """Of a partition that left, and came back, a late answer says nothing."""
    it = Classifying()
    it.reach({ZERO: 5, ONE: 1})
    it.marks.leave([ZERO])
    it.commits.leave([ZERO])
    it.far.answer(0)
    assert it.commits.taken() == {ONE: 1}
    it.reach({ZERO: 3})
    assert it.far.sent[1:] == [{ZERO: 3}]
