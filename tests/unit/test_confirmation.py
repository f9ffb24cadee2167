"""The one text that tells a patient of a change: how it is now, the way back, and nothing retired."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from consumer.domain.confirmation import CANCEL_TEXT, OPTED_IN_TEXT, OPTED_OUT_TEXT, confirmation_of
from consumer.domain.events import (
    CONFIRMATION_WINDOW_MS,
    Action,
    KeywordRecord,
    LedgerPosition,
    Origin,
    PatientKeyword,
    RequestedOptOut,
    Source,
    Status,
    SubscriptionChanged,
)
from consumer.domain.keywords import RETIRED, STANDARD, Keywords

SENT, READ = 1_790_000_000_000, 1_790_000_002_000
LEDGER = LedgerPosition(topic="sms.keyword-ledger", topic_id="MkTRi2e8RvyS", partition=17, offset=4711)
ORIGIN = Origin(
    topic="sms.inbound", partition=3, offset=99, message_id="m-1", received_at=SENT, kafka_timestamp=SENT + 5
)
OPT_OUTS = sorted(word for word, action in STANDARD.words.items() if action is Action.OPT_OUT)
OPT_INS = sorted(word for word, action in STANDARD.words.items() if action is Action.OPT_IN)
OTHER = {Status.OPTED_OUT: Status.OPTED_IN, Status.OPTED_IN: Status.OPTED_OUT}


def record(keyword: str) -> KeywordRecord:
    action = STANDARD.words[keyword]
    cause = PatientKeyword(
        action=action, keyword=keyword, raw_body=keyword, rule="whole-body", pack="standard", pack_version=1
    )
    return KeywordRecord(
        location_id="loc-1",
        patient_number="+12025550143",
        location_number="+12025550100",
        cause=cause,
        event_time=SENT,
        recorded_at=READ,
        origin=ORIGIN,
    )


def change(keyword: str, source: Source = Source.PATIENT_KEYWORD) -> SubscriptionChanged:
    status = Status.OPTED_OUT if STANDARD.words[keyword] is Action.OPT_OUT else Status.OPTED_IN
    return SubscriptionChanged(
        event_id=LEDGER.event_id("SubscriptionChanged"),
        location_id="loc-1",
        patient_number="+12025550143",
        status=status,
        previous_status=OTHER[status],
        version=1,
        keyword=keyword,
        source=source,
        occurred_at=SENT,
        recorded_at=READ,
        ledger=LEDGER,
        origin=ORIGIN,
    )


@pytest.mark.parametrize("keyword", OPT_OUTS)
def test_an_opt_out_is_confirmed_with_the_way_back(keyword: str) -> None:
    """Each opt-out word brings a confirmation that says so and names START."""
    confirmation = confirmation_of(change(keyword), record(keyword))
    assert confirmation is not None
    assert confirmation.status is Status.OPTED_OUT
    assert confirmation.text.startswith(OPTED_OUT_TEXT)
    assert re.search(r"\bopted out\b.*\bSTART\b", confirmation.text)


@pytest.mark.parametrize("keyword", OPT_INS)
def test_an_opt_in_is_confirmed_with_the_way_out(keyword: str) -> None:
    """Each opt-in word brings a confirmation that says so and names STOP."""
    confirmation = confirmation_of(change(keyword), record(keyword))
    assert confirmation is not None
    assert confirmation.status is Status.OPTED_IN
    assert confirmation.text == OPTED_IN_TEXT
    assert re.search(r"\bSTOP\b", confirmation.text)


def test_cancel_says_that_the_appointment_stands() -> None:
    """Only CANCEL, with which patients answer reminders, is told that no appointment was cancelled."""
    told = {
        keyword
        for keyword in STANDARD.words
        if (confirmation := confirmation_of(change(keyword), record(keyword))) and CANCEL_TEXT in confirmation.text
    }
    assert told == {"CANCEL"}


@pytest.mark.parametrize("source", [Source.IMPORT, Source.PROVIDER_BLOCK])
@pytest.mark.parametrize("keyword", ["STOP", "CANCEL"])
def test_what_was_no_text_is_not_answered(source: Source, keyword: str) -> None:
    """An imported opt-out or a provider's block brings no confirmation, whatever word stands beside it."""
    requested = replace(record(keyword), cause=RequestedOptOut(source=source, keyword=keyword))  # type: ignore[arg-type]
    assert confirmation_of(change(keyword, source), requested) is None


def test_it_goes_out_within_five_minutes_of_the_text() -> None:
    """A confirmation expires five minutes after the patient's text, however late it was read."""
    confirmation = confirmation_of(change("STOP"), record("STOP"))
    assert confirmation is not None
    assert CONFIRMATION_WINDOW_MS == 300_000
    assert confirmation.expires_at == SENT + 300_000
    assert confirmation.requested_at == READ


def test_it_is_addressed_and_numbered() -> None:
    """A confirmation goes from the location's number to the patient, under ids that are the same in every replay."""
    confirmation = confirmation_of(change("STOP"), record("STOP"))
    assert confirmation is not None
    assert (confirmation.location_id, confirmation.location_number) == ("loc-1", "+12025550100")
    assert (confirmation.patient_number, confirmation.ledger) == ("+12025550143", LEDGER)
    assert confirmation.event_id == LEDGER.event_id("ConfirmationRequested")
    assert confirmation.change_event_id == change("STOP").event_id
    assert confirmation.event_id != confirmation.change_event_id
    assert confirmation == confirmation_of(change("STOP"), record("STOP"))


@pytest.mark.parametrize("text", [OPTED_OUT_TEXT, OPTED_IN_TEXT, CANCEL_TEXT])
def test_no_text_names_a_retired_word(text: str) -> None:
    """No confirmation names a retired word, and none is itself a keyword that would answer itself."""
    assert not set(re.findall(r"\w+", text.upper())) & set(RETIRED)
    assert Keywords().recognise(text) is None
    assert text.isascii()  # one character outside GSM-7 would more than halve what fits into a text
