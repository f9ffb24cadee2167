"""A number with two spellings: whoever stopped under either is SUPPRESSED under both, in every way to ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.domain.buckets import bucket_of, digits_of
from consumer.domain.events import Action
from consumer.domain.spellings import other_spelling
from consumer.guard import question
from tests.parts.view import ALLOWED, BUCKETS, FINE, HERE, NEXT_DOOR, STOPPED, SUPPRESSED, THERE, said

if TYPE_CHECKING:
    from tests.parts.guards import AnyGuard
    from tests.parts.view import Owner

PAIRS = [
    ("+525512345678", "+5215512345678"),
    ("+5561999998888", "+556199998888"),
    ("+2290190011234", "+22990011234"),
    ("+5491123456789", "+541123456789"),
]
MANY = [f"+5255123{number:05}" for number in range(1400)]


@pytest.mark.parametrize("stopped", [0, 1], ids=["by today's", "by the other"])
def test_a_ledger_with_one_spelling_suppresses_both(guard: AnyGuard, owner: Owner, stopped: int) -> None:
    """What a ledger from before holds under one spelling is found under each, and only there."""
    asked = [number for pair in PAIRS for number in pair]
    assert {said(verdict) for verdict in guard.check_many(HERE, asked)} == {ALLOWED}
    owner.write(Action.OPT_OUT, HERE, *[pair[stopped] for pair in PAIRS])
    for number in asked:
        assert said(guard.check(HERE, number)) == SUPPRESSED
        assert said(guard.check(NEXT_DOOR, number)) == ALLOWED
        assert guard.check(HERE, number, why=True).keyword == "OPT_OUT"
    mixed = [asked[0], FINE, asked[3], STOPPED, *asked]
    expected = [SUPPRESSED, ALLOWED, *[SUPPRESSED] * (len(mixed) - 2)]
    assert [said(verdict) for verdict in guard.check_many(HERE, mixed)] == expected
    explained = guard.check_many(HERE, mixed, why=True)
    assert [verdict.keyword for verdict in explained] == ["OPT_OUT", None, *["OPT_OUT"] * (len(mixed) - 2)]
    pairs = [(place, number) for number in mixed for place in (HERE, NEXT_DOOR, THERE)]
    for why in (False, True):
        found = {pair: said(verdict) for pair, verdict in zip(pairs, guard.check_each(pairs, why=why), strict=True)}
        assert {pair for pair, verdict in found.items() if verdict == SUPPRESSED} == {
            (HERE, number) for number in mixed if number != FINE
        }


def test_who_came_back_under_one_spelling_alone_is_still_out(guard: AnyGuard, owner: Owner) -> None:
    """In a ledger from before a START of one spelling does not open what a STOP of the other has closed."""
    for today, other in PAIRS:
        owner.write(Action.OPT_OUT, HERE, other)
        owner.write(Action.OPT_IN, HERE, today)
        assert [said(verdict) for verdict in guard.check_many(HERE, [today, other])] == [SUPPRESSED] * 2
        owner.write(Action.OPT_IN, HERE, other)
        assert [said(verdict) for verdict in guard.check_many(HERE, [today, other])] == [ALLOWED] * 2


def test_a_thousand_of_them(guard: AnyGuard, owner: Owner) -> None:
    """However many are asked about, each has its own verdict, and each is counted once."""
    out = set(MANY[::33])
    owner.write(Action.OPT_OUT, HERE, *[other_spelling(number) or "" for number in MANY[::66]], *MANY[33::66])
    before = sum(guard.tally.counts().verdicts.values())
    for verdicts in (guard.check_many(HERE, MANY), guard.check_each([(HERE, number) for number in MANY])):
        assert [said(verdict) == SUPPRESSED for verdict in verdicts] == [number in out for number in MANY]
    assert sum(guard.tally.counts().verdicts.values()) == before + 2 * len(MANY)


def test_both_are_asked_about_in_one_question() -> None:
    """No STOP can come between the two: a call asks about all spellings of a number, and about a thousand at most."""
    members, others = question.members_of(MANY, "US")
    calls = [
        *question.of_location(HERE, members, BUCKETS, why=False, others=others),
        *question.of_each([HERE, THERE] * 700, members, BUCKETS, why=True, others=others),
        *question.of_location(HERE, members[:1], BUCKETS, why=False, others={0: others[0]}),
    ]
    for call in calls:
        assert call.spellings == [2] * len(call.places)
        assert call.members == 2 * len(call.places) <= question.MOST_NUMBERS
    assert sorted(place for call in calls[:3] for place in call.places) == list(range(len(MANY)))
    assert list(calls[-1].arguments) == [digits_of(MANY[0]), others[0]]
    assert bucket_of(HERE, BUCKETS) != bucket_of(THERE, BUCKETS)


def test_numbers_with_one_spelling_cost_nothing() -> None:
    """Where no number has a second spelling the calls are those that they were."""
    members, others = question.members_of([FINE, STOPPED] * 6, "US")
    (call,) = question.of_location(HERE, members, BUCKETS, why=False, others=others)
    assert (others, call.spellings, call.members) == ({}, None, 12)
