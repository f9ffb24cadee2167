"""What travels on the topics, as Python values. Times are milliseconds since the epoch, UTC; numbers are E.164.

The repr of a record shows no number of a patient and no text: it could end up in a log.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

NO_RECORD = "none"
"""Stands for the digest where there is no record that could have one."""
CONFIRMATION_WINDOW_MS = 5 * 60 * 1000
"""How long after the STOP its one confirmation counts as covered by it: 47 CFR 64.1200(a)(12)."""


class Action(StrEnum):
    """What a keyword asks for."""

    OPT_OUT = "OPT_OUT"
    OPT_IN = "OPT_IN"


class Status(StrEnum):
    """What a subscription is. One that nobody ever touched is OPTED_IN."""

    OPTED_OUT = "OPTED_OUT"
    OPTED_IN = "OPTED_IN"


OTHER_SPELLING = "/other-spelling"
"""Behind the rule of a record that repeats another one for the other spelling of its number (see `spellings`)."""

STATUS_OF = {Action.OPT_OUT: Status.OPTED_OUT, Action.OPT_IN: Status.OPTED_IN}


class Source(StrEnum):
    """Who asked for it."""

    PATIENT_KEYWORD = "PATIENT_KEYWORD"
    IMPORT = "IMPORT"
    PROVIDER_BLOCK = "PROVIDER_BLOCK"


class ReviewReason(StrEnum):
    """Why staff are asked to look at a message that changed nothing."""

    NEAR_MISS = "NEAR_MISS"
    AMBIGUOUS_KEYWORD = "AMBIGUOUS_KEYWORD"
    IMPLAUSIBLE_OPT_IN = "IMPLAUSIBLE_OPT_IN"


class OperatorActionKind(StrEnum):
    """What operators do that is written down."""

    MAINTENANCE_BEGUN = "MAINTENANCE_BEGUN"
    MAINTENANCE_ENDED = "MAINTENANCE_ENDED"
    VIEW_REBUILT = "VIEW_REBUILT"
    OFFSETS_SET = "OFFSETS_SET"
    OTHER = "OTHER"
    """Never written: what a reader older than the action reads it as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The record that a keyword came with, and what its provider said of it."""

    topic: str
    partition: int
    offset: int
    message_id: str
    received_at: int
    kafka_timestamp: int
    provider: str | None = None
    provider_opt_out_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundMessage:
    """A text that a patient sent to a location."""

    message_id: str
    location_id: str
    patient_number: str = field(repr=False)
    location_number: str
    body: str = field(repr=False)
    received_at: int
    provider: str
    provider_opt_out_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOutRequested:
    """An opt-out made elsewhere: imported, or a block at the provider. It has no action: it can only opt out."""

    request_id: str
    location_id: str
    patient_number: str = field(repr=False)
    source: Literal[Source.IMPORT, Source.PROVIDER_BLOCK]
    occurred_at: int
    keyword: str | None = None
    provider: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientKeyword:
    """The patient's own word, by the rule that recognised it. Only this can opt in."""

    action: Action
    keyword: str
    raw_body: str = field(repr=False)
    rule: str
    pack: str
    pack_version: int

    @property
    def source(self) -> Source:
        """Return who asked: always the patient."""
        return Source.PATIENT_KEYWORD

    @property
    def is_repeated(self) -> bool:
        """Return whether this repeats another record for the other spelling of its number."""
        return self.rule.endswith(OTHER_SPELLING)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedOptOut:
    """An opt-out that did not come by text. There is no such thing for an opt-in, by construction."""

    source: Literal[Source.IMPORT, Source.PROVIDER_BLOCK]
    keyword: str | None = None

    @property
    def action(self) -> Action:
        """Return what it asks for: always the opt-out."""
        return Action.OPT_OUT


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordRecord:
    """One line of the ledger: everything that a decision needs, and the evidence for it.

    `event_time` is what orders the records of a subscription; `recorded_at` is when the classifier wrote it down.
    `shared_with` names further locations that the same text opted out, where they share one number.
    """

    location_id: str
    patient_number: str = field(repr=False)
    location_number: str | None
    cause: PatientKeyword | RequestedOptOut
    event_time: int
    recorded_at: int
    origin: Origin
    shared_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPosition:
    """Where in the ledger a change was decided."""

    topic: str
    topic_id: str
    partition: int
    offset: int

    def event_id(self, event_type: str) -> str:
        """Return the id of the event of that type that this position leads to: the same in every replay.

        32 hexadecimal digits. Readers may drop a second event with an id that they have seen.
        """
        text = f"{self.topic_id}:{self.partition}:{self.offset}:{event_type}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionChanged:
    """A subscription has another status than before. `version` counts its changes from 1, without gaps."""

    event_id: str
    location_id: str
    patient_number: str = field(repr=False)
    status: Status
    previous_status: Status
    version: int
    keyword: str | None
    source: Source
    occurred_at: int
    recorded_at: int
    ledger: LedgerPosition
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationRequested:
    """The one text that tells a patient of the change. Not to be sent after `expires_at`."""

    event_id: str
    change_event_id: str
    location_id: str
    location_number: str | None
    patient_number: str = field(repr=False)
    status: Status
    text: str = field(repr=False)
    requested_at: int
    expires_at: int
    ledger: LedgerPosition


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRequested:
    """A message that changed nothing, but that a person should read."""

    review_id: str
    location_id: str
    location_number: str | None
    patient_number: str = field(repr=False)
    reason: ReviewReason
    body: str = field(repr=False)
    keyword: str | None
    received_at: int
    recorded_at: int
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAction:
    """Something that a person did to the running system, written down before it is done.

    `seconds` is for how long it holds at most, 0 where that has no meaning; no `buckets` stand for all of them.
    `places` are what was set, each as topic:partition:offset.
    """

    action_id: str
    action: OperatorActionKind
    by: str
    reason: str
    seconds: int
    buckets: tuple[int, ...]
    recorded_at: int
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """A permission to pass over the places of a partition from `offset` to before `end`, written by an operator.

    `digest` is the SHA-256 of the one record that stands there, in hexadecimal digits, or NO_RECORD where no record can
    be read. `topic_id` is Kafka's id of the very topic that is meant.
    """

    topic: str
    topic_id: str
    partition: int
    offset: int
    end: int
    digest: str
    by: str
    reason: str
    recorded_at: int


def digest_of(value: bytes | None) -> str:
    """Return the digest by which a skip names a record."""
    return hashlib.sha256(value or b"").hexdigest()


def subscription_key(location_id: str, patient_number: str) -> str:
    """Return the Kafka key of everything that concerns one subscription."""
    return f"{location_id}:{patient_number}"


def subscription_of(key: bytes | None) -> tuple[str, str] | None:
    """Return the location and the number that a Kafka key names; None for one that we would not have written."""
    location_id, colon, number = (key or b"").decode(errors="replace").rpartition(":")
    digits = number.removeprefix("+")
    wanted = colon and number != digits and digits.isascii() and digits.isdigit()
    return (location_id, number) if wanted and location_id else None
