"""What patients text in the bench: talk of all lengths, keywords at a given density, and some near misses.

A seed gives the same texts each time. Each body is put together anew, so that nothing gains from having seen it before.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from consumer.domain.events import InboundMessage, subscription_key

if TYPE_CHECKING:
    from collections.abc import Iterator

OPT_OUTS = ("STOP", "STOP", "STOP", "STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT")
OPT_INS = ("START", "START", "YES", "YES", "UNSTOP")
OPT_OUT_SHARE = 0.6
SPELLINGS = ("{0}", "{0}", "{1}", "{1}", "{2}", "{1} ", " {2}", "{1}\n", "{2}\N{NO-BREAK SPACE}")
"""Upper, lower and title case, with the white space that phones add."""

NEAR_MISSES = (
    "Stop.",
    "stop messages",
    "STOP ALL",
    "please unsubscribe me",
    '"STOP"',
    "UNSUB",
    "stop texting me",
    "End!",
)
NEAR_MISSES_A_KEYWORD = 0.1

LOCATIONS = 2_000
PATIENTS_A_LOCATION = 10
AREAS = (202, 212, 305, 312, 404, 415, 512, 602, 617, 713)
LATEST_BY_MS = 2_000
"""How far apart two texts can be at the provider that arrive in the other order."""

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "the 14th", "tomorrow", "next week", "martes")
NAMES = (
    "Ann",
    "Dr. Lee",
    "Miguel",
    "my son",
    "my mother",
    "Mrs. Okafor",
    "Grace",
    "Jos\N{LATIN SMALL LETTER E WITH ACUTE}",
    "the nurse",
    "Sam",
)
TALK = (
    "ok",
    "Thanks!",
    "Yes please",
    "{time} works",
    "See you {day}",
    "Who is this?",
    "yes, {day} at {time}",
    "\N{THUMBS UP SIGN} got it, {day}",
    "Running {number} minutes late, sorry",
    "Can I come on {day} at {time} instead?",
    "I\N{RIGHT SINGLE QUOTATION MARK}m outside, the door is locked",
    "Can {name} come with me on {day}? Is the parking lot open?",
    "Is it fine to eat before the blood test on {day} at {time}?",
    "Please cancel my {time} on {day}, I will call for a new one",
    "{name} will drive me there. We should arrive around {time}, is that fine with you?",
    "I have tried to call {number} times. Could somebody ring me back before {day}, please?",
    "Do I have to bring anything on {day}? My insurance has changed since I was there last time.",
    "It hurts less than it did {day}, but I still cannot turn my head to the left. Is that normal after {number} days?",
    "Good morning, {name} has had a fever of 101 since {day}. Do you have anything free at {time} or later today?",
    "The pharmacy says that they have nothing from you. Could you send the prescription for {name} again today?",
    "We can stop by on {day} to drop off the forms, and {name} can start with the exercises right after that.",
    (
        "Hi, it is {name} here. I took the last of the {number} pills {day} and do not feel better at all. Should I "
        "come in, or start taking two of them? My other doctor said to wait until {day}."
    ),
)
"""Nothing in here is a keyword, or short enough to read like one."""


@dataclass
class Traffic:
    """The texts of one topic. What is to come of them is filled in while they are made."""

    messages: int
    density: float
    seed: int
    end_ms: int
    """When the last one was sent, in ms since the epoch; the rest in the hour before."""
    keywords: list[dict[str, Any]] = field(default_factory=list, repr=False)
    """The fields of each text that is a keyword, in the order of sending."""
    near_misses: int = 0

    def records(self) -> Iterator[tuple[str, InboundMessage]]:
        """Make the texts, each with its key, in the order of sending."""
        chance = random.Random(self.seed)  # noqa: S311 - nothing here is a secret
        near = self.density * (1 + NEAR_MISSES_A_KEYWORD)
        step = 3_600_000 / self.messages
        for number in range(self.messages):
            drawn = chance.random()
            if drawn < self.density:
                body = _keyword(chance)
            elif drawn < near:
                body = chance.choice(NEAR_MISSES)
                self.near_misses += 1
            else:
                body = _talk(chance)
            sent = self.end_ms - int((self.messages - number) * step) - int(chance.random() * LATEST_BY_MS)
            text = _text(chance, body, sent)
            if drawn < self.density:
                self.keywords.append(
                    {
                        "message_id": text.message_id,
                        "location_id": text.location_id,
                        "patient_number": text.patient_number,
                        "body": text.body,
                        "received_at": text.received_at,
                    }
                )
            yield subscription_key(text.location_id, text.patient_number), text


def _keyword(chance: random.Random) -> str:
    word = chance.choice(OPT_OUTS if chance.random() < OPT_OUT_SHARE else OPT_INS)
    return chance.choice(SPELLINGS).format(word, word.lower(), word.capitalize())


def _talk(chance: random.Random) -> str:
    drawn = int(chance.random() * 1_000_000)
    return TALK[drawn % len(TALK)].format(
        day=DAYS[drawn % len(DAYS)],
        name=NAMES[drawn // 7 % len(NAMES)],
        time=f"{drawn // 11 % 12 + 1}:{drawn // 13 % 60:02}",
        number=drawn % 97 + 2,
    )


def _text(chance: random.Random, body: str, sent: int) -> InboundMessage:
    location = int(chance.random() * LOCATIONS)
    patient = int(chance.random() * PATIENTS_A_LOCATION)
    return InboundMessage(
        body=body,
        message_id=f"SM{chance.getrandbits(128):032x}",
        location_id=f"loc-{location:05}",
        patient_number=_number((location * PATIENTS_A_LOCATION + patient) * 7),
        location_number=_number(location),
        received_at=sent,
        provider="twilio",
    )


def _number(number: int) -> str:
    """Return a number of an exchange that is kept for fiction and for directory assistance."""
    return f"+1{AREAS[number % len(AREAS)]}555{number // len(AREAS) % 10_000:04}"
