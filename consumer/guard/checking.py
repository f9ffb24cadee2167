"""How a check goes, told without a connection: what is asked, what is waited for, and what comes of the answers.

Guard and AsyncGuard run the same steps. A step is a list of commands, each with the key by which its server is found,
that is answered by what came back for each; or a number of seconds to wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import NoScriptError

from consumer.guard.answer import Garbled, folded, taken_apart, why
from consumer.guard.question import next_word
from consumer.guard.verdict import Unknown, Verdict, VerdictKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.guard.answer import Rules, Standing
    from consumer.guard.counts import Told
    from consumer.guard.question import Call
    from consumer.nodes import Keyed


class Checked(NamedTuple):
    """The verdicts, and how many of them are alike, for who counts them."""

    verdicts: list[Verdict]
    told: Sequence[Told]


Steps = Generator["Sequence[Keyed] | float", "Sequence[Any]", Checked]
Doubted = Callable[[str, Unknown], None]
"""Hears of the key of a bucket whose server is doubted, and why."""

LOOK_AGAIN_S = 0.05
"""Seconds between two looks whether a bucket has caught up."""
LONGEST_CATCH_UP_S = 3600
ASKED_TOGETHER = 64
"""Calls in one round trip: its deadline is for as many as a server answers well within it."""


def check(
    calls: Sequence[Call],
    count: int,
    rules: Rules,
    catch_up: float | None,
    doubted: Doubted,
) -> Steps:
    """Ask, and return `count` verdicts, each in its place.

    With `catch_up` the answer is given once the view holds all that inbound held when it was first asked, or after so
    many seconds.
    """
    if catch_up is not None and not 0 <= catch_up <= LONGEST_CATCH_UP_S:
        raise ValueError(f"catch_up must be a number of seconds, {LONGEST_CATCH_UP_S} at most")
    verdicts: list[Verdict] = [_NOTHING] * count
    told: list[Sequence[Told]] = [()] * len(calls)
    asked_at = [_AskedAt() for _ in calls]
    until = time.monotonic() + (catch_up or 0)
    left: Sequence[int] = range(len(calls))
    while True:
        behind = []
        last = time.monotonic() >= until
        for start in range(0, len(left), ASKED_TOGETHER):
            some = left[start : start + ASKED_TOGETHER]
            answers = yield from _asked([calls[i] for i in some])
            for i, answer in zip(some, answers, strict=True):
                if isinstance(answer, Unknown):
                    doubt(calls[i].keys[0], answer, doubted)
                    found: Sequence[Verdict] = [Verdict(VerdictKind.UNKNOWN, answer)] * len(calls[i].places)
                else:
                    standing = rules.standing(answer)
                    found = rules.verdicts(answer, standing)
                    doubt(calls[i].keys[0], standing.reason, doubted)
                    if catch_up is not None and not asked_at[i].is_reached(standing):
                        behind.append(i)
                        found = _too_early(found) if last else found
                _put(verdicts, calls[i].places, found)
                told[i] = _told(found, answer)
            if len(answers) > 1 and all(answer is Unknown.TIMEOUT for answer in answers):
                for i in left[start + ASKED_TOGETHER :]:  # else it would take another timeout for each round trip
                    _put(verdicts, calls[i].places, [_TOO_LATE] * len(calls[i].places))
                    told[i] = ((VerdictKind.UNKNOWN, Unknown.TIMEOUT, len(calls[i].places)),)
                break
        if last or not behind:
            return Checked(verdicts, list(chain.from_iterable(told)))
        left = behind
        yield min(LOOK_AGAIN_S, max(0.0, until - time.monotonic()))


def alone(call: Call, word: str, answer: Any, rules: Rules, doubted: Doubted) -> Verdict:
    """Return the verdict for one number, of which no catching up is asked."""
    read = _read(call, word, answer)
    if isinstance(read, Unknown):
        doubt(call.keys[0], read, doubted)
        return Verdict(VerdictKind.UNKNOWN, read)
    standing = rules.standing(read)
    doubt(call.keys[0], standing.reason, doubted)
    return rules.verdicts(read, standing)[0]


def doubt(key: str, reason: Unknown | None, doubted: Doubted) -> None:
    """Tell that another server is to be asked perhaps: nobody vouches for this one, or it is none of ours."""
    if reason is Unknown.OTHER_SERVER or reason is Unknown.GARBLED:
        doubted(key, reason)


def _put(verdicts: list[Verdict], places: Sequence[int], found: Sequence[Verdict]) -> None:
    if isinstance(places, range):
        verdicts[places.start : places.stop] = found
    else:
        for place, verdict in zip(places, found, strict=True):
            verdicts[place] = verdict


_NOTHING = Verdict(VerdictKind.UNKNOWN, Unknown.GARBLED)
_TOO_LATE = Verdict(VerdictKind.UNKNOWN, Unknown.TIMEOUT)


def _told(found: Sequence[Verdict], answer: Any) -> Sequence[Told]:
    """Return how many verdicts of one answer are alike, without looking at each: those on who is no member are."""
    if isinstance(answer, Unknown):
        return ((VerdictKind.UNKNOWN, answer, len(found)),)
    members = answer.members
    others = members.count(0)
    told = []
    for verdict, times in ((1, len(members) - others), (0, others)):
        if times:
            one = found[members.index(verdict)]
            told.append((one.kind, one.reason, times))
    return told


def _asked(calls: Sequence[Call]) -> Generator[Sequence[Keyed], Sequence[Any], list[Any]]:
    """Return for each call its answer taken apart, or why there is none."""
    words = [next_word() for _ in calls]
    answers = list((yield [call.command(word) for call, word in zip(calls, words, strict=True)]))
    forgotten = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if forgotten:  # the server has not seen the script, or has forgotten it
        again = yield [calls[i].command(words[i], with_source=True) for i in forgotten]
        for i, answer in zip(forgotten, again, strict=True):
            answers[i] = answer
    return [_read(call, word, answer) for call, word, answer in zip(calls, words, answers, strict=True)]


def _read(call: Call, word: str, answer: Any) -> Any:
    if isinstance(answer, Exception):
        return why(answer)
    try:
        read = taken_apart(answer, word, call.members)
        return read if call.spellings is None else folded(read, call.spellings)
    except Garbled:
        return Unknown.GARBLED


class _AskedAt:
    """When a bucket was first asked, by the clock of the server that answers: another server has another clock."""

    def __init__(self) -> None:
        self._server: tuple[object, object] | None = None
        self._moment: int | None = None

    def is_reached(self, standing: Standing) -> bool:
        """Whether the view holds all that inbound held at that moment."""
        if standing.server != self._server:
            self._server, self._moment = standing.server, None
        if self._moment is None:
            # A time ahead of the clock was written before it was set back, and would be reached already.
            self._moment = standing.now if standing.fresh is None or standing.fresh <= standing.now else None
            return False
        # Not at it: what came in later in that millisecond may be missing.
        return standing.fresh is not None and standing.fresh > self._moment


def _too_early(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return what is known of a bucket that did not catch up: a member is one, and nobody is ALLOWED."""
    return [
        replace(verdict, kind=VerdictKind.UNKNOWN, reason=Unknown.BEHIND, in_maintenance=False)
        if verdict.kind is VerdictKind.ALLOWED
        else verdict
        for verdict in verdicts
    ]
