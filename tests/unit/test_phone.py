"""One patient, one number: however it is written, and never guessed."""

from __future__ import annotations

import json
import re
import traceback
from typing import Any

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.phone import NotANumber, masked, to_e164
from consumer.domain.spellings import current, other_spelling
from consumer.domain.writing import LONGEST
from consumer.wire.schemas import schemas_directory

VECTORS: list[dict[str, Any]] = json.loads((schemas_directory() / "vectors" / "numbers.json").read_text("utf-8"))[
    "vectors"
]
STYLES = phonenumbers.PhoneNumberFormat
PATIENT = "+12025550143"

us_numbers = st.builds(
    "+1{}{}{:04}".format, st.sampled_from(["202", "415", "512"]), st.sampled_from(["555", "867"]), st.integers(0, 9999)
)
separators = st.sampled_from(["", " ", "-", ".", "\u00a0", "\u2011", " - "])


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{vector['why']} ({vector['region']})" for vector in VECTORS])
def test_vectors(vector: dict[str, Any]) -> None:
    """Each published vector is what the code reads: the number and its members, or a refusal."""
    if vector["number"] is None:
        with pytest.raises(NotANumber):
            to_e164(vector["text"], vector["region"])
        return
    number = to_e164(vector["text"], vector["region"])
    assert number == vector["number"]
    assert [number[1:], *(other[1:] for other in [other_spelling(number)] if other)] == vector["members"]


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


def examples() -> list[tuple[str, phonenumbers.PhoneNumber]]:
    """Return an example of each kind of number of each region; of those of no region, "US" stands in its place."""
    kinds = [kind for name, kind in vars(phonenumbers.PhoneNumberType).items() if name.isupper()]
    found = [
        (region, phonenumbers.example_number_for_type(region, kind))
        for region in sorted(phonenumbers.SUPPORTED_REGIONS)
        for kind in kinds
    ]
    codes = sorted(phonenumbers.COUNTRY_CODES_FOR_NON_GEO_REGIONS)
    found += [("US", phonenumbers.example_number_for_non_geo_entity(code)) for code in codes]
    # Canada's 310-1234 are seven digits that firms have in every area: not a number of E.164, and nobody's phone.
    return [(region, number) for region, number in found if number and not is_hotline(number)]


def is_hotline(number: phonenumbers.PhoneNumber) -> bool:
    return number.country_code == 1 and (number.national_number or 0) < 10**7


def test_every_number_of_every_region_is_read() -> None:
    """In every country, each kind of number is one patient, written in any of the phone library's four ways."""
    differing = {}
    for region, number in examples():
        expected = current(phonenumbers.format_number(number, STYLES.E164))
        for style in (STYLES.E164, STYLES.INTERNATIONAL, STYLES.NATIONAL, STYLES.RFC3966):
            if style == STYLES.NATIONAL and region == "US" and number.country_code != 1:
                continue  # of no region
            written = phonenumbers.format_number(number, style)
            try:
                read = to_e164(written, region)
            except NotANumber as problem:
                read = str(problem)
            if read != expected:
                differing[region, written] = read
    assert differing == {}


def test_a_range_that_the_library_does_not_know_is_read() -> None:
    """A number of the right length is read, whatever its range: the library hears late of new ones."""
    unknown = 0
    for _, example in examples():
        country = f"+{example.country_code}"
        national = phonenumbers.national_significant_number(example)
        for first in range(10, 100, 9):
            written = f"{country}{first}{national[2:]}"
            number = phonenumbers.parse(written)
            possible = phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE
            if possible and not phonenumbers.is_valid_number(number) and country not in {"+1", "+54"}:
                unknown += 1
                assert to_e164(written) == current(phonenumbers.format_number(number, STYLES.E164))
    assert unknown > 1000


noise = st.sampled_from(
    [*" -./()+,;xX#*\t\u00a0\u2011\u200b\u202e\u0660\u0661\uff11O", "ext", "tel:", "12", "0", "\n", "/"]
)
someone = st.sampled_from(
    [phonenumbers.format_number(number, style) for _, number in examples()[::7] for style in (0, 1, 2)]
)


@given(someone, st.lists(st.tuples(st.integers(0, 30), noise), max_size=3), st.sampled_from(["US", "GB", "DE", "MX"]))
def test_what_is_read_is_what_stands_there(written: str, added: list[tuple[int, str]], region: str) -> None:
    """Whatever is put into a number, it is refused, or read as all of its digits, as the library alone reads them."""
    for place, sign in added:
        written = written[:place] + sign + written[place:]
    try:
        read = to_e164(written, region)
    except NotANumber:
        return
    rest = re.sub(r"^\s*(tel|whatsapp|rcs|sms):", "", re.sub("[\u200b]", "", written), flags=re.IGNORECASE)
    assert not re.search(r"[^\W\d_]|[,;#*]", rest)  # nothing of what stands there was left out
    digits = "".join(str(int(digit)) for digit in rest if digit.isdecimal())
    assert digits.endswith(read[-6:])  # to the last digit
    library = phonenumbers.parse(written, region)
    assert not library.extension
    assert read == current(phonenumbers.format_number(library, STYLES.E164))


@pytest.mark.parametrize("wrong", [None, 12025550143, 2.5, b"+12025550143", ["+12025550143"]], ids=repr)
def test_what_is_no_text_is_no_number(wrong: Any) -> None:
    """Another type is refused as all else is, with its name and without its content."""
    with pytest.raises(NotANumber, match=type(wrong).__name__) as refused:
        to_e164(wrong)
    assert "202555" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is no phone number"),
        ("1202555O145", "letters"),
        ("202-555-0143 x12", "extension"),
        ("+12025550143;ext=12", "extension"),
        ("tel:5550143;phone-context=+1202", "parameters"),
        ("\u0662025550143", "several scripts"),
        ("202-555-0143/0144", "slash"),
        ("1" * (LONGEST + 1), "longer"),
        ("1" * 10**7, "longer"),
        ("2025550143\x00", "not written as phone numbers are"),
        ("\ud800", "not written as phone numbers are"),
        ("+10000000000", "not a possible"),
        ("+999123456789", "not a possible"),
        ("+1 (2) " * 9, "not written as phone numbers are"),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_a_refusal_says_why(text: str, why: str) -> None:
    """Who wrote it is told what is wrong with it."""
    with pytest.raises(NotANumber, match=why):
        to_e164(text)


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
