"""Who may read where buckets are far behind, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from structlog.testing import CapturingLogger

from consumer.catching_up import AT_ONCE, CAUGHT_UP, FAR, SAY_EVERY, TURN_SECONDS, CatchingUp

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logger() -> CapturingLogger:
    return CapturingLogger()


@pytest.fixture
def catching_up(clock: Clock, logger: CapturingLogger) -> CatchingUp[int]:
    return CatchingUp(cast("FilteringBoundLogger", logger), clock)


def said(logger: CapturingLogger) -> list[str]:
    return [str(call.args[0]) for call in logger.calls]


def test_who_is_well_never_waits(catching_up: CatchingUp[int]) -> None:
    """However many are far behind, those that are not read on, and a few of the others with them."""
    left = dict.fromkeys(range(60), 50_000) | dict.fromkeys(range(60, 64), FAR)
    waiting = catching_up.waiting(left)
    assert len(waiting) == 60 - AT_ONCE
    assert not waiting & set(range(60, 64))


def test_few_are_not_held_up(catching_up: CatchingUp[int]) -> None:
    """Where no more are far behind than may read at a time, nobody waits."""
    assert catching_up.waiting(dict.fromkeys(range(AT_ONCE), 50_000)) == set()


def test_one_after_another_the_shortest_first(catching_up: CatchingUp[int]) -> None:
    """A turn lasts until the bucket has caught up; who has least left is next: buckets become definite early."""
    left = {number: 2000 + number for number in range(10)}
    order = []
    while left:
        reading = left.keys() - catching_up.waiting(left)
        assert len(reading) == min(AT_ONCE, len(left))
        done = min(reading)
        order.append(done)
        left[done] = CAUGHT_UP + 1
        assert done not in catching_up.waiting(left)  # not there yet
        del left[done]
    assert order == list(range(10))


def test_texts_that_come_in_do_not_keep_a_turn(catching_up: CatchingUp[int]) -> None:
    """A bucket that is as good as caught up gives its turn to another, and goes on reading."""
    left = dict.fromkeys(range(AT_ONCE + 1), 5000)
    (last,) = catching_up.waiting(left)
    left[0 if last else 1] = CAUGHT_UP
    assert catching_up.waiting(left) == set()


def test_a_stuck_bucket_does_not_keep_its_turn(catching_up: CatchingUp[int], clock: Clock) -> None:
    """A turn ends after some seconds if others wait: each has its turn, whatever holds one up."""
    left = dict.fromkeys(range(3 * AT_ONCE), 50_000)
    turns: list[set[int]] = []
    for _ in range(3):
        turns.append(left.keys() - catching_up.waiting(left))
        clock.now += TURN_SECONDS - 1
        assert left.keys() - catching_up.waiting(left) == turns[-1]  # switched as seldom as that
        clock.now += 2
    assert sorted(bucket for turn in turns for bucket in turn) == sorted(left)


def test_what_was_given_up_is_forgotten(catching_up: CatchingUp[int]) -> None:
    """A bucket that is gone, or stands still for another reason, leaves its turn to another."""
    left = dict.fromkeys(range(2 * AT_ONCE), 50_000)
    first = left.keys() - catching_up.waiting(left)
    for bucket in first:
        del left[bucket]
    assert catching_up.waiting(left) == set()
    again = dict.fromkeys(range(2 * AT_ONCE), 50_000)
    assert catching_up.waiting(again) == first  # theirs are the turns that were given away


def test_a_short_burst_is_not_worth_a_line(catching_up: CatchingUp[int], clock: Clock, logger: CapturingLogger) -> None:
    """What is caught up within two seconds is not said."""
    catching_up.waiting({0: 1500})
    clock.now += 1
    catching_up.waiting({0: 0})
    assert said(logger) == []


def test_progress_is_said(catching_up: CatchingUp[int], clock: Clock, logger: CapturingLogger) -> None:
    """Every few seconds: how many buckets and records are left, how fast it goes, how long it will take; then all."""
    left = {0: 50_000, 1: 40_000, 2: 10}
    catching_up.waiting(left)
    for _ in range(61):
        clock.now += 0.2
        for bucket in (0, 1):
            left[bucket] -= 200
            catching_up.applied(bucket, 200)
        catching_up.applied(2, 7)  # is not catching up
        catching_up.waiting(left)
    first, second, *_ = logger.calls
    assert len(logger.calls) == 1 + int((61 * 0.2 - 2) // SAY_EVERY)
    assert first.args == ("catching up",)
    assert first.kwargs["buckets"] == 2
    assert first.kwargs["records_per_second"] == pytest.approx(2000, rel=0.1)
    assert second.kwargs["records_left"] == pytest.approx(90_000 - 7.2 * 2000, rel=0.02)
    assert second.kwargs["seconds_left"] == pytest.approx(second.kwargs["records_left"] / 2000, rel=0.1)
    clock.now += 0.2
    catching_up.waiting({0: 0, 1: 0, 2: 10})
    done = logger.calls[-1]
    assert done.args == ("caught up",)
    assert done.kwargs == {"records": 61 * 400, "seconds": 12.4, "records_per_second": round(61 * 400 / 12.4)}
    assert said(logger).count("caught up") == 1


def test_giving_buckets_up_is_not_catching_up(
    catching_up: CatchingUp[int], clock: Clock, logger: CapturingLogger
) -> None:
    """Where another worker took over what was far behind nothing is said to have caught up."""
    catching_up.waiting({0: 50_000})
    clock.now += 2.1
    catching_up.waiting({0: 40_000})
    catching_up.waiting({})
    assert said(logger) == ["catching up"]


def test_a_replay_that_stands_still(catching_up: CatchingUp[int], clock: Clock, logger: CapturingLogger) -> None:
    """Where nothing moves no time is promised."""
    for _ in range(40):
        clock.now += 0.2
        catching_up.waiting({0: 50_000})
    assert logger.calls[0].kwargs == {
        "buckets": 1,
        "records_left": 50_000,
        "records_per_second": 0,
        "seconds_left": None,
    }
