"""What must become of the demo's texts, by a count of its own.

It shares no code with the classifier, the state rules or the normal form, or it would only repeat their mistakes. It
may be so short because it knows what the demo's texts look like.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.demo.texts import NEAR_OPT_OUTS, OPT_INS, OPT_OUTS, RETIRED, UNREADABLE, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Subscription = tuple[str, str]
"""A location and a patient's number."""
Change = tuple[int, str]
"""A change's version and what the subscription is from then on: OPTED_OUT or OPTED_IN."""
DeadLetter = tuple[str, Record]
"""The reason, and what could not be used."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must have become of everything that was published.

    Each record is exactly one of these: a change, a dead letter, or ignored, which is all the rest: talk, near misses,
    retired words, and keywords that change nothing because they were said before or are older than what is known.
    `reviews` are the ids of the ignored texts that staff must be shown.
    """

    changes: Mapping[Subscription, tuple[Change, ...]]
    dead_letters: Counter[DeadLetter]
    ignored: int
    reviews: Counter[str]
    opted_out: frozenset[Subscription]
    took_part: frozenset[Subscription]


def expected(records: Iterable[Record]) -> Expectation:
    """Return what must become of these records, published in this order."""
    last: dict[Subscription, tuple[int, bool]] = {}  # when the last word was said, and whether it was an opt-out
    changes: defaultdict[Subscription, list[Change]] = defaultdict(list)
    dead_letters: Counter[DeadLetter] = Counter()
    reviews: Counter[str] = Counter()
    ignored = 0
    took_part = set()
    for record in records:
        if isinstance(record, bytes):
            dead_letters[UNREADABLE[record], record] += 1
            continue
        word = record.body.strip().upper()
        if word in OPT_OUTS and not (record.location_id and record.patient_number.startswith("+")):
            dead_letters["unattributable-opt-out", record] += 1
            continue
        who = (record.location_id, record.patient_number)
        took_part.add(who)
        before = last.get(who, (0, False))
        after = max(before, (record.received_at, word in OPT_OUTS)) if word in OPT_OUTS + OPT_INS else before
        last[who] = after
        reviews[record.message_id] += word in RETIRED or record.body in NEAR_OPT_OUTS
        if after[1] == before[1]:
            ignored += 1
        else:
            changes[who].append((len(changes[who]) + 1, "OPTED_OUT" if after[1] else "OPTED_IN"))
    return Expectation(
        changes={who: tuple(made) for who, made in changes.items()},
        dead_letters=dead_letters,
        ignored=ignored,
        reviews=+reviews,
        opted_out=frozenset(who for who, (_, out) in last.items() if out),
        took_part=frozenset(took_part),
    )
