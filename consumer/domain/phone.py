"""Phone numbers in E.164, through the phone library where a number is not written so already."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import phonenumbers

if TYPE_CHECKING:
    from collections.abc import Sequence

_NORTH_AMERICAN = re.compile(r"\+1[2-9][0-9]{2}[2-9][0-9]{6}")
"""In E.164 already, beyond doubt: the library takes a hundred times as long to say so."""
_ALL_NORTH_AMERICAN = re.compile(rf"(?:{_NORTH_AMERICAN.pattern}\n)*{_NORTH_AMERICAN.pattern}")
_LONGEST = 64  # the library parses prose, too; no number is that long


class NotANumber(ValueError):
    """What was given cannot be read as a phone number. The message does not quote it."""


def to_e164(text: str, region: str = "US") -> str:
    """Return the number in E.164 ("+12025550143"). `region` reads numbers without a country code.

    Raises NotANumber for anything that cannot be a number: it is never guessed.
    """
    if _NORTH_AMERICAN.fullmatch(text):
        return text
    try:
        number = phonenumbers.parse(text[:_LONGEST], region)
    except phonenumbers.NumberParseException:
        raise NotANumber("this is not a phone number: write it as +12025550143") from None
    # A number that is possible only within its own area would be somebody else's in another one.
    possible = phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE
    if len(text) > _LONGEST or not possible:
        raise NotANumber("this is not a possible phone number: write it as +12025550143")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def all_in_e164(numbers: Sequence[str]) -> str | None:
    """Return the numbers, a line each, if all of them are North American ones in E.164; None otherwise.

    It takes a fifth of the time that they take one by one.
    """
    lines = "\n".join(numbers)
    return lines if _ALL_NORTH_AMERICAN.fullmatch(lines) and lines.count("\n") == len(numbers) - 1 else None


def is_region(code: str) -> bool:
    """Return whether the phone library knows the numbers of this country (ISO 3166, two letters)."""
    return code in phonenumbers.SUPPORTED_REGIONS


def masked(number: str) -> str:
    """Return the number as it may stand in a log: its last two digits."""
    return f"***{number[-2:]}"
