"""Holds each opt-in of the ledger against the text that it names as its origin: what somebody forged has none.

A record that is well formed stops no bucket, whoever wrote it. What a classifier wrote can be shown, for as long as
inbound is kept: the text at its origin, classified again, leads to the same location, number, word and time. Opt-outs
are not looked at: a forged one suppresses more, and nothing but a START may undo it.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import phonenumbers

from consumer import deployment
from consumer.domain.buckets import digits_of
from consumer.domain.event_time import BROKER_SKEW_MS
from consumer.domain.events import Action, InboundMessage, KeywordRecord
from consumer.domain.keywords import Keywords
from consumer.domain.phone import NotANumber, to_e164
from consumer.domain.spellings import other_spelling
from consumer.intake import Intake, Topics
from consumer.kafka import topics
from consumer.kafka.cluster import partitions_by_topic
from consumer.kafka.inbox import Partition, appended_at
from consumer.kafka.lookup import Lookup
from consumer.kafka.reader import Reader
from consumer.ledger_records import LedgerRecords
from consumer.letter import place_of
from consumer.recovery.verify import Difference, Kind
from consumer.wire.codec import Codec, Unreadable
from consumer.wire.schemas import Schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from consumer.kafka.cluster import AdminClient
    from consumer.kafka.inbox import Message
    from consumer.settings import Settings

AT_ONCE = 10_000
"""Opt-ins that are looked up together."""
_SOME_NUMBER = "+12025550100"


@dataclass(frozen=True, slots=True)
class OptIn:
    """One opt-in of the ledger: where it stands, what it says, and when it was written, by the clock that says so."""

    bucket: int
    offset: int
    record: KeywordRecord
    written_at: int

    @property
    def origin(self) -> str:
        """Return where its text should be."""
        origin = self.record.origin
        return f"{origin.topic} [{origin.partition}] {origin.offset}"


class Origins:
    """Looks at the opt-ins of some buckets. `sound` and `gone` count those that are, and those that cannot be told."""

    def __init__(self, settings: Settings, buckets: Sequence[int], progress: Callable[[int, int], None]) -> None:
        self._settings = settings
        self._buckets = buckets
        self._progress = progress
        self._codec = deployment.codec(settings)
        self._again = _Again(settings, self._codec)
        self.sound = self.gone = self.forged = 0

    def differences(self) -> Iterator[Difference]:
        """Give each opt-in that is not what its origin leads to. Raises KafkaGone, TopicError, SchemaError."""
        admin = deployment.admin_client(self._settings)
        known = [topic for topic in self._settings.inbound if topic in partitions_by_topic(admin)]
        with closing(Lookup(deployment.reading_config(self._settings, *known))) as lookup:
            inbound = _Inbound(self._settings, admin, lookup)
            some: list[OptIn] = []
            for opt_in in self._opt_ins():
                some.append(opt_in)
                if len(some) == AT_ONCE:
                    yield from self._looked_up(some, inbound)
                    some = []
            yield from self._looked_up(some, inbound)

    def summary(self) -> str:
        """Return how many there were and what became of them."""
        looked = self.sound + self.gone + self.forged
        said = f"{looked} opt-in{'s' * (looked != 1)} held against their texts: {self.sound} as the text says"
        said += f", {self.forged} not" if self.forged else ""
        return said + (f", {self.gone} whose text is gone, of which nothing can be said" if self.gone else "")

    def _opt_ins(self) -> Iterator[OptIn]:
        ledger = deployment.ledger_as_it_is(self._settings)
        allowed = deployment.allowed(self._settings, ledger)
        config = deployment.reading_config(self._settings, ledger.topic)
        for number, bucket in enumerate(self._buckets):
            self._progress(number, len(self._buckets))
            partition = Partition(ledger.topic, bucket)
            records = LedgerRecords(ledger, allowed, partition, deployment.probing(config))
            with Reader(config, [partition]) as reader:
                for message, entry in filter(None, records.read(reader)):  # what it stops at the comparison names
                    if entry.action is Action.OPT_OUT:
                        continue
                    record, appended = ledger.decode(entry.raw), appended_at(message)
                    latest = record.recorded_at if appended is None else appended + BROKER_SKEW_MS
                    yield OptIn(bucket, entry.offset, record, min(record.recorded_at, latest))
        self._progress(len(self._buckets), len(self._buckets))

    def _looked_up(self, opt_ins: Sequence[OptIn], inbound: _Inbound) -> Iterator[Difference]:
        places: dict[Partition, list[OptIn]] = defaultdict(list)
        for one in opt_ins:
            places[Partition(one.record.origin.topic, one.record.origin.partition)].append(one)
        for partition, theirs in places.items():
            found = inbound.texts(partition, sorted({one.record.origin.offset for one in theirs}))
            for one in theirs:
                text = found.get(one.record.origin.offset)
                wrong = "there is no text" if text is None else self._again.differs(one, text)
                if wrong is None:
                    self.sound += 1
                elif inbound.is_gone(one.record, found=text is not None):
                    self.gone += 1
                else:
                    self.forged += 1
                    yield _forged(one, wrong)


def _forged(one: OptIn, wrong: str) -> Difference:
    what = f"the one at offset {one.offset} names {one.origin}, where {wrong}: no classifier wrote it"
    return Difference(one.bucket, Kind.ORIGIN, what, one.record.location_id, digits_of(one.record.patient_number))


class _Inbound:
    """The topics that workers read: what stands in them, and since when they go back."""

    def __init__(self, settings: Settings, admin: AdminClient, lookup: Lookup) -> None:
        self._read = settings.inbound
        self._admin = admin
        self._lookup = lookup
        self._known = partitions_by_topic(admin)
        self._begins: dict[Partition, tuple[int, Message | None]] = {}
        self._compacted: dict[str, bool] = {}

    def texts(self, partition: Partition, offsets: Sequence[int]) -> dict[int, Message]:
        """Return what stands at these offsets of a partition, by offset."""
        if partition.topic not in self._read or not 0 <= partition.number < self._known.get(partition.topic, 0):
            return {}
        return {place_of(message).offset: message for message in self._lookup.at(partition, offsets)}

    def is_gone(self, record: KeywordRecord, *, found: bool) -> bool:
        """Whether a text that is not what a record says, or not there, can have been there when it was classified.

        Deleted by retention, or in a topic that was made anew. An opt-in is never later than its text, so one that is
        later than what is still there names a text that would be there, too.
        """
        origin = record.origin
        if origin.topic not in self._read:
            return False
        if origin.topic not in self._known or (not found and self._is_compacted(origin.topic)):
            return True
        partitions = [Partition(origin.topic, number) for number in range(self._known[origin.topic])]
        if 0 <= origin.partition < len(partitions):
            low, first = self._begin(partitions[origin.partition])
            if 0 <= origin.offset < low:
                kept_since = None if first is None else appended_at(first)
                return kept_since is None or record.event_time <= kept_since + BROKER_SKEW_MS
        firsts = [first for _, first in map(self._begin, partitions) if first is not None]
        return record.event_time < min((first.timestamp()[1] for first in firsts), default=record.event_time + 1)

    def _begin(self, partition: Partition) -> tuple[int, Message | None]:
        if partition not in self._begins:
            self._begins[partition] = self._lookup.bounds(partition)[0], self._lookup.first(partition)
        return self._begins[partition]

    def _is_compacted(self, topic: str) -> bool:
        if topic not in self._compacted:
            self._compacted[topic] = "compact" in topics.topic_configs(self._admin, topic).get("cleanup.policy", "")
        return self._compacted[topic]


class _Again:
    """Classifies a text again, at the time at which it was."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._codec = codec
        # What is made here is written nowhere, so it needs no schema of a registry, where upstream has its own.
        self._made_here = Codec(Schemas())
        self._region = settings.region
        self._ledger = settings.keyword_ledger_topic
        self._now = 0
        self._intake = Intake(
            codec=self._made_here,
            keywords=Keywords(),
            topics=Topics(
                ledger=self._ledger,
                reviews=settings.review_requested_topic,
                dead_letters=settings.dead_letter_topic,
                requests=settings.opt_out_requested_topic,
            ),
            buckets=settings.buckets,
            region=settings.region,
            now=lambda: self._now,
        )

    def differs(self, one: OptIn, text: Message) -> str | None:
        """Return in what the text there leads to another record; None where it leads to this one."""
        try:
            read = self._codec.decode(InboundMessage, text.value())
        except Unreadable:
            return "the record is no text"
        self._now, said = one.written_at, one.record
        # With a number beyond doubt: versions before took more for one than is taken now.
        again = self._made_here.encode(replace(read, patient_number=_SOME_NUMBER))
        made = self._made(cast("Message", _With(text, again)))
        if made is None or made.cause.action is not Action.OPT_IN:
            return "the text is no opt-in"
        differing = []
        if made.location_id != said.location_id:
            differing.append("another location")
        if said.patient_number not in self._numbers(read.patient_number):
            differing.append("another number")
        if made.cause.keyword != said.cause.keyword:
            differing.append("another word")
        # The classifier looks at its clock twice: where that decides, the text counts a moment earlier than it says.
        clock = made.event_time == self._now and said.event_time < self._now
        if made.event_time != said.event_time and not clock:
            differing.append("another time")
        return f"the text has {', '.join(differing)}" if differing else None

    def _made(self, text: Message) -> KeywordRecord | None:
        for outgoing in self._intake.records(text):
            if outgoing.topic == self._ledger:
                return self._made_here.decode(KeywordRecord, outgoing.value)
        return None

    def _numbers(self, written: str) -> set[str]:
        """Return the number that is read there now, the one that versions before read, and their other spellings."""
        found = set()
        with suppress(NotANumber):
            found.add(to_e164(written, self._region))
        with suppress(phonenumbers.NumberParseException):
            number = phonenumbers.parse(written[:64], self._region)
            found.add(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
        return found | {other for other in map(other_spelling, found) if other}


class _With:
    """A message with another value."""

    def __init__(self, message: Message, value: bytes) -> None:
        self._message = message
        self._value = value

    def value(self) -> bytes:
        """Return the other value."""
        return self._value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)
