"""The steps of a check, played without a server: what is waited for where the server changes in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ConnectionError as Gone
from redis.exceptions import NoScriptError

from consumer.guard import Unknown, VerdictKind, question
from consumer.guard.answer import Rules
from consumer.guard.checking import check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.guard import Verdict
    from consumer.nodes import Keyed

NUMBER = "12025550143"


class Played:
    """One check of one number with `catch_up`; a server's answers are given one by one."""

    def __init__(self, catch_up: float = 60.0) -> None:
        self.doubts: list[Unknown] = []
        calls = question.of_location("loc-1", [NUMBER], 8, why=False)
        self._steps = check(calls, 1, Rules(None), catch_up, lambda _, reason: self.doubts.append(reason))
        self._asked: Sequence[Keyed] = self._next(None)

    def answer(self, now: int, fresh: int, *, server: str = "a", marked: str | None = None, member: int = 0) -> Any:
        """Answer what is asked; return the verdict, or None where it is asked again."""
        ((_, command),) = self._asked
        own, mark = (server, "r"), (marked or server, "r")
        return self._given([[command[-2], *own, now, *mark, str(fresh), None, None, [member], []]])

    def fail(self, error: Exception) -> Any:
        return self._given([error])

    def _given(self, answers: list[Any]) -> Any:
        try:
            self._asked = self._next(answers)
        except StopIteration as done:
            return done.value.verdicts[0]
        return None

    def _next(self, answers: list[Any] | None) -> Any:
        wanted = self._steps.send(answers)  # type: ignore[arg-type]
        return self._steps.send(()) if isinstance(wanted, float) else wanted


def test_past_the_moment_and_not_at_it() -> None:
    """ALLOWED needs a view that is fresher than the first question by the server's clock, by a millisecond at least."""
    played = Played()
    assert played.answer(1000, 1000) is None
    assert played.answer(1050, 1000) is None
    assert played.answer(1100, 1001).kind is VerdictKind.ALLOWED


def test_another_server_has_another_clock() -> None:
    """What was first asked at one server's time says nothing at another's: the waiting begins anew there."""
    played = Played()
    assert played.answer(1000, 900) is None
    assert played.answer(9000, 8990, server="b") is None
    assert played.answer(9050, 9000, server="b") is None
    assert played.answer(1100, 1050) is None  # back at the first one, whose clock may be another by now
    assert played.answer(1150, 1101).kind is VerdictKind.ALLOWED


def test_a_clock_that_is_behind_the_view() -> None:
    """A view that is ahead of the clock counts from when the clock has reached it."""
    played = Played()
    assert played.answer(1000, 5000) is None
    assert played.answer(1050, 5000) is None
    assert played.answer(5001, 5000) is None
    assert played.answer(5050, 5002).kind is VerdictKind.ALLOWED


def test_what_is_vouched_for_elsewhere_is_waited_for() -> None:
    """A server that forgets the script, or that nobody vouches for yet, is asked again, and the moment stays."""
    played = Played()
    assert played.answer(1000, 900) is None
    assert played.answer(1100, 990, marked="z") is None
    assert played.doubts == [Unknown.OTHER_SERVER]
    assert played.fail(NoScriptError("forgotten")) is None
    assert played.answer(1200, 1150).kind is VerdictKind.ALLOWED


def test_a_server_that_fails_is_not_waited_for() -> None:
    """Where Redis does not answer while it is waited for, the verdict is UNKNOWN at once, for that reason."""
    played = Played()
    assert played.answer(1000, 900) is None
    verdict = played.fail(Gone("away"))
    assert (verdict.kind, verdict.reason) == (VerdictKind.UNKNOWN, Unknown.UNREACHABLE)


@pytest.mark.parametrize(("member", "kind"), [(0, VerdictKind.UNKNOWN), (1, VerdictKind.SUPPRESSED)])
def test_at_the_end_a_member_is_one(member: int, kind: VerdictKind) -> None:
    """Where the time is over a member is SUPPRESSED, and who is none UNKNOWN (behind)."""
    verdict: Verdict = Played(catch_up=0).answer(1000, 900, member=member)
    assert verdict.kind is kind
    assert verdict.reason is (None if member else Unknown.BEHIND)
