"""Phone numbers in E.164, through the phone library where a number is not written so already."""

from __future__ import annotations

import re

import phonenumbers

_E164 = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)
_LONGEST = 64  # the library parses prose, too; no number is that long


class NotANumber(ValueError):
    """What was given cannot be read as a phone number. The message does not quote it."""


def to_e164(text: str, region: str = "US") -> str:
    """Return the number in E.164 ("+12025550143"). `region` reads numbers without a country code.

    Raises NotANumber for anything that cannot be a number: it is never guessed.
    """
    if _E164.fullmatch(text):
        return text
    try:
        number = phonenumbers.parse(text[:_LONGEST], region)
    except phonenumbers.NumberParseException:
        raise NotANumber("this is not a phone number: write it as +12025550143") from None
    if len(text) > _LONGEST or not phonenumbers.is_possible_number(number):
        raise NotANumber("this is not a possible phone number: write it as +12025550143")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def masked(number: str) -> str:
    """Return the number as it may stand in a log: its last two digits."""
    return f"***{number[-2:]}"
