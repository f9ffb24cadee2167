"""What the demo says of each text, of each send and of the day: true sentences, and figures that are never cut."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from consumer.demo.day import CAST, DAY
from consumer.demo.observation import Observation, Seen
from consumer.demo.outcome import Outcomes
from consumer.demo.screen import Screen
from consumer.demo.summary import COLUMNS, rows
from consumer.demo.texts import LOCATIONS, hours, texts
from consumer.domain.confirmation import confirmation_of
from consumer.domain.events import (
    InboundMessage,
    KeywordRecord,
    LedgerPosition,
    Origin,
    PatientKeyword,
    ReviewReason,
    ReviewRequested,
    Source,
    Status,
    SubscriptionChanged,
)
from consumer.domain.keywords import Keywords
from consumer.guard import VerdictKind

if TYPE_CHECKING:
    from consumer.domain.events import (
        ConfirmationRequested,
    )

NOW = 1_800_000_000_000
TEMPLATE = next(text for text in texts(NOW) if isinstance(text, InboundMessage))


def text(body: str, at: int = NOW) -> InboundMessage:
    return replace(TEMPLATE, message_id=f"{body}-{at}", body=body, received_at=at)


def origin(of: InboundMessage) -> Origin:
    return Origin(topic="in", partition=0, offset=0, message_id=of.message_id, received_at=0, kafka_timestamp=0)


def change(of: InboundMessage, status: Status, keyword: str) -> SubscriptionChanged:
    ledger = LedgerPosition(topic="ledger", topic_id="id", partition=0, offset=of.received_at - NOW)
    return SubscriptionChanged(
        event_id=ledger.event_id("SubscriptionChanged"),
        location_id=of.location_id,
        patient_number=of.patient_number,
        status=status,
        previous_status=Status.OPTED_IN if status is Status.OPTED_OUT else Status.OPTED_OUT,
        version=1,
        keyword=keyword,
        source=Source.PATIENT_KEYWORD,
        occurred_at=of.received_at,
        recorded_at=of.received_at,
        ledger=ledger,
        origin=origin(of),
    )


def confirmation(of: InboundMessage, changed: SubscriptionChanged) -> ConfirmationRequested:
    """Return the confirmation that the product sends for a change."""
    keyword = Keywords().recognise(of.body)
    assert keyword is not None
    cause = PatientKeyword(
        action=keyword.action,
        keyword=keyword.word,
        raw_body=of.body,
        rule=keyword.rule,
        pack=keyword.pack,
        pack_version=keyword.pack_version,
    )
    record = KeywordRecord(
        location_id=of.location_id,
        patient_number=of.patient_number,
        location_number=None,
        cause=cause,
        event_time=of.received_at,
        recorded_at=of.received_at,
        origin=origin(of),
    )
    made = confirmation_of(changed, record)
    assert made is not None
    return made


def review(of: InboundMessage, keyword: str) -> ReviewRequested:
    return ReviewRequested(
        review_id=of.message_id,
        location_id=of.location_id,
        location_number=None,
        patient_number=of.patient_number,
        reason=ReviewReason.NEAR_MISS,
        body=of.body,
        keyword=keyword,
        received_at=of.received_at,
        recorded_at=of.received_at,
        origin=origin(of),
    )


def test_what_is_told_says_nothing_else() -> None:
    """Whoever is told of line by line says nothing in the crowd, or a line would not mean what it seems to."""
    told = [line for scene in DAY for line in scene.lines]
    said = [text for text in texts(NOW) if isinstance(text, InboundMessage) and text.patient_number in CAST]
    assert len(said) == sum(line.patient in CAST for line in told)
    assert all(hour.told for hour in hours(NOW))


def test_each_text_is_told_with_its_reason() -> None:
    """What became of a text is told by what was seen: a change, or the reason why there is none."""
    outcomes = Outcomes()
    stop, again, start = text("STOP"), text("STOP", NOW + 1), text("START", NOW + 2)
    out, back = change(stop, Status.OPTED_OUT, "STOP"), change(start, Status.OPTED_IN, "START")
    never = outcomes.of(text("yes"), Seen()).why
    assert never == "changes nothing: the patient was not opted out, and no reply is sent"
    assert outcomes.of(stop, Seen(changes={"1": out})) == ("out", "opted out by STOP")
    assert outcomes.of(stop, Seen(changes={"1": out})).why.startswith("changes nothing: the patient is opted out")
    assert outcomes.of(again, Seen()).kind == "talk"
    assert outcomes.of(start, Seen(changes={"2": back})) == ("in", "opted in again by START")
    assert outcomes.of(again, Seen()).why == "changes nothing: it was sent before the START that came first"
    assert outcomes.of(text("stop it"), Seen()).why == "changes nothing: a keyword must be the whole text"
    lost = outcomes.of(b"bytes", Seen(dead_letters={1: ("not-framed", b"bytes")}))
    assert lost == ("dead", "dead letter, whole: nobody can read it (not-framed)")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("CANCEL", "opted out by CANCEL; one confirmation, which says that no appointment is cancelled"),
        ("QUIT", "opted out by QUIT; one confirmation"),
    ],
)
def test_a_confirmation_is_told_by_what_it_says(body: str, said: str) -> None:
    """That a reply says that no appointment is cancelled is told where the reply that was sent says so."""
    sent = text(body)
    changed = change(sent, Status.OPTED_OUT, body)
    reply = confirmation(sent, changed)
    assert Outcomes().of(sent, Seen(changes={"1": changed}, confirmations={"1": reply})).why == said
    twice = Seen(changes={"1": changed}, confirmations={"1": reply, "2": reply})
    assert "2 confirmations" in Outcomes().of(sent, twice).why


@pytest.mark.parametrize(
    ("body", "keyword", "said"),
    [("Stop.", "STOP", "it reads like STOP"), ("recare", "RECARE", "it is a word that has been retired")],
)
def test_a_text_for_staff_is_told_by_why_it_is(body: str, keyword: str, said: str) -> None:
    """A near miss reads like a keyword; a retired word was one."""
    near = text(body)
    assert said in Outcomes().of(near, Seen(reviews={"1": review(near, keyword)})).why


def test_the_table_counts_what_was_seen() -> None:
    """Each column counts its own thing, each row its own practice, and the last row all of them."""
    here, there, *_ = LOCATIONS
    stop, near = text("STOP"), text("Stop.")
    out = change(replace(stop, location_id=here), Status.OPTED_OUT, "STOP")
    back = change(replace(stop, location_id=there, received_at=NOW + 1), Status.OPTED_IN, "START")
    seen = Seen(
        changes={"1": out, "2": back},
        confirmations={"1": confirmation(replace(stop, location_id=here), out)},
        reviews={"1": review(replace(near, location_id=there), "STOP")},
        dead_letters={1: ("not-framed", b"bytes")},
    )
    verdicts = {
        (here, "1"): VerdictKind.SUPPRESSED,
        (here, "2"): VerdictKind.ALLOWED,
        (there, "1"): VerdictKind.UNKNOWN,
    }
    found = Observation({}, {}, Counter(), Counter(), frozenset(), verdicts)
    table = rows([replace(stop, location_id=here), replace(near, location_id=there), b"bytes"], seen, found)
    names = ("texts", "opted out", "in again", "confirmed", "to staff", "dead letters", "may text now", "may not")
    assert names == COLUMNS
    assert table[here] == [1, 1, 0, 1, 0, 0, 1, 1]
    assert table[there] == [1, 0, 1, 0, 1, 0, 0, 1]
    assert table["(nobody's)"] == [1, 0, 0, 0, 0, 1, 0, 0]
    assert table["all"] == [3, 1, 1, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("width", [20, 60, 80, 120])
def test_no_figure_is_cut(width: int) -> None:
    """However narrow the terminal, each figure of the table stands whole: one that is cut is another one."""
    shown = io.StringIO()
    screen = Screen()
    screen._console = Console(file=shown, width=width, force_terminal=True, color_system=None)
    figures = [123, 456, 789, 987, 654, 321, 135, 246]
    screen.summary(COLUMNS, {"harbour": figures})
    assert [word for word in shown.getvalue().split() if word.isdigit()] == list(map(str, figures))
