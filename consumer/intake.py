"""What one inbound record becomes: a line of the ledger, a review, a dead letter, or nothing."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from consumer.domain.buckets import LONGEST_LOCATION, bucket_of, is_location
from consumer.domain.event_time import event_time, requested_time
from consumer.domain.events import (
    OTHER_SPELLING,
    Action,
    InboundMessage,
    KeywordRecord,
    OptOutRequested,
    Origin,
    PatientKeyword,
    RequestedOptOut,
    ReviewReason,
    ReviewRequested,
    subscription_key,
)
from consumer.domain.evidence import LONGEST_BODY, LONGEST_NAME, LONGEST_WORD, bounded, cut
from consumer.domain.phone import NotANumber, to_e164
from consumer.domain.spellings import other_spelling
from consumer.kafka.producers import Outgoing
from consumer.letter import OUT_OF_RANGE, UNATTRIBUTABLE, UNATTRIBUTABLE_OPT_IN, kafka_time, place_of, seal
from consumer.wire.codec import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from consumer.domain.keywords import Keyword, Keywords
    from consumer.kafka.inbox import Message
    from consumer.letter import DeadLetter
    from consumer.wire.codec import Codec


@dataclass(frozen=True, slots=True)
class Topics:
    """The names of what the classifier reads and writes."""

    ledger: str
    reviews: str
    dead_letters: str
    requests: str


class Unattributable(Exception):
    """A keyword of which location or patient cannot be told. The message quotes neither."""


def clock() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Intake:
    """Decides what becomes of each inbound record. Counts what it decided in `counts`, until somebody clears it."""

    def __init__(
        self,
        *,
        codec: Codec,
        keywords: Keywords,
        topics: Topics,
        buckets: int,
        region: str,
        now: Callable[[], int] = clock,
    ) -> None:
        self._codec = codec
        self._keywords = keywords
        self._topics = topics
        self._buckets = buckets
        self._region = region
        self._now = now
        self.counts: Counter[str] = Counter()

    def records(self, message: Message) -> Sequence[Outgoing]:
        """Return what is to be written because of this record: nothing, for talk.

        Raises SchemaAwaited where its schema is not known yet.
        """
        records = self._records(message)
        self.counts["inbound"] += 1
        return records

    def _records(self, message: Message) -> Sequence[Outgoing]:
        try:
            if message.topic() == self._topics.requests:
                return self._requested(self._codec.decode(OptOutRequested, message.value()), message)
            return self._texted(self._codec.decode(InboundMessage, message.value()), message)
        except Unreadable as problem:
            return [self._dead_letter(message, problem.reason, problem)]
        except ValueError as problem:  # a value that the ledger's schema cannot hold
            return [self._dead_letter(message, OUT_OF_RANGE, problem)]

    def _texted(self, text: InboundMessage, message: Message) -> Sequence[Outgoing]:
        keyword = self._keywords.recognise(text.body)
        if keyword is None:
            word = self._keywords.near_miss(text.body)
            return [self._review(text, message, ReviewReason.NEAR_MISS, word)] if word else ()
        try:
            patient = self._attributed(text.location_id, text.patient_number)
        except Unattributable as problem:
            opt_out = keyword.action is Action.OPT_OUT
            return [self._dead_letter(message, UNATTRIBUTABLE if opt_out else UNATTRIBUTABLE_OPT_IN, problem)]
        when = event_time(keyword.action, text.received_at, kafka_time(message), self._now())
        if when is None:
            return [self._review(text, message, ReviewReason.IMPLAUSIBLE_OPT_IN, keyword.word)]
        self.counts["implausible_time"] += when.corrected
        return self._lines(
            location_id=text.location_id,
            patient=patient,
            location_number=text.location_number,
            cause=_cause(keyword, text),
            at=when.at,
            read=text,
            message=message,
        )

    def _requested(self, request: OptOutRequested, message: Message) -> Sequence[Outgoing]:
        try:
            patient = self._attributed(request.location_id, request.patient_number)
        except Unattributable as problem:
            return [self._dead_letter(message, UNATTRIBUTABLE, problem)]
        when = requested_time(request.occurred_at, kafka_time(message), self._now())
        cause = RequestedOptOut(source=request.source, keyword=cut(request.keyword, LONGEST_WORD))
        return self._lines(
            location_id=request.location_id,
            patient=patient,
            location_number=None,
            cause=cause,
            at=when.at,
            read=request,
            message=message,
        )

    def _attributed(self, location_id: str, patient_number: str) -> str:
        """Return the patient's number in E.164. Raises Unattributable."""
        if not is_location(location_id):
            raise Unattributable("the location is empty or too long")
        try:
            return to_e164(patient_number, self._region)
        except NotANumber as problem:
            raise Unattributable(str(problem)) from None

    def _lines(
        self,
        *,
        location_id: str,
        patient: str,
        location_number: str | None,
        cause: PatientKeyword | RequestedOptOut,
        at: int,
        read: InboundMessage | OptOutRequested,
        message: Message,
    ) -> Sequence[Outgoing]:
        """Return the line of the ledger; and where the number has another spelling, a second one, for that.

        So readers that know one spelling find what the patient said, and a START opens what a STOP has closed.
        """
        self.counts[cause.action.lower()] += 1
        record = KeywordRecord(
            location_id=location_id,
            patient_number=patient,
            location_number=cut(location_number, LONGEST_NAME),
            cause=cause,
            event_time=at,
            recorded_at=self._now(),
            origin=origin_of(read, message),
        )
        other = other_spelling(patient)
        return [self._line(record), *([self._line(_repeated(record, other))] if other else ())]

    def _line(self, record: KeywordRecord) -> Outgoing:
        return Outgoing(
            self._topics.ledger,
            subscription_key(record.location_id, record.patient_number).encode(),
            self._codec.encode(record),
            partition=bucket_of(record.location_id, self._buckets),
        )

    def _review(self, text: InboundMessage, message: Message, reason: ReviewReason, word: str | None) -> Outgoing:
        self.counts["review"] += 1
        origin = origin_of(text, message)
        # A person reads it, so it is cut where it cannot be right: here location and number identify nothing.
        location_id, patient = cut(text.location_id, LONGEST_LOCATION), cut(text.patient_number, LONGEST_NAME)
        review = ReviewRequested(
            review_id=f"{origin.topic}:{origin.partition}:{origin.offset}",
            location_id=location_id,
            location_number=cut(text.location_number, LONGEST_NAME),
            patient_number=patient,
            reason=reason,
            body=cut(text.body, LONGEST_BODY),
            keyword=word,
            received_at=text.received_at,
            recorded_at=self._now(),
            origin=origin,
        )
        key = subscription_key(location_id, patient).encode()
        return Outgoing(self._topics.reviews, key, self._codec.encode(review))

    def _dead_letter(self, message: Message, reason: str, problem: Exception) -> DeadLetter:
        self.counts["dead_lettered"] += 1
        self.counts[f"dead_letter_{reason.replace('-', '_')}"] += 1
        return seal(message, self._topics.dead_letters, reason, problem, self._now())


def _cause(keyword: Keyword, text: InboundMessage) -> PatientKeyword:
    return PatientKeyword(
        action=keyword.action,
        keyword=keyword.word,
        raw_body=cut(text.body, LONGEST_BODY),
        rule=keyword.rule,
        pack=keyword.pack,
        pack_version=keyword.pack_version,
    )


def _repeated(record: KeywordRecord, number: str) -> KeywordRecord:
    """Return a record once more, for another spelling of the patient's number: it brings no confirmation of its own."""
    cause = record.cause
    if isinstance(cause, PatientKeyword):
        cause = replace(cause, rule=f"{cause.rule}{OTHER_SPELLING}")
    return replace(record, patient_number=number, cause=cause)


def origin_of(read: InboundMessage | OptOutRequested, message: Message) -> Origin:
    """Return where a record came from, and what its provider said of it."""
    topic, partition, offset = place_of(message)
    if isinstance(read, InboundMessage):
        message_id, received_at, taken_for = read.message_id, read.received_at, read.provider_opt_out_type
    else:
        message_id, received_at, taken_for = read.request_id, read.occurred_at, None
    return bounded(
        Origin(
            topic=topic,
            partition=partition,
            offset=offset,
            kafka_timestamp=kafka_time(message),
            message_id=message_id,
            received_at=received_at,
            provider=read.provider,
            provider_opt_out_type=taken_for,
        )
    )
