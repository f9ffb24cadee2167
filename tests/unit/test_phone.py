"""One patient, one number: however it is written, and never guessed."""

from __future__ import annotations

import re
import traceback

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.phone import NotANumber, masked, to_e164

PATIENT = "+12025550143"

us_numbers = st.builds(
    "+1{}{}{:04}".format, st.sampled_from(["202", "415", "512"]), st.sampled_from(["555", "867"]), st.integers(0, 9999)
)
separators = st.sampled_from(["", " ", "-", ".", "\u00a0", "\u2011", " - "])


@pytest.mark.parametrize(
    "text",
    [
        "+12025550143",
        "12025550143",
        "2025550143",
        "(202) 555-0143",
        "202.555.0143",
        "1-202-555-0143",
        " +1 202 555 0143 ",
        "+1 (202) 555-0143",
        "tel:+1-202-555-0143",
        "011 1 202 555 0143",
        "+" + "".join(chr(0xFF10 + int(digit)) for digit in PATIENT[1:]),
        "+1\u200b202\u200b5550143",
        "+1\u00a0202\u00a0555\u00a00143",
        "+12025550143\n",
        "+1 12025550143",
    ],
)
def test_many_writings_are_one_number(text: str) -> None:
    """However a number is written, it is the same patient."""
    assert to_e164(text) == PATIENT


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+112025550143", PATIENT),  # a form that puts +1 before what was typed
        ("+4402079460958", "+442079460958"),  # the 0 of the national writing left in
    ],
)
def test_a_trunk_prefix_is_no_part_of_a_number(text: str, number: str) -> None:
    """A national prefix left between country code and number makes no second patient, with spaces or without."""
    assert to_e164(text) == to_e164(f"{text[:3]} {text[3:]}") == number


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("020 7946 0958", "GB", "+442079460958"),
        ("+44 20 7946 0958", "US", "+442079460958"),
        ("+44 (0)20 7946 0958", "US", "+442079460958"),
        ("011 44 20 7946 0958", "US", "+442079460958"),
        ("+39 06 1234 5678", "US", "+390612345678"),
        ("2025550143", "CA", PATIENT),
    ],
)
def test_the_region_reads_what_has_no_country_code(text: str, region: str, number: str) -> None:
    """A number without a country code is read as one of the region; one with it is the same everywhere."""
    assert to_e164(text, region) == number


@given(us_numbers, st.lists(separators, min_size=3, max_size=3), st.booleans())
def test_separators_do_not_matter(number: str, between: list[str], country: bool) -> None:  # noqa: FBT001
    """Any American number comes back from any of its usual writings."""
    area, exchange, line = number[2:5], number[5:8], number[8:]
    one, two, three = between
    written = f"{'+1' + one if country else ''}{area}{two}{exchange}{three}{line}"
    assert to_e164(written) == number


def test_every_region_has_one_form() -> None:
    """In every country of the library, a mobile number's national, international and E.164 writings are one patient."""
    styles = phonenumbers.PhoneNumberFormat
    differing = {}
    for region in phonenumbers.SUPPORTED_REGIONS:
        number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
        if number is not None:
            written = [
                phonenumbers.format_number(number, style)
                for style in (styles.E164, styles.INTERNATIONAL, styles.NATIONAL)
            ]
            read = {to_e164(text, region) for text in written}
            if read != {written[0]}:
                differing[region] = read
    assert differing == {}


@given(us_numbers, st.sampled_from(["US", "GB", "IT"]))
def test_the_form_is_final(number: str, region: str) -> None:
    """A number in E.164 stays as it is, read in any region."""
    assert to_e164(number, region) == number


@given(st.text(max_size=20) | st.from_regex(r"\+?[0-9 ()-]{1,18}", fullmatch=True))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    """Whatever is given is refused with NotANumber, or read as digits that Redis keeps as an integer."""
    try:
        number = to_e164(text)
    except NotANumber:
        return
    assert re.fullmatch(r"\+[1-9][0-9]{2,18}", number)
    assert int(number) < 2**63


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "+",
        "STOP",
        "garbage",
        "+1",
        "33733",  # a short code is nobody's phone
        "+33733",
        "123456789012345678",
        "+0012025550143",
        "2025550143" * 7,
        "+12025550143" + " " * 60,
        "\x00",
        "anonymous",
    ],
)
def test_garbage_is_not_a_number(text: str) -> None:
    """What cannot be a phone number is refused."""
    with pytest.raises(NotANumber):
        to_e164(text)


def test_a_number_without_its_area_code_is_not_guessed() -> None:
    """Seven digits are some number of some area: whose is not known, so it is refused."""
    with pytest.raises(NotANumber):
        to_e164("555-0143")


@pytest.mark.parametrize("text", ["patient Zebra 4711", "4711-4711-4711-4711-4711", "x" * 100 + "4711"])
def test_a_refusal_quotes_nothing(text: str) -> None:
    """Neither the refusal's message nor its traceback's text repeats what was given."""
    with pytest.raises(NotANumber) as refused:
        to_e164(text)
    shown = "".join(traceback.format_exception_only(refused.value))
    assert "4711" not in shown
    assert "Zebra" not in shown
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@given(us_numbers)
def test_a_masked_number_shows_two_digits(number: str) -> None:
    """A number in a log is its last two digits and no more."""
    assert masked(number) == f"***{number[-2:]}"
