"""What patients say in the demo: the same texts in the same order each time, sent within the last half hour.

A subscription's texts stand in the order in which they arrive; when they were sent is another matter.
"""

from __future__ import annotations

import random
from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple

from consumer.domain.events import InboundMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Record = InboundMessage | bytes
"""What stands on the inbound topic: a text, or bytes that are none."""

LOCATIONS: Final[Mapping[str, str]] = {
    "oak-street": "+12025550197",
    "harbour": "+12025550198",
    "hillside": "+12025550199",
}
"""Each location's own number. All numbers here are of the block that is kept for fiction."""
PATIENTS: Final = tuple(f"+120255501{ending:02}" for ending in range(97))

OPT_OUTS: Final = ("STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT")
OPT_INS: Final = ("START", "YES", "UNSTOP")
RETIRED: Final = ("UNSUB", "RECARE", "PAYMENT", "SURVEY")
NEAR_OPT_OUTS: Final = ("stop messages", "Stop.", "STOP ALL", "please unsubscribe me", '"STOP"')
NEAR_OPT_INS: Final = ("yes please", "Start again?", "YES!")
TALK: Final = (
    "Can I come on Tuesday at nine instead?",
    "Thank you, see you then",
    "Running ten minutes late, sorry",
    "Is the parking lot behind the building open?",
    "My daughter will drive me there",
    "\N{THUMBS UP SIGN} got it",
)
SPELLINGS: Final[Sequence[Callable[[str], str]]] = (
    str.upper,
    str.lower,
    str.capitalize,
    lambda word: word[:1].lower() + word[1:].upper(),
    lambda word: f"  {word.lower()} ",
    lambda word: f"\t{word.capitalize()}\r\n",
    lambda word: f"\N{NO-BREAK SPACE}{word.upper()}\N{IDEOGRAPHIC SPACE}",
)

UNREADABLE: Final[Mapping[bytes, str]] = {
    b"not a record of ours": "not-framed",
    b"\x00\x00\x00\x00\x07whose schema is this": "unknown-schema",
    b"\x00SMS\x01\xff\xff": "not-avro",
}
"""Records that nobody can read, each with the reason that its dead letter must give."""

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS


class Line(NamedTuple):
    """One text of a conversation, `after` seconds from its begin; or the last one, delivered once more."""

    body: str
    after: int
    redelivered: bool = False


Conversation = tuple[Line, ...]

OUT_OF_ORDER: Final[Sequence[Conversation]] = (
    (Line("STOP", 20), Line("START", 10)),
    (Line("START", 20), Line("STOP", 10)),
    (Line("STOP", 0), Line("END", 20), Line("YES", 10)),
    (Line("STOP", 0), Line("START", 20), Line("QUIT", 10)),
    (Line("STOP", 0), Line("START", 20), Line("START", 10), Line("STOP", 30)),
)
TIES: Final[Sequence[Conversation]] = (
    (Line("STOP", 5), Line("START", 5)),
    (Line("START", 5), Line("STOP", 5)),
)
REPEATED: Final[Sequence[Conversation]] = (
    (Line("STOP", 0), Line("STOP", 0, redelivered=True)),
    (Line("STOP", 0), Line("STOP", 2), Line("stop", 4)),
    (Line("CANCEL", 0), Line("UNSTOP", 30), Line("UNSTOP", 30, redelivered=True), Line("yes", 35)),
)
NEVER_OPTED_OUT: Final[Sequence[Conversation]] = ((Line("YES", 0),), (Line(TALK[0], 0), Line("Yes", 40)))

ALWAYS: Final = (*OUT_OF_ORDER, *TIES, *REPEATED, *NEVER_OPTED_OUT)
"""Conversations that each location has."""
WANDERERS: Final = 6
"""Patients of each location who say all sorts of things."""


def texts(now: int) -> list[Record]:
    """Return what is to be published, in order. `now` in ms since the epoch; what was said is always the same."""
    chance = random.Random(20)  # noqa: S311 - nothing here is a secret
    records: list[Record] = []
    for location in LOCATIONS:
        conversations = _conversations(chance)
        patients = chance.sample(PATIENTS, len(conversations))
        said = [
            _said(location, patient, conversation, now - chance.randrange(10 * MINUTE_MS, 30 * MINUTE_MS))
            for patient, conversation in zip(patients, conversations, strict=True)
        ]
        records += _interleaved(said, chance)
    misfits: tuple[Record, ...] = (*UNREADABLE, *_unattributable(now))
    for record in misfits:
        records.insert(chance.randrange(len(records)), record)
    return records


def _conversations(chance: random.Random) -> list[Conversation]:
    opt_outs = [spell(word) for word, spell in product(OPT_OUTS, SPELLINGS)]
    opt_ins = [spell(word) for word, spell in product(OPT_INS, SPELLINGS)]
    chance.shuffle(opt_outs)
    back = [(Line(out, 0), Line(back, 30)) for out, back in zip(opt_outs, opt_ins, strict=False)]
    out = [(Line(chance.choice(TALK), 0), Line(body, 30)) for body in opt_outs[len(back) :]]
    retired = [(Line(chance.choice(SPELLINGS)(word), 0),) for word in RETIRED]
    near = [(Line(body, 0), Line(chance.choice(TALK), 20)) for body in NEAR_OPT_OUTS]
    still_out = [(Line("STOP", 0), Line(body, 20)) for body in NEAR_OPT_INS]
    wandering = [_wandering(chance) for _ in range(WANDERERS)]
    return [*back, *out, *retired, *near, *still_out, *wandering, *ALWAYS]


def _wandering(chance: random.Random) -> Conversation:
    """Return eight texts of all kinds, sent at times of their own."""
    others = NEAR_OPT_OUTS + NEAR_OPT_INS + RETIRED
    bodies = [*chance.choices(OPT_OUTS, k=3), *chance.choices(OPT_INS, k=3), *chance.choices(others, k=2)]
    return tuple(map(Line, chance.sample(bodies, len(bodies)), chance.sample(range(60), len(bodies))))


def _said(location: str, patient: str, conversation: Conversation, begun: int) -> list[InboundMessage]:
    said: list[InboundMessage] = []
    for number, line in enumerate(conversation, 1):
        if line.redelivered:
            said.append(said[-1])
        else:
            message_id = f"demo-{location}-{patient[-2:]}-{number}"
            said.append(_text(message_id, location, patient, line.body, begun + line.after * SECOND_MS))
    return said


def _interleaved(said: Sequence[Sequence[InboundMessage]], chance: random.Random) -> list[Record]:
    """Return all texts mixed, those of each patient in their order."""
    turns = [whose for whose, texts in enumerate(said) for _ in texts]
    chance.shuffle(turns)
    left = [iter(texts) for texts in said]
    return [next(left[whose]) for whose in turns]


def _unattributable(now: int) -> tuple[InboundMessage, ...]:
    """Return opt-outs that cannot be held against anybody: no number, no location."""
    return (
        _text("demo-nobody", next(iter(LOCATIONS)), "anonymous", "STOP", now - 10 * MINUTE_MS),
        _text("demo-nowhere", "", PATIENTS[0], "Stop", now - 10 * MINUTE_MS),
    )


def _text(message_id: str, location: str, patient: str, body: str, received_at: int) -> InboundMessage:
    return InboundMessage(
        message_id=message_id,
        location_id=location,
        patient_number=patient,
        location_number=LOCATIONS.get(location, ""),
        body=body,
        received_at=received_at,
        provider="demo",
    )
