"""When a text counts as sent: a wrong date may only ever suppress more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.bucket import Entry, fold
from consumer.domain.event_time import (
    CLOCK_SKEW_MS,
    IMPLAUSIBLE_AGE_MS,
    EventTime,
    event_time,
    requested_time,
)
from consumer.domain.events import Action

NOW = 1_790_000_000_000
WEEK = IMPLAUSIBLE_AGE_MS
YEAR = 365 * 24 * 60 * 60 * 1000
FOREVER = 2**63 - 1

OUT, IN = Action.OPT_OUT, Action.OPT_IN

any_time = (
    st.integers(-(2**63), 2**63 - 1)
    | st.integers(NOW - 2 * YEAR, NOW + 2 * YEAR)
    | st.builds(int.__add__, st.sampled_from([NOW, NOW - WEEK, NOW + CLOCK_SKEW_MS]), st.integers(-2, 2))
)
past = st.integers(0, 2 * YEAR).map(lambda age: NOW - age)


def test_the_earlier_clock_holds() -> None:
    """Where both clocks are plausible the earlier one holds, for either keyword, and nothing is corrected."""
    for action in Action:
        assert event_time(action, NOW - 60_000, NOW - 50_000, NOW) == EventTime(NOW - 60_000)
        assert event_time(action, NOW - 50_000, NOW - 60_000, NOW) == EventTime(NOW - 60_000)
        assert event_time(action, NOW - 50_000, NOW - 50_000, NOW) == EventTime(NOW - 50_000)
        assert event_time(action, NOW, NOW, NOW) == EventTime(NOW)


@pytest.mark.parametrize("received_at", [0, -1, -FOREVER, NOW - 10 * YEAR, NOW - WEEK - 1], ids=str)
def test_a_date_far_back_is_not_believed(received_at: int) -> None:
    """A provider's date more than a week before Kafka's moves an opt-out to Kafka's, and an opt-in to review."""
    assert event_time(OUT, received_at, NOW, NOW) == EventTime(NOW, corrected=True)
    assert event_time(IN, received_at, NOW, NOW) is None


def test_a_late_delivery_is_believed() -> None:
    """A provider's date up to a week before Kafka's is a late delivery, to the millisecond."""
    for action in Action:
        assert event_time(action, NOW - WEEK, NOW, NOW) == EventTime(NOW - WEEK)


@pytest.mark.parametrize("received_at", [NOW + 1, NOW + 10 * YEAR, FOREVER], ids=str)
def test_a_date_ahead_gives_way_to_kafkas(received_at: int) -> None:
    """A provider's date ahead of Kafka's never counts, so a START dated ahead cannot outrank the STOP after it."""
    for action in Action:
        assert event_time(action, received_at, NOW, NOW) == EventTime(NOW)


def test_a_start_ahead_of_the_reader() -> None:
    """An opt-in whose Kafka date lies ahead counts as sent when read within the skew, and goes to review beyond it."""
    for ahead in (1, CLOCK_SKEW_MS):
        assert event_time(IN, NOW + ahead, NOW + ahead, NOW) == EventTime(NOW)
    assert event_time(IN, NOW + CLOCK_SKEW_MS + 1, NOW + CLOCK_SKEW_MS + 1, NOW) is None
    assert event_time(IN, NOW, NOW + CLOCK_SKEW_MS + 1, NOW) is None


def test_a_stop_ahead_of_the_reader() -> None:
    """An opt-out whose both dates lie ahead keeps them: it may hold longer than it should, never shorter."""
    assert event_time(OUT, NOW + YEAR, NOW + YEAR, NOW) == EventTime(NOW + YEAR)
    assert event_time(OUT, NOW, NOW + CLOCK_SKEW_MS + 1, NOW) == EventTime(NOW)


@pytest.mark.parametrize("missing", [-1, -1000])
def test_without_a_kafka_date_the_reader_stands_in(missing: int) -> None:
    """A record without a Kafka timestamp is judged by the classifier's clock."""
    for action in Action:
        assert event_time(action, NOW - 1000, missing, NOW) == EventTime(NOW - 1000)
        assert event_time(action, NOW + 1, missing, NOW) == EventTime(NOW)
    assert event_time(OUT, NOW + YEAR, missing, NOW) == EventTime(NOW)
    assert event_time(IN, NOW + YEAR, missing, NOW) is None
    assert event_time(OUT, 0, missing, NOW) == EventTime(NOW, corrected=True)
    assert event_time(IN, 0, missing, NOW) is None


@given(any_time, past)
def test_a_stop_is_at_most_a_week_older_than_kafka_says(received_at: int, kafka_timestamp: int) -> None:
    """Whatever the provider's date, an opt-out counts as sent at most a week before Kafka had it."""
    when = event_time(OUT, received_at, kafka_timestamp, NOW)
    assert when is not None
    assert kafka_timestamp - WEEK <= when.at
    assert when.at <= kafka_timestamp or received_at - kafka_timestamp > WEEK


@given(any_time, any_time)
def test_a_start_is_never_newer_than_any_clock(received_at: int, kafka_timestamp: int) -> None:
    """Whatever the dates, an opt-in that counts at all counts as sent at none of the clocks' future."""
    when = event_time(IN, received_at, kafka_timestamp, NOW)
    if when is not None:
        assert when.at <= min(received_at, NOW)
        assert kafka_timestamp < 0 or when.at <= kafka_timestamp
        assert not when.corrected


@given(any_time, any_time)
def test_a_stop_outlives_a_broken_kafka_date(received_at: int, kafka_timestamp: int) -> None:
    """Whatever Kafka's date, an opt-out counts as sent at most a week before the provider had it, or it was read."""
    when = event_time(OUT, received_at, kafka_timestamp, NOW)
    assert when is not None
    assert when.at >= min(received_at, NOW) - WEEK


@given(any_time, any_time, past)
def test_a_stop_is_never_turned_away(received_at: int, kafka_timestamp: int, now: int) -> None:
    """Whatever its dates, an opt-out is written down: only an opt-in can go to review."""
    assert event_time(OUT, received_at, kafka_timestamp, now) is not None


@given(any_time, past)
def test_a_wrong_date_ends_suppressed(received_at: int, kafka_timestamp: int) -> None:
    """Of a START with any date and the STOP that Kafka has after it, the STOP holds."""
    start = event_time(IN, received_at, kafka_timestamp, NOW)
    stop = event_time(OUT, kafka_timestamp, kafka_timestamp, NOW)
    texts = [(action, when.at) for action, when in ((IN, start), (OUT, stop)) if when is not None]
    for order in (texts, texts[::-1]):
        ledger = [Entry(offset, "loc", "12025550143", action, at, action) for offset, (action, at) in enumerate(order)]
        assert fold(ledger).members() == {("loc", "12025550143")}


@given(any_time, any_time)
def test_a_request_counts_from_the_earlier_date(occurred_at: int, kafka_timestamp: int) -> None:
    """An imported opt-out or a block counts from the earlier of its two dates; none is too old, past ones are old."""
    expected = min(occurred_at, kafka_timestamp if kafka_timestamp >= 0 else NOW)
    assert requested_time(occurred_at, kafka_timestamp, NOW) == EventTime(expected)


def test_a_past_opt_out_is_imported_with_its_own_date() -> None:
    """An opt-out made years ago stays of its date, so that a START which the patient sent since still holds."""
    assert requested_time(NOW - 3 * YEAR, NOW, NOW) == EventTime(NOW - 3 * YEAR)


@given(any_time, st.integers(-(2**63), -1))
def test_a_start_that_nothing_dates_is_reviewed(received_at: int, missing: int) -> None:
    """An opt-in without a Kafka date whose provider dates it ahead counts as nothing: only its reading is known."""
    when = event_time(IN, received_at, missing, NOW)
    assert when is None or received_at <= NOW + CLOCK_SKEW_MS
