"""How people and providers write a phone number: a grammar, so that what is accepted is a number from end to end.

The phone library reads prose: it finds a number among words, takes letters for the digits on a telephone's keys, and
leaves out what it does not know. What it may read is decided here first, and it is given digits and nothing else.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST = 64
"""Characters. Nobody writes a number in more, and it bounds what reading one can cost."""
HINT = "write it as +12025550143"

_INVISIBLE = dict.fromkeys(
    [0xAD, 0x61C, *range(0x200B, 0x2010), 0x202A, 0x202C, 0x202D, 0x2060, 0x2066, 0x2068, 0x2069, 0xFEFF]
)
"""What phones and web pages put around numbers, unseen. Not among them is what turns the order around in which digits
are shown: a person would read another number there."""

_SCHEME = re.compile(r"(?:tel|whatsapp|rcs|sms): ?", re.IGNORECASE)

_SPACES = " \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_SIGNS = r"\-\u2010-\u2015\u2212\u30fc\uff0d.\u00b7\uff0e/\uff0f"
_GAP = rf"[{_SPACES}]{{0,3}}(?:[{_SIGNS}][{_SPACES}]{{0,3}})?"
_DIGITS = rf"[0-9](?:{_GAP}[0-9])*"
_OPEN, _CLOSE = r"[(\uff08]", r"[)\uff09]"
_NUMBER = re.compile(
    rf"(?:[+\uff0b][{_SPACES}]?)?"
    rf"(?:[0-9]|{_OPEN}[+\uff0b]?{_DIGITS}{_CLOSE})"
    rf"(?:{_GAP}(?:[0-9]|{_OPEN}{_DIGITS}{_CLOSE}))*"
)
"""Digits, single signs and a few spaces between them, groups in parentheses. Each character fits in one way only: what
does not match is known to as fast as what does."""

_SLASHED = re.compile(r"(?:\+[0-9]{1,8}|(?:00|011)[0-9]{1,8}|[0-9]{1,6})/[0-9]{5,}")
"""A slash stands behind an area code. Anywhere else it stands between two numbers, or between two ends of one."""

_EXTENSION = re.compile(
    r"[0-9)\s;,](?:x|ext|extn|extension|isub|int|anexo|доб|#)\.?\s*[:=.]?\s*[0-9]+\s*$", re.IGNORECASE
)


class NotANumber(ValueError):
    """What was given cannot be read as a phone number. The message does not quote it."""


def plain(text: object) -> str:
    """Return the digits of a number, behind a plus sign where it is written with one. Raises NotANumber.

    Digits may be those of any one script: what each is worth is beyond doubt. Those of two scripts in one number are
    refused, for some look like another digit of the other.
    """
    if not isinstance(text, str):
        raise NotANumber(f"a phone number is a text, and this is of type {type(text).__name__}")
    if len(text) > LONGEST:
        raise NotANumber(f"this is longer than any phone number: {HINT}")
    written = text.translate(_INVISIBLE).strip()
    if scheme := _SCHEME.match(written):
        written = written[scheme.end() :]
    written = _in_ascii(written)
    plus = written.count("+") + written.count("\uff0b")
    if plus > 1 or not _NUMBER.fullmatch(written):
        raise NotANumber(_why(written))
    slashed = "+" * plus + "".join([c for c in written.replace("\uff0f", "/") if c in "0123456789/"])
    if "/" in slashed and not _SLASHED.fullmatch(slashed):
        raise NotANumber(f"the slash may stand between two phone numbers: {HINT}")
    return slashed.replace("/", "")


def _in_ascii(text: str) -> str:
    """Return the text with ASCII's digits in place of those of another script. Raises NotANumber for several."""
    if text.isascii():
        return text
    scripts = set()
    written = []
    for character in text:
        value = unicodedata.decimal(character, None)
        if value is not None:
            zero = ord(character) - value
            scripts.add(ord("0") if zero == ord("\uff10") else zero)  # a wide digit is the same one, set wider
            character = str(value)  # noqa: PLW2901 - the character as it is from here on
        written.append(character)
    if len(scripts) > 1:
        raise NotANumber(f"the digits of this phone number are of several scripts: {HINT}")
    return "".join(written)


def _why(written: str) -> str:
    """Return what is wrong with a text that is no number, without quoting it."""
    if not written:
        return f"there is no phone number: {HINT}"
    if _EXTENSION.search(written):
        return f"an extension is no phone that could be texted: leave it out, and {HINT}"
    if ";" in written or "?" in written:
        return f"a phone number has no parameters behind it: {HINT}"
    if any(map(str.isalpha, written)):
        return f"this holds letters, and a phone number has none: {HINT}"
    return f"this is not written as phone numbers are: {HINT}"
