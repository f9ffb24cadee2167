"""Numbers that numbering plans write in two ways: one subscriber, two spellings in E.164.

Both stand in ledgers, are written by providers and are asked about. So what concerns one spelling concerns the other: a
classifier writes both, a guard looks for both. A row stands here only where the plan gives the two to one subscriber,
for else a START of one would open another. Which changes of plans are not handled, and why, stands in docs/CONTRACT.md.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class _Plan(NamedTuple):
    """One change of a plan: the part that both spellings share is that of the groups.

    `retired` is whether the old spelling is nobody's number any more, so that it is read as the new one.
    """

    country: str
    new: re.Pattern[str]
    new_from: str
    old: re.Pattern[str]
    old_from: str
    retired: bool


_PLANS = tuple(
    _Plan(country, re.compile(rf"\+{country}{new}"), new_from, re.compile(rf"\+{country}{old}"), old_from, retired)
    for country, new, new_from, old, old_from, retired in (
        # Mexico, IFT, 2019-08-03: the 1 before mobile numbers is gone. All have ten digits, and none begins with 1.
        ("52", "([2-9][0-9]{9})", r"+52\1", "1([2-9][0-9]{9})", r"+521\1", True),
        # Brazil, Anatel, 2012 to 2016-11-06: a 9 before the eight digits of all mobile numbers, which began with 6 to
        # 9; fixed ones begin with 2 to 5. Not those with 7: trunked radio kept eight digits there.
        ("55", "([1-9]{2})9([689][0-9]{7})", r"+55\g<1>9\2", "([1-9]{2})([689][0-9]{7})", r"+55\1\2", True),
        # Benin, ARCEP, 2024-11-30: 01 before all numbers of eight digits.
        ("229", "01([2-9][0-9]{7})", r"+22901\1", "([2-9][0-9]{7})", r"+229\1", True),
        # Argentina: the 9 says that a call goes to a mobile phone; texts are sent with it and without. It is no part of
        # the ten digits, which are given once, to a fixed line or to a mobile one. Both spellings are in use.
        ("54", "9((?:11|[23][0-9])[0-9]{8})", r"+549\1", "((?:11|[23][0-9])[0-9]{8})", r"+54\1", False),
    )
)
_COUNTRIES = tuple(f"+{plan.country}" for plan in _PLANS)
_MEXICAN_DIALLING = re.compile(r"\+520?(?:1|4[45])([2-9][0-9]{9})")
"""How mobile numbers were dialled within Mexico until 2019, behind 01, 044 or 045, where the library leaves that in."""


def current(number: str) -> str:
    """Return an E.164 number in the spelling of today's numbering plan."""
    if not number.startswith(_COUNTRIES):
        return number
    if mexican := _MEXICAN_DIALLING.fullmatch(number):
        return f"+52{mexican[1]}"
    for plan in _PLANS:
        if plan.retired and (old := plan.old.fullmatch(number)):
            return old.expand(plan.new_from)
    return number


def other_spelling(number: str) -> str | None:
    """Return the other spelling of an E.164 number; None for one that has one spelling, as nearly all have."""
    if not number.startswith(_COUNTRIES):
        return None
    for plan in _PLANS:
        if new := plan.new.fullmatch(number):
            return new.expand(plan.old_from)
        if old := plan.old.fullmatch(number):
            return old.expand(plan.new_from)
    return None
