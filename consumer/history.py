"""What the ledger says of one patient at one location: every keyword, and what it did.

Read from the one partition that holds the location, and decided anew by the state rules: what Redis should hold, and
what was told, without asking either. Every record is decoded, as the applier does it: one that cannot be read stops the
bucket, so that nothing behind it is in force, and the history ends there, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from consumer import deployment
from consumer.domain.buckets import bucket_of, digits_of
from consumer.domain.events import Action, Source, Status
from consumer.domain.phone import NotANumber, to_e164
from consumer.domain.spellings import other_spelling
from consumer.domain.subscription import Decision, decide
from consumer.domain.words import at
from consumer.kafka.inbox import Partition
from consumer.kafka.reader import OpenTransaction, Reader
from consumer.ledger import LedgerFault
from consumer.ledger_records import LedgerRecords

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from consumer.domain.events import KeywordRecord, LedgerPosition
    from consumer.domain.subscription import Subscription
    from consumer.settings import Settings

_RECORDED = re.compile(r"\+[0-9]{3,20}")
STAFF_SENTENCE = "The patient has opted out of receiving further text messages from this practice"
"""What staff are shown; the words are the product's."""


@dataclass(frozen=True, slots=True)
class Step:
    """One record of the ledger and what it did. `version` is the subscription's after it."""

    record: KeywordRecord
    position: LedgerPosition
    decision: Decision
    version: int


@dataclass(frozen=True, slots=True)
class History:
    """All that the ledger holds of one subscription, oldest record first; `state` is None where that is nothing.

    `stopped` is a sentence on what the history ends at, a record that nobody can read or a transaction that is open;
    None where it is whole.
    """

    location_id: str
    patient_number: str
    steps: tuple[Step, ...]
    state: Subscription | None
    stopped: str | None = None

    @property
    def opted_out(self) -> bool:
        """Return whether the patient is opted out by what the ledger says."""
        return self.state is not None and self.state.status is Status.OPTED_OUT


def history(settings: Settings, location_id: str, number: str) -> History:
    """Return the history of a patient at a location.

    Raises NotANumber, KafkaGone, TopicError, and LedgerFault where the ledger's beginning is gone.
    """
    patient, spellings = _recorded(number, settings.region)
    ledger = deployment.ledger_as_it_is(settings)
    partition = Partition(ledger.topic, bucket_of(location_id, settings.buckets))
    states: dict[str, Subscription] = {}
    steps: list[Step] = []
    config = deployment.reading_config(settings, ledger.topic)
    records = LedgerRecords(ledger, deployment.allowed(settings, ledger), partition, deployment.probing(config))
    with Reader(config, [partition]) as reader:
        first, _ = reader.bounds(partition)
        if first > 0:
            raise LedgerFault(
                f"{partition.topic} [{partition.number}] begins at offset {first}: its first records were deleted, and "
                "what they said of this patient is not known; restore them"
            )
        try:
            for message, entry in filter(None, records.read(reader)):
                if entry.location_id != location_id or entry.digits not in spellings:
                    continue
                decision, state = decide(states.get(entry.digits), entry.action, entry.event_time, entry.keyword)
                states[entry.digits] = state
                position = ledger.position(partition.number, entry.offset)
                steps.append(Step(ledger.decode(message.value()), position, decision, state.version))
        except OpenTransaction as problem:
            return History(location_id, patient, tuple(steps), _state(states), str(problem))
    return History(location_id, patient, tuple(steps), _state(states), records.stopped)


def _recorded(number: str, region: str) -> tuple[str, frozenset[str]]:
    """Return a number, and the digits under which ledgers may hold it. Raises NotANumber.

    What is written as ledgers write it is looked for as it stands, also where it would not be taken for a number today.
    """
    as_it_stands = number if _RECORDED.fullmatch(number) else None
    try:
        patient = to_e164(number, region)
    except NotANumber:
        if as_it_stands is None:
            raise
        patient = as_it_stands
    spellings = {as_it_stands, patient, other_spelling(patient)} - {None}
    return patient, frozenset(map(digits_of, filter(None, spellings)))


def _state(states: Mapping[str, Subscription]) -> Subscription | None:
    """Return what holds for the patient: an opt-out under either spelling, else what changed last."""
    by_weight = sorted(
        states.values(), key=lambda state: (state.status is Status.OPTED_OUT, state.version, state.since)
    )
    return by_weight[-1] if by_weight else None


def as_dict(step: Step) -> dict[str, Any]:
    """Return a step as JSON has it; times in ms since the epoch."""
    record, cause = step.record, step.record.cause
    return {
        "occurred_at": record.event_time,
        "recorded_at": record.recorded_at,
        "action": cause.action,
        "keyword": cause.keyword,
        "raw_body": getattr(cause, "raw_body", None),
        "source": cause.source,
        "decision": step.decision,
        "version": step.version,
        "patient_number": record.patient_number,
        "event_id": step.position.event_id("SubscriptionChanged") if step.decision is Decision.CHANGED else None,
        "ledger": {"partition": step.position.partition, "offset": step.position.offset},
        "origin": {
            "topic": record.origin.topic,
            "partition": record.origin.partition,
            "offset": record.origin.offset,
            "message_id": record.origin.message_id,
            "provider": record.origin.provider,
        },
    }


def in_words(found: History) -> Iterator[str]:
    """Return what a person reads: how it stands, then a line for each record, oldest first."""
    who = f"{found.patient_number} at {found.location_id}"
    if found.state is None:
        if found.stopped:
            yield f"{who}: no keyword is recorded before the place where the ledger stops"
        else:
            yield f"{who}: no keyword was ever recorded, so the patient is opted in"
        return
    since = f" since {at(found.state.since)}, by {_word(found.state.keyword)}" if found.state.version else ""
    yield f"{who}: {'opted out' if found.opted_out else 'opted in'}{since}"
    if found.opted_out:
        yield f"{STAFF_SENTENCE}."
    yield ""
    yield f"{'sent':27} {'keyword':13} {'from':13} {'what it did':25} ledger"
    for step in found.steps:
        cause, place = step.record.cause, step.position
        yield (
            f"{at(step.record.event_time):27} {_word(cause.keyword):13} {_SOURCES[cause.source]:13} "
            f"{_done(step):25} [{place.partition}] {place.offset}{_spelt(step, found)}"
        )


_SOURCES = {
    Source.PATIENT_KEYWORD: "the patient",
    Source.IMPORT: "an import",
    Source.PROVIDER_BLOCK: "the provider",
}
_LONGEST_WORD = 13


def _word(keyword: str | None) -> str:
    """Return a keyword as it may stand in a column: what an import gives as one can be anything."""
    if not keyword:
        return "(none given)"
    plain = "".join(character if character.isprintable() else "?" for character in keyword)
    return plain if len(plain) <= _LONGEST_WORD else f"{plain[: _LONGEST_WORD - 1]}…"


def _spelt(step: Step, found: History) -> str:
    """Return under which other spelling of the number a record stands; nothing for one under the number itself."""
    number = step.record.patient_number
    return "" if number == found.patient_number else f", as {number}"


def _done(step: Step) -> str:
    if step.decision is Decision.CHANGED:
        status = "opted out" if step.record.cause.action is Action.OPT_OUT else "opted in"
        return f"{status} (version {step.version})"
    return "nothing: it stood so" if step.decision is Decision.UNCHANGED else "nothing: it is not newer"
