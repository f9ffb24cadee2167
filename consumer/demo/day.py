"""The demo's day: what a few patients say that is told line by line, and when the practices send.

Whoever is told of here says nothing in `texts`, so that each of these lines means what it seems to.
"""

from __future__ import annotations

from typing import Final, NamedTuple

Minute = int
"""Minutes since midnight, by the story's clock."""


def clock(text: str) -> Minute:
    """Return the minute that "09:05" is."""
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


class Line(NamedTuple):
    """One text that is told: when it arrives, from whom, where, and what it says.

    `sent` is when the patient sent it, where that was earlier. `again` is the line before it, delivered once more.
    `body` as bytes is a record that is no text at all.
    """

    arrives: str
    location: str
    patient: str
    body: str | bytes
    sent: str = ""
    again: bool = False


class Send(NamedTuple):
    """What a practice wants to send: to whom, an empty tuple meaning all its patients; `note` is why it may or not."""

    at: str
    location: str
    what: str
    patients: tuple[str, ...] = ()
    note: str = ""


class Scene(NamedTuple):
    """What is told of one hour. Its texts arrive first, then it is asked whether the sends may go out."""

    begins: str
    lines: tuple[Line, ...]
    sends: tuple[Send, ...] = ()


NOBODY: Final = "anonymous"
NOWHERE: Final = ""
ANN, BEN, CARLA, DEV, EVE, FAY, GUS = (f"+120255501{ending}" for ending in ("42", "17", "08", "23", "30", "31", "64"))
CAST: Final = (ANN, BEN, CARLA, DEV, EVE, FAY, GUS)

DAY: Final = (
    Scene(
        "08:00",
        (
            Line("08:04", "oak-street", GUS, "Can I come on Tuesday?"),
            Line("08:12", "oak-street", ANN, "STOP"),
            Line("08:31", "harbour", BEN, "stop messages"),
        ),
        (
            Send("08:45", "oak-street", "reminders"),
            Send("08:50", "hillside", "a typed reply", (ANN,), "an opt-out is for one practice"),
        ),
    ),
    Scene(
        "09:00",
        (
            Line("09:05", "harbour", BEN, " Stop "),
            Line("09:20", "oak-street", ANN, "Yes \N{THUMBS UP SIGN}"),
            Line("09:25", NOWHERE, NOBODY, b"not a record of ours"),
        ),
        (Send("09:30", "oak-street", "a typed reply", (ANN,)),),
    ),
    Scene(
        "10:00",
        (
            Line("10:10", "oak-street", ANN, "start"),
            Line("10:40", "hillside", FAY, "YES"),
        ),
        (Send("10:45", "oak-street", "a typed reply", (ANN,)),),
    ),
    Scene(
        "11:00",
        (
            Line("11:02", "hillside", CARLA, "Cancel"),
            Line("11:30", "hillside", DEV, "UNSUB"),
        ),
        (Send("11:45", "hillside", "a survey"),),
    ),
    Scene(
        "12:00",
        (
            Line("12:10", "harbour", BEN, "START"),
            Line("12:25", "harbour", BEN, "STOP", sent="11:58"),
        ),
        (Send("12:30", "harbour", "a reminder", (BEN,)),),
    ),
    Scene(
        "14:00",
        (
            Line("14:05", "oak-street", EVE, "Quit"),
            Line("14:06", "oak-street", EVE, "Quit", again=True),
            Line("14:20", "harbour", NOBODY, "STOP"),
            Line("14:30", NOWHERE, NOBODY, b"\x00\x00\x00\x00\x07whose schema is this"),
        ),
        (Send("14:45", "harbour", "a survey"),),
    ),
    Scene(
        "16:00",
        (
            Line("16:05", "hillside", DEV, "unsubscribe"),
            Line("16:20", NOWHERE, FAY, "Stop"),
            Line("16:30", "oak-street", GUS, "END"),
            Line("16:40", NOWHERE, NOBODY, b"\x00SMS\x01\xff\xff"),
        ),
        (
            Send("16:45", "oak-street", "reminders"),
            Send("16:50", "hillside", "reminders"),
        ),
    ),
)
