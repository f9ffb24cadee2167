"""Up to which time everything is in the ledger: never later than is true, and as late as offsets can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from consumer.domain.freshness import APART, MANY, MOST_SAMPLES, Bounds, Freshness

if TYPE_CHECKING:
    from collections.abc import Mapping


def bounds(**ends: int) -> dict[str, Bounds]:
    return {partition: Bounds(0, end) for partition, end in ends.items()}


def test_nothing_is_known_before_the_first_sample_is_reached() -> None:
    """A classifier that is behind has reached no time yet, however often it is asked."""
    freshness: Freshness[str] = Freshness()
    assert freshness.reached(1000, {"a": 4}, bounds(a=5)) is None
    assert freshness.reached(2000, {"a": 4}, bounds(a=6)) is None
    assert freshness.holding == {"a"}


def test_a_sample_is_reached_later() -> None:
    """Once what a sample saw is committed, the time is that sample's, though inbound has gone on since."""
    freshness: Freshness[str] = Freshness()
    assert freshness.reached(1000, {"a": 4}, bounds(a=5)) is None
    assert freshness.reached(2000, {"a": 5}, bounds(a=9)) == 1000
    assert freshness.holding == {"a"}
    assert freshness.reached(3000, {"a": 8}, bounds(a=10)) == 1000
    assert freshness.reached(4000, {"a": 9}, bounds(a=10)) == 2000
    assert freshness.reached(5000, {"a": 10}, bounds(a=10)) == 5000
    assert freshness.holding == frozenset()


def test_every_partition_must_be_reached() -> None:
    """One partition that lags holds the time back for all, and is named."""
    freshness: Freshness[str] = Freshness()
    assert freshness.reached(1000, {"a": 5, "b": 7}, bounds(a=5, b=7)) == 1000
    assert freshness.reached(2000, {"a": 6, "b": 7}, bounds(a=6, b=8)) == 1000
    assert freshness.holding == {"b"}


@pytest.mark.parametrize("end", [0, 5])
def test_a_partition_without_a_commit_holds_back(end: int) -> None:
    """A partition that nobody ever committed for holds everything back, be it empty or not, and is named."""
    freshness: Freshness[str] = Freshness()
    assert freshness.reached(1000, {"a": 5, "b": None}, bounds(a=5, b=end)) is None
    assert freshness.reached(2000, {"a": 5}, bounds(a=5, b=end)) is None
    assert freshness.holding == {"b"}


def test_an_empty_partition_that_is_owned_holds_nothing_back() -> None:
    """The commit that a classifier makes on taking an empty partition over is enough."""
    freshness: Freshness[str] = Freshness()
    assert freshness.reached(1000, {"a": 0}, bounds(a=0)) == 1000


@pytest.mark.parametrize(("start", "end", "committed"), [(0, 5, 6), (3, 5, 2), (0, 0, 100)])
def test_an_offset_that_the_partition_does_not_hold_says_nothing(start: int, end: int, committed: int) -> None:
    """A committed offset outside the partition, recreated or shortened, holds back even what was reached before."""
    freshness: Freshness[str] = Freshness()
    assert freshness.reached(1000, {"a": 0, "b": 1}, bounds(a=0, b=1)) == 1000
    assert freshness.reached(2000, {"a": committed, "b": 1}, {"a": Bounds(start, end), "b": Bounds(0, 1)}) is None
    assert "a" in freshness.holding


def test_the_ends_of_what_a_partition_holds_are_in_it() -> None:
    """A commit at the start of a partition, or at its end, is one that it holds."""
    freshness: Freshness[str] = Freshness()
    assert freshness.reached(1000, {"a": 5}, {"a": Bounds(5, 5)}) == 1000
    assert freshness.reached(2000, {"a": 5}, {"a": Bounds(5, 6)}) == 1000


def test_a_new_partition_holds_back_what_comes_after_it() -> None:
    """A partition added to inbound holds back the samples that saw it until it is committed for, and no earlier one."""
    freshness: Freshness[str] = Freshness()
    assert freshness.reached(1000, {"a": 5}, bounds(a=5)) == 1000
    assert freshness.reached(2000, {"a": 5}, bounds(a=5, b=0)) == 1000
    assert freshness.holding == {"b"}
    assert freshness.reached(3000, {"a": 5, "b": 0}, bounds(a=5, b=0)) == 3000


def test_forgetting_starts_anew() -> None:
    """After a change of clocks no time of the old one is told."""
    freshness: Freshness[str] = Freshness()
    assert freshness.reached(9000, {"a": 5}, bounds(a=5)) == 9000
    freshness.forget()
    assert freshness.reached(1000, {"a": 5}, bounds(a=6)) is None


def test_a_clock_that_is_set_back_starts_anew() -> None:
    """Where the clock was set back no time ahead of it is told: what it vouches for would look new for long."""
    freshness: Freshness[str] = Freshness()
    assert freshness.reached(50_000, {"a": 5}, bounds(a=5)) == 50_000
    assert freshness.reached(1_000, {"a": 5}, bounds(a=6)) is None  # the sixth is a STOP that nobody has classified
    assert freshness.reached(2_000, {"a": 5}, bounds(a=6)) is None
    assert freshness.reached(3_000, {"a": 6}, bounds(a=6)) == 3_000


def test_samples_are_bounded() -> None:
    """A classifier that never catches up costs a bounded number of samples."""
    freshness: Freshness[str] = Freshness()
    for second in range(2 * MOST_SAMPLES):
        freshness.reached(1000 * second, {"a": 0}, bounds(a=second + 1))
    assert freshness.reached(10**7, {"a": MOST_SAMPLES}, bounds(a=10**6)) is None  # that sample was given up
    assert freshness.reached(10**7, {"a": 2 * MOST_SAMPLES}, bounds(a=10**6)) == 1000 * (2 * MOST_SAMPLES - 1)


def test_frequent_samples_take_no_room_from_old_ones() -> None:
    """Where Kafka is far away, and passes begin more often, a classifier may be behind for as long as elsewhere."""
    freshness: Freshness[str] = Freshness()
    for number in range(3 * (MOST_SAMPLES - MANY)):  # three a second
        freshness.reached(333 * number, {"a": 0}, bounds(a=number + 1))
    assert freshness.reached(10**7, {"a": 1}, bounds(a=10**6)) == 0


def test_a_clock_that_is_set_back_behind_a_time_that_was_not_kept_starts_anew() -> None:
    """Where samples are many, the last time that was read counts, and not the last that was kept."""
    freshness: Freshness[str] = Freshness()
    for second in range(2 * MANY):
        freshness.reached(1000 * second, {"a": 0}, bounds(a=1))
    last = 1000 * (2 * MANY - 1)
    assert freshness.reached(last + APART - 100, {"a": 0}, bounds(a=1)) is None  # too soon to be kept
    assert freshness.reached(last + 100, {"a": 1}, bounds(a=2)) is None
    assert freshness.reached(last + 200, {"a": 2}, bounds(a=2)) == last + 200


def covers(committed: Mapping[str, int | None], ends: Mapping[str, int]) -> bool:
    """Return whether all below these ends is committed; an empty partition needs a commit, too."""
    offsets = {partition: committed.get(partition) for partition in ends}
    return all(offset is not None and offset >= ends[partition] for partition, offset in offsets.items())


class Inbound(RuleBasedStateMachine):
    """Partitions that grow, a classifier that commits, a voucher that asks: against what was true when it asked."""

    def __init__(self) -> None:
        super().__init__()
        self.freshness: Freshness[str] = Freshness()
        self.clock = 0
        self.written: dict[str, list[int]] = {}
        self.committed: dict[str, int | None] = {}
        self.samples: list[tuple[int, dict[str, int]]] = []
        self.answer: int | None = None

    @initialize(count=st.integers(1, 2))
    def begin(self, count: int) -> None:
        for number in range(count):
            self.add(number)

    @rule(number=st.integers(0, 2))
    def add(self, number: int) -> None:
        self.written.setdefault(f"inbound-{number}", [])

    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        self.clock += 1
        self.written[data.draw(st.sampled_from(sorted(self.written)))].append(self.clock)

    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        partition = data.draw(st.sampled_from(sorted(self.written)))
        done = self.committed.get(partition) or 0
        self.committed[partition] = data.draw(st.integers(done, len(self.written[partition])))

    @rule(during=st.integers(0, 2), data=st.data())
    def ask(self, during: int, data: st.DataObject) -> None:
        """Time first, then commits, then ends, as the voucher does; inbound goes on between the three."""
        self.clock += 1
        time = self.clock
        committed = dict(self.committed)
        for _ in range(during):
            self.write(data)
        ends = {partition: len(times) for partition, times in self.written.items()}
        self.samples.append((time, ends))
        self.answer = self.freshness.reached(
            time, committed, {partition: Bounds(0, end) for partition, end in ends.items()}
        )
        assert self.answer == max((at for at, seen in self.samples if covers(committed, seen)), default=None)

    @invariant()
    def nothing_older_is_missing(self) -> None:
        """Whatever was written up to the time that was told is below what is committed."""
        if self.answer is not None:
            for partition, times in self.written.items():
                older = sum(time <= self.answer for time in times)
                assert (self.committed.get(partition) or 0) >= older


def test_the_time_is_true_and_the_newest_that_offsets_tell() -> None:
    """The time told is the newest that offsets can tell, and nothing written up to it is missing from the ledger."""
    run_state_machine_as_test(Inbound)
