"""The values that travel: what they can say at all, and the ids and keys that others depend on."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.events import (
    STATUS_OF,
    Action,
    KeywordRecord,
    LedgerPosition,
    OptOutRequested,
    PatientKeyword,
    RequestedOptOut,
    Source,
    Status,
    subscription_key,
)

POSITION = LedgerPosition(topic="sms.keyword-ledger", topic_id="MkTRi2e8RvyS", partition=17, offset=4711)

positions = st.builds(
    LedgerPosition,
    topic=st.just("sms.keyword-ledger"),
    topic_id=st.sampled_from(["MkTRi2e8RvyS", "MkTRi2e8RvyS:1", "q"]),
    partition=st.integers(0, 12),
    offset=st.integers(0, 112),
)
event_types = st.sampled_from(["SubscriptionChanged", "ConfirmationRequested"])


@pytest.mark.parametrize(
    ("event_type", "event_id"),
    [
        ("SubscriptionChanged", "e1b1d757ced245e651310b58e1bc616a"),
        ("ConfirmationRequested", "2249038547d798fc3b659bd6260a28e4"),
    ],
)
def test_event_ids_are_frozen(event_type: str, event_id: str) -> None:
    """A position has the event ids that it had in every version before: readers drop repeated events by them."""
    assert POSITION.event_id(event_type) == event_id


def test_an_event_id_does_not_depend_on_the_topics_name() -> None:
    """A ledger that is renamed, and keeps its topic id, says its changes again under the same ids."""
    assert replace(POSITION, topic="renamed").event_id("SubscriptionChanged") == POSITION.event_id(
        "SubscriptionChanged"
    )


@given(positions, event_types, positions, event_types)
def test_event_ids_tell_events_apart(
    one: LedgerPosition, one_type: str, other: LedgerPosition, other_type: str
) -> None:
    """Two events have one id exactly if they are of one type and one position of one topic."""
    assert (one.event_id(one_type) == other.event_id(other_type)) == ((one, one_type) == (other, other_type))


def test_only_the_patient_can_opt_in() -> None:
    """Of the causes that a ledger line can have, only the patient's own word can be made into an opt-in."""
    causes = get_args(get_type_hints(KeywordRecord)["cause"])
    assert set(causes) == {PatientKeyword, RequestedOptOut}
    assert "action" not in {field.name for field in fields(RequestedOptOut)}
    assert "action" not in {field.name for field in fields(OptOutRequested)}
    for source in (Source.IMPORT, Source.PROVIDER_BLOCK):
        requested = RequestedOptOut(source=source, keyword="START")
        assert requested.action is Action.OPT_OUT
        with pytest.raises((AttributeError, TypeError)):
            requested.action = Action.OPT_IN  # type: ignore[misc]
    with pytest.raises(TypeError):
        RequestedOptOut(source=Source.IMPORT, action=Action.OPT_IN)  # type: ignore[call-arg]


def test_a_patients_word_is_the_patients() -> None:
    """A keyword that came by text cannot be passed off as anybody else's."""
    keyword = PatientKeyword(
        action=Action.OPT_IN, keyword="START", raw_body="start", rule="whole-body", pack="standard", pack_version=1
    )
    assert keyword.source is Source.PATIENT_KEYWORD
    with pytest.raises(FrozenInstanceError):
        keyword.action = Action.OPT_OUT  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        keyword.source = Source.IMPORT  # type: ignore[misc]


def test_a_request_is_never_the_patients() -> None:
    """The type of a request knows no source but imports and blocks."""
    for kind in (OptOutRequested, RequestedOptOut):
        assert set(get_args(get_type_hints(kind)["source"])) == {Source.IMPORT, Source.PROVIDER_BLOCK}


def test_each_action_has_its_status() -> None:
    """Opting out leads to opted out, opting in to opted in, and there is no third."""
    assert STATUS_OF == {Action.OPT_OUT: Status.OPTED_OUT, Action.OPT_IN: Status.OPTED_IN}
    assert set(STATUS_OF) == set(Action)


def test_what_concerns_a_subscription_has_one_key() -> None:
    """The Kafka key is location and number, as topics.yaml promises."""
    assert subscription_key("loc-1", "+12025550143") == "loc-1:+12025550143"
