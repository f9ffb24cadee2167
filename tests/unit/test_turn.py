"""Turns: nobody waits for another thread beyond the deadline, and a fork inherits no turn of a thread that it lacks."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
import redis

from consumer.nodes.deadline import deadline, left
from consumer.nodes.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def held() -> Iterator[Turn]:
    """A turn that another thread has for as long as the test takes."""
    turn, has_it, over = Turn(), threading.Event(), threading.Event()

    def hold() -> None:
        with turn.taken():
            has_it.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    has_it.wait()
    yield turn
    over.set()
    thread.join()


def test_nobody_waits_beyond_the_deadline(held: Turn) -> None:
    """Where it is another's turn, it is a timeout when the deadline is over, and at once when it was over before."""
    for seconds in (0.2, 0.0, -1.0):
        began = time.monotonic()
        with deadline(seconds), pytest.raises(redis.TimeoutError), held.taken():
            pass
        assert time.monotonic() - began < max(seconds, 0) + 0.3


def test_a_turn_that_is_free_is_taken_late_too() -> None:
    """After the deadline a free turn can still be taken, one after the other, and outside of any without an end."""
    turn = Turn()
    with deadline(-1):
        for _ in range(2):
            with turn.taken():
                pass
    with turn.taken():
        assert left() > 10**9


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_fork_has_its_own_turns(held: Turn) -> None:
    """In a forked process the turn is free: the thread that had it does not exist there."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with deadline(5), held.taken():
                code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_a_deadline_within_another_makes_it_no_longer() -> None:
    """The shorter of two deadlines counts, and the outer one is back afterwards."""
    with deadline(1):
        with deadline(60):
            assert left() < 1.1
        with deadline(0.1):
            assert left() < 0.2
        assert 0.5 < left() < 1.1
    assert left() > 10**9
