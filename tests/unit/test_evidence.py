"""Evidence is cut, and says so; what identifies is not; and whatever comes in, what is written stays small."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.changes import Changes
from consumer.domain.bucket import Waiting
from consumer.domain.events import (
    Action,
    InboundMessage,
    KeywordRecord,
    OptOutRequested,
    Origin,
    PatientKeyword,
    ReviewRequested,
    Source,
)
from consumer.domain.evidence import LARGEST_RECORD, LONGEST_BODY, LONGEST_ID, LONGEST_WORD, bounded, cut
from consumer.domain.keywords import Keywords
from consumer.intake import Intake, Topics
from consumer.kafka.inbox import Partition
from consumer.ledger import Ledger
from consumer.letter import UNATTRIBUTABLE, DeadLetter
from consumer.wire.codec import Codec
from consumer.wire.schemas import Schemas

if TYPE_CHECKING:
    from consumer.kafka.inbox import Message
    from consumer.kafka.producers import Outgoing

WIDEST = "\U0001f4ac"
"""A character of four bytes."""
LONG = WIDEST * 100_000
PATIENT = "+12025550143"
LOCATION = WIDEST * 256
NOW = 1_790_000_000_000
TOPICS = Topics(ledger="ledger", reviews="reviews", dead_letters="dead", requests="requests")
codec = Codec(Schemas())
ledger = Ledger(
    topic="l" * 249, topic_id="i" * 22, buckets=64, group="g", decode=lambda value: codec.decode(KeywordRecord, value)
)


class Came:
    """A message of Kafka's, as far as the intake asks for it."""

    def __init__(self, record: InboundMessage | OptOutRequested) -> None:
        topic = TOPICS.requests if isinstance(record, OptOutRequested) else "i" * 249
        self._said = {"topic": topic, "partition": 2**31 - 1, "offset": 2**62, "key": None, "headers": None}
        self._said |= {"value": codec.encode(record), "timestamp": (1, NOW)}

    def __getattr__(self, name: str) -> Any:
        return lambda: self._said[name]


def became(record: InboundMessage | OptOutRequested) -> Outgoing:
    intake = Intake(codec=codec, keywords=Keywords(), topics=TOPICS, buckets=64, region="US", now=lambda: NOW)
    (outgoing,) = intake.records(cast("Message", Came(record)))
    return outgoing


def text(body: str, *, location: str = LOCATION, patient: str = PATIENT, long: str = LONG) -> InboundMessage:
    return InboundMessage(
        message_id=long,
        location_id=location,
        patient_number=patient,
        location_number=long,
        body=body,
        received_at=NOW,
        provider=long,
        provider_opt_out_type=long,
    )


REQUEST = OptOutRequested(
    request_id=LONG,
    location_id=LOCATION,
    patient_number=PATIENT,
    source=Source.IMPORT,
    occurred_at=NOW,
    keyword=LONG,
    provider=LONG,
)


def size(outgoing: Outgoing) -> int:
    return len(outgoing.key or b"") + len(outgoing.value or b"")


@given(st.text(max_size=300), st.integers(LONGEST_WORD, 200))
def test_what_is_cut_says_so(said: str, longest: int) -> None:
    """What fits stays as it is; of what does not fit the beginning is kept, with its length and its digest, once."""
    kept = cut(said, longest)
    assert len(kept) <= longest
    assert cut(kept, longest) == kept
    if len(said) <= longest:
        assert kept == said
    else:
        digest = hashlib.sha256(said.encode()).hexdigest()[:16]
        beginning, mark = kept.rsplit("…", 1)
        assert said.startswith(beginning)
        assert mark == f"[cut: {len(said)}, sha256 {digest}]"


def test_a_mark_fits_into_the_shortest_bound() -> None:
    """Even of the longest text that Kafka could bring the beginning is kept beside the mark."""
    assert len(f"…[cut: {10**10}, sha256 {'0' * 16}]") < LONGEST_WORD


@pytest.mark.parametrize("body", ["STOP", "START", "a stop in much space", None])
def test_a_keyword_is_in_force_whatever_comes_with_it(body: str | None) -> None:
    """Megabytes in every field that is copied keep no keyword out of the ledger, and what is written stays small."""
    sent = " \u2003" * 50_000 + "STOP" if body and " " in body else body
    line = became(REQUEST if sent is None else text(sent))
    assert line.topic == TOPICS.ledger
    assert size(line) <= LARGEST_RECORD
    written = codec.decode(KeywordRecord, line.value)
    assert (written.location_id, written.patient_number) == (LOCATION, PATIENT)
    assert len(written.origin.message_id) == LONGEST_ID
    assert "…[cut: 100000, sha256 " in written.origin.message_id


def test_a_review_is_cut_in_every_field() -> None:
    """What staff are to look at is written although each of its fields is too long, the location and number, too."""
    review = became(text("stop messages" + "\u200b" * 100_000, location=LONG, patient=LONG))
    assert review.topic == TOPICS.reviews
    assert size(review) <= LARGEST_RECORD
    written = codec.decode(ReviewRequested, review.value)
    for each in ("location_id", "patient_number", "location_number"):
        assert "…[cut: 100000, sha256 " in getattr(written, each)
    assert written.body.startswith("stop messages")
    assert len(written.body) == LONGEST_BODY


@pytest.mark.parametrize("where", ["location", "patient"])
def test_what_identifies_is_refused_and_never_cut(where: str) -> None:
    """A STOP with too long a location or number is a dead letter that alarms: cut, it would be somebody else's."""
    letter = became(text("STOP", **{where: "+12025550143" * 100}))
    assert isinstance(letter, DeadLetter)
    assert letter.reason == UNATTRIBUTABLE


@pytest.mark.parametrize("confirmations", ["confirmations", None])
def test_what_a_ledger_holds_already_is_cut_where_it_is_told(confirmations: str | None) -> None:
    """A line that an older version wrote, with a megabyte in each field, leads to events that every topic takes."""
    record = KeywordRecord(
        location_id=LOCATION,
        patient_number="+" + "1" * 15,
        location_number=LONG,
        cause=PatientKeyword(
            action=Action.OPT_OUT, keyword=LONG, raw_body=LONG, rule=LONG, pack=LONG, pack_version=2**31 - 1
        ),
        event_time=NOW,
        recorded_at=NOW,
        origin=Origin(
            topic=LONG,
            partition=2**31 - 1,
            offset=2**62,
            message_id=LONG,
            received_at=NOW,
            kafka_timestamp=NOW,
            provider=LONG,
            provider_opt_out_type=LONG,
        ),
    )
    changes = Changes(ledger, codec, changed="changed", confirmations=confirmations)
    told = changes.records(Partition(ledger.topic, 63), Waiting(2**62, 2**31 - 1, codec.encode(record)))
    assert [each.topic for each in told] == ["changed", *([confirmations] if confirmations else [])]
    assert max(map(size, told)) <= LARGEST_RECORD


def test_every_text_of_an_origin_is_bounded() -> None:
    """A field that is added to Origin one day is cut as well, or this fails."""
    texts = {each.name for each in fields(Origin) if "str" in str(each.type)}
    whole = Origin(**cast("dict[str, Any]", {each.name: LONG if each.name in texts else 1 for each in fields(Origin)}))
    assert all("…[cut: " in getattr(bounded(whole), name) for name in texts)
