"""What patients say in the demo: the same texts in the same order each time.

A subscription's texts stand in the order in which they arrive; when they were sent is another matter. The story's day
is squeezed into the last minutes before now, so that its texts are as fresh as they would be.
"""

from __future__ import annotations

import random
from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple

from consumer.demo.day import CAST, DAY, clock
from consumer.domain.events import InboundMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from consumer.demo.day import Line, Scene

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

SQUEEZE: Final = 150
"""How many of the story's seconds pass in one of ours: ten hours in four minutes, so no confirmation is too late."""
BEGINS, ENDS = clock("08:00"), clock("18:00")
MINUTE_S: Final = 60


class Hour(NamedTuple):
    """What arrives during one scene, in order; `told` are the lines that are told, by their place in `records`."""

    scene: Scene
    records: tuple[Record, ...]
    told: dict[int, Line]


class Word(NamedTuple):
    """One text of a conversation, `after` seconds from its begin; or the last one, delivered once more."""

    body: str
    after: int
    redelivered: bool = False


Conversation = tuple[Word, ...]

OUT_OF_ORDER: Final[Sequence[Conversation]] = (
    (Word("STOP", 20), Word("START", 10)),
    (Word("START", 20), Word("STOP", 10)),
    (Word("STOP", 0), Word("END", 20), Word("YES", 10)),
    (Word("STOP", 0), Word("START", 20), Word("QUIT", 10)),
    (Word("STOP", 0), Word("START", 20), Word("START", 10), Word("STOP", 30)),
)
TIES: Final[Sequence[Conversation]] = (
    (Word("STOP", 5), Word("START", 5)),
    (Word("START", 5), Word("STOP", 5)),
)
REPEATED: Final[Sequence[Conversation]] = (
    (Word("STOP", 0), Word("STOP", 0, redelivered=True)),
    (Word("STOP", 0), Word("STOP", 2), Word("stop", 4)),
    (Word("CANCEL", 0), Word("UNSTOP", 30), Word("UNSTOP", 30, redelivered=True), Word("yes", 35)),
)
NEVER_OPTED_OUT: Final[Sequence[Conversation]] = ((Word("YES", 0),), (Word(TALK[0], 0), Word("Yes", 40)))

ALWAYS: Final = (*OUT_OF_ORDER, *TIES, *REPEATED, *NEVER_OPTED_OUT)
"""Conversations that each location has."""
WANDERERS: Final = 6
"""Patients of each location who say all sorts of things."""


def texts(now: int) -> list[Record]:
    """Return all that is to be published, in order. `now` in ms since the epoch; what was said is always the same."""
    return [record for hour in hours(now) for record in hour.records]


def hours(now: int) -> list[Hour]:
    """Return the day, scene by scene."""
    chance = random.Random(20)  # noqa: S311 - nothing here is a secret
    crowd: list[list[list[InboundMessage]]] = [[] for _ in DAY]
    for location in LOCATIONS:
        conversations = _conversations(chance)
        others = [patient for patient in PATIENTS if patient not in CAST]
        patients = chance.sample(others, len(conversations))
        for number, (patient, conversation) in enumerate(zip(patients, conversations, strict=True)):
            scene = number % len(DAY)
            begun = MINUTE_S * (clock(DAY[scene].begins) + chance.randrange(50))
            crowd[scene].append(_said(now, location, patient, conversation, begun))
    return [_hour(now, scene, _interleaved(said, chance), chance) for scene, said in zip(DAY, crowd, strict=True)]


def _hour(now: int, scene: Scene, records: list[Record], chance: random.Random) -> Hour:
    """Return the hour in which the lines of a scene arrive among all others."""
    places = sorted(chance.sample(range(len(records) + len(scene.lines)), len(scene.lines)))
    told: dict[int, Line] = {}
    for place, line in zip(places, scene.lines, strict=True):
        records.insert(place, records[max(told)] if line.again else _record(now, line))
        told[place] = line
    return Hour(scene, tuple(records), told)


def _record(now: int, line: Line) -> Record:
    if isinstance(line.body, bytes):
        return line.body
    message_id = f"demo-told-{line.arrives}"
    sent = clock(line.sent or line.arrives) * MINUTE_S
    return _text(now, message_id, (line.location, line.patient), line.body, sent)


def _conversations(chance: random.Random) -> list[Conversation]:
    opt_outs = [spell(word) for word, spell in product(OPT_OUTS, SPELLINGS)]
    opt_ins = [spell(word) for word, spell in product(OPT_INS, SPELLINGS)]
    chance.shuffle(opt_outs)
    back = [(Word(out, 0), Word(back, 30)) for out, back in zip(opt_outs, opt_ins, strict=False)]
    out = [(Word(chance.choice(TALK), 0), Word(body, 30)) for body in opt_outs[len(back) :]]
    retired = [(Word(chance.choice(SPELLINGS)(word), 0),) for word in RETIRED]
    near = [(Word(body, 0), Word(chance.choice(TALK), 20)) for body in NEAR_OPT_OUTS]
    still_out = [(Word("STOP", 0), Word(body, 20)) for body in NEAR_OPT_INS]
    wandering = [_wandering(chance) for _ in range(WANDERERS)]
    return [*back, *out, *retired, *near, *still_out, *wandering, *ALWAYS]


def _wandering(chance: random.Random) -> Conversation:
    """Return eight texts of all kinds, sent at times of their own."""
    others = NEAR_OPT_OUTS + NEAR_OPT_INS + RETIRED
    bodies = [*chance.choices(OPT_OUTS, k=3), *chance.choices(OPT_INS, k=3), *chance.choices(others, k=2)]
    return tuple(map(Word, chance.sample(bodies, len(bodies)), chance.sample(range(60), len(bodies))))


def _said(now: int, location: str, patient: str, conversation: Conversation, begun: int) -> list[InboundMessage]:
    said: list[InboundMessage] = []
    for number, word in enumerate(conversation, 1):
        if word.redelivered:
            said.append(said[-1])
        else:
            message_id = f"demo-{location}-{patient[-2:]}-{number}"
            said.append(_text(now, message_id, (location, patient), word.body, begun + word.after))
    return said


def _interleaved(said: Sequence[Sequence[InboundMessage]], chance: random.Random) -> list[Record]:
    """Return all texts mixed, those of each patient in their order."""
    turns = [whose for whose, texts in enumerate(said) for _ in texts]
    chance.shuffle(turns)
    left = [iter(texts) for texts in said]
    return [next(left[whose]) for whose in turns]


def _text(now: int, message_id: str, who: tuple[str, str], body: str, sent: int) -> InboundMessage:
    """Return a text; `who` is the location and the patient, `sent` in seconds since midnight by the story's clock."""
    location, patient = who
    return InboundMessage(
        message_id=message_id,
        location_id=location,
        patient_number=patient,
        location_number=LOCATIONS.get(location, ""),
        body=body,
        received_at=now - (ENDS * MINUTE_S - sent) * 1000 // SQUEEZE,
        provider="demo",
    )
