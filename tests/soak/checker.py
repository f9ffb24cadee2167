"""What must be true of a run, judged from its records alone, without a line of the product's code.

A patient's state only ever moves on: to a later event time, or at the same time from opted in to opted out. So whatever
was once seen of it, by a verdict or by a published change, is a bound below which it never stands again, and ALLOWED is
right only where a START above that bound was sent before the verdict was there.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.parts import oracle
from tests.soak.records import milliseconds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from tests.parts.oracle import Change, Subscription, Written
    from tests.soak.records import Claim, Place, Probe, Text, Told

CLOCK_S = 0.02
"""Redis counts an age in whole ms, and the moment of an acknowledgement is known to the length of a callback."""

State = tuple[int, bool]
"""Event time in ms, and whether it is an opt-out: in the order in which states follow each other."""
NOTHING: State = (-1, False)


class Wrong(NamedTuple):
    """A verdict that must not have been given, and what was known of the patient when it was asked for."""

    probe: Probe
    bound: State


@dataclass
class Judgement:
    """What was lost and doubled, and whatever else is not as it must be, in sentences without a number of a patient."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


def judge_verdicts(texts: Iterable[Text], told: Iterable[Told], probes: Iterable[Probe]) -> list[Wrong]:
    """Return every verdict that contradicts what was known when it was asked for."""
    by_patient: dict[Subscription, tuple[list[Text], list[Told], list[Probe]]] = defaultdict(lambda: ([], [], []))
    for text in texts:
        by_patient[text.patient][0].append(text)
    for one in told:
        by_patient[one.patient][1].append(one)
    for probe in probes:
        by_patient[probe.patient][2].append(probe)
    return [wrong for records in by_patient.values() for wrong in _judge_patient(*records)]


def _judge_patient(texts: list[Text], told: list[Told], probes: list[Probe]) -> list[Wrong]:
    """Go through one patient's verdicts in the order in which they were asked for.

    What a verdict says is known from its end on; what it may say follows from what was known at its beginning.
    """
    order = count()
    known = [(one.seen, next(order), (one.at, one.out)) for one in told]
    heapq.heapify(known)
    bound, wrong = NOTHING, []
    for probe in sorted(probes, key=lambda probe: probe.began):
        while known and known[0][0] < probe.began:
            bound = max(bound, heapq.heappop(known)[2])
        if not probe.is_definite:
            continue
        least = max(bound, _overdue(texts, probe))
        out = probe.kind == "SUPPRESSED"
        above = [
            (text.at, text.out)
            for text in texts
            if text.out is out and text.sent < probe.ended and (text.at, text.out) >= least
        ]
        if least == NOTHING and not out:
            continue  # a patient of whom nothing is known may never have texted
        if above:
            heapq.heappush(known, (probe.ended, next(order), min(above)))
        else:
            wrong.append(Wrong(probe, least))
    return wrong


def _overdue(texts: Iterable[Text], probe: Probe) -> State:
    """Return the newest state that a guard must know of: what Kafka has had for longer than its greatest age.

    Who is opted out stays SUPPRESSED however old that is. So where such an answer says that it is older than the guard
    accepts, it is held to what it says.
    """
    if probe.limit is None:
        return NOTHING
    oldest = probe.began - probe.limit
    if probe.kind == "SUPPRESSED" and probe.age is not None and probe.ended - probe.age < oldest:
        oldest = probe.began - probe.age
    horizon = oldest - CLOCK_S
    return max(((t.at, t.out) for t in texts if t.acked is not None and t.acked < horizon), default=NOTHING)


def judge_records(
    texts: Sequence[Text],
    ledger: Sequence[Written],
    changed: Sequence[Written],
    confirmations: Sequence[Written],
    members: set[Subscription],
) -> Judgement:
    """Hold the topics and the suppression set against what was sent."""
    found = Judgement()
    _judge_ledger(found, texts, ledger)
    changes = oracle.changes_of(ledger)
    told = oracle.told(changed)
    _compare(found, "change", changes, told)
    _compare(found, "confirmation", [_confirmed(c) for c in changes], [_confirmation(w) for w in confirmations])
    if told == changes and not _in_order(changed):
        found.other.append("a reader meets the versions of a patient in another order than 1, 2, 3")
    by_input, by_ledger = members_after(texts), oracle.members_of(changes)
    if by_input != by_ledger:
        found.other.append(f"the ledger and the input differ on {len(by_input ^ by_ledger)} patients")
    if missing := len(by_input - members):
        found.lost.append(f"{missing} patients whose STOP holds are not in the suppression set")
    if extra := len(members - by_input):
        found.other.append(f"{extra} patients are in the suppression set whose START holds")
    return found


def _judge_ledger(found: Judgement, texts: Iterable[Text], ledger: Iterable[Written]) -> None:
    """Every keyword that Kafka has stands in the ledger, at least once, as it was sent; and nothing else does."""
    sent = {text.place: text for text in texts if text.place is not None}
    written = set()
    for *_, record in ledger:
        place = _origin(record)
        written.add(place)
        text = sent.get(place)
        patient = (record["location_id"], record["patient_number"])
        as_sent = text and (text.patient, text.out, text.at)
        if as_sent != (patient, record["action"] == "OPT_OUT", milliseconds(record["event_time"])):
            found.other.append(f"the ledger's record of {place} is not what was sent")
    found.lost += [f"the keyword at {place} is not in the ledger" for place in sorted(sent.keys() - written)]


def _compare(
    found: Judgement, what: str, due: Sequence[tuple[object, ...]], told: Sequence[tuple[object, ...]]
) -> None:
    expected, seen = Counter(due), Counter(told)
    for one in expected.keys() | seen.keys():
        where = f"the {what} of the ledger's {_position(one)}"
        if one not in seen:
            found.lost.append(f"{where} was not told")
        elif one not in expected:
            found.doubled.append(f"{where} was told and is none")
        elif seen[one] > 1:
            found.doubled.append(f"{where} was told {seen[one]} times")


def _in_order(changed: Iterable[Written]) -> bool:
    """Whether each patient's versions count 1, 2, 3 in the order in which a reader meets them."""
    last: Counter[Subscription] = Counter()
    for *_, record in sorted(changed, key=lambda written: written[:2]):
        patient = (record["location_id"], record["patient_number"])
        last[patient] += 1
        if record["version"] != last[patient]:
            return False
    return True


def judge_claims(claims: Iterable[Claim]) -> list[str]:
    """Return a sentence for each confirmation that passed twice, or after its five minutes."""
    passed = [claim for claim in claims if claim.kind == "ALLOWED"]
    twice = [event_id for event_id, times in Counter(claim.event_id for claim in passed).items() if times > 1]
    late = [claim.event_id for claim in passed if claim.at > claim.expires_at + 1000 * CLOCK_S]
    return [f"the confirmation {event_id} passed twice" for event_id in twice] + [
        f"the confirmation {event_id} passed when its time was over" for event_id in late
    ]


def judge_letters(poison: Collection[Place], letters: Collection[Place]) -> list[str]:
    """Return a sentence for each record that nobody can read and that is no dead letter, and for each text that is one.

    A letter may come twice.
    """
    missing, others = set(poison) - set(letters), set(letters) - set(poison)
    return [f"the record at {place}, which nobody can read, is no dead letter" for place in sorted(missing)] + [
        f"the text at {place} became a dead letter, and can be read" for place in sorted(others)
    ]


def place_in(headers: Iterable[tuple[str, bytes]]) -> Place:
    """Return where a dead letter says that its record stood."""
    said = dict(headers)
    topic, partition, offset = (said[f"__connect.errors.{name}"].decode() for name in ("topic", "partition", "offset"))
    return topic, int(partition), int(offset)


def members_after(texts: Iterable[Text]) -> set[Subscription]:
    """Return who is opted out by the newest keyword of each; on a tie the STOP holds."""
    newest: dict[Subscription, State] = {}
    for text in texts:
        newest[text.patient] = max(newest.get(text.patient, NOTHING), (text.at, text.out))
    return {patient for patient, (_, out) in newest.items() if out}


def _origin(record: dict[str, Any]) -> Place:
    origin = record["origin"]
    return origin["topic"], origin["partition"], origin["offset"]


def _confirmed(change: Change) -> tuple[object, ...]:
    return change.location, change.number, change.partition, change.offset, change.status


def _confirmation(written: Written) -> tuple[object, ...]:
    record = written.record
    ledger = record["ledger"]
    return record["location_id"], record["patient_number"], ledger["partition"], ledger["offset"], record["status"]


def _position(one: tuple[object, ...]) -> str:
    return f"[{one[2]}] {one[3]}"
