"""How times and foreign text are written for a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def at(milliseconds: int) -> str:
    """Return a time in ms since the epoch as it is read: `2026-11-24 09:12:03.482 UTC`."""
    try:
        return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(" ", "milliseconds").replace("+00:00", " UTC")
    except OverflowError:  # what others give as a date can be anything
        return f"{milliseconds} ms since 1970"


def printable(text: str) -> str:
    """Return the text with what a terminal might obey written out: escape sequences, marks that turn the direction."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
