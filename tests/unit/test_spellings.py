"""Two spellings of one number: each leads to the other, and to nobody else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.phone import NotANumber, to_e164
from consumer.domain.spellings import current, other_spelling

numbers = st.one_of(
    st.from_regex(r"\+52[0-9]{9,12}", fullmatch=True),
    st.from_regex(r"\+55[0-9]{9,12}", fullmatch=True),
    st.from_regex(r"\+229[0-9]{7,11}", fullmatch=True),
    st.from_regex(r"\+54[0-9]{9,12}", fullmatch=True),
    st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True),
)


@given(numbers)
def test_spellings_come_in_pairs(number: str) -> None:
    """The other spelling of the other spelling is the number, both are read as the same one, and no third is."""
    other = other_spelling(number)
    if other is None:
        return
    assert other != number
    assert other_spelling(other) == number
    if not number.startswith("+54"):  # where either is in use, and stays as it is
        assert current(number) == current(other)
    read = {to_e164(number), to_e164(other)}
    assert read <= {number, other}


@given(numbers)
def test_the_spelling_of_today_is_final(number: str) -> None:
    """A number in today's spelling is not changed again, and ends as it ended."""
    spelt = current(number)
    assert current(spelt) == spelt
    assert spelt[-8:] == number[-8:]


@pytest.mark.parametrize(
    "number",
    [
        "+12025550143",
        "+442079460958",
        "+5211234567890",  # no Mexican number begins with 1
        "+556132345678",  # a fixed line
        "+556178345678",  # trunked radio
        "+5561932345678",  # given out when there were nine digits: 3234-5678 is a fixed line
        "+556135345678",
        "+2290101234567",
        "+5408101234567",
        "+548101234567",  # of no area
        "+5255",
        "",
    ],
)
def test_others_have_one_spelling(number: str) -> None:
    """Where the plan gives the shorter or longer number to nobody, or to somebody else, there is no other spelling."""
    assert other_spelling(number) is None
    assert current(number) == number


@pytest.mark.parametrize(
    "written", ["+5215512345678", "+52 1 55 1234 5678", "5215512345678", "044 55 1234 5678", "15512345678"]
)
def test_the_old_mexican_mobile_number(written: str) -> None:
    """However the old 1 of Mexican mobile numbers comes, it is the same patient as without it."""
    assert to_e164(written, "MX") == "+525512345678"


def test_the_1_is_mexico_s_in_mexico_alone() -> None:
    """A national number is read by the plan of the region, and Mexico's 1 means nothing in another one."""
    assert to_e164("1 551 234 5678", "US") == "+15512345678"
    with pytest.raises(NotANumber):
        to_e164("5215512345678", "US")


def test_sources_are_named() -> None:
    """Each plan in the code has its row in the contract, so that what is taken for one number can be looked up."""
    contract = (Path(__file__).parents[2] / "docs" / "CONTRACT.md").read_text("utf-8")
    table = contract[contract.index("### Two spellings") : contract.index("Not handled, and so")]
    assert re.findall(r"^\| ([A-Z]\w+) \|", table, re.MULTILINE) == ["Mexico", "Brazil", "Benin", "Argentina"]
