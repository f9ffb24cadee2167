"""A dead letter's headers: put on, read, and taken off again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import letter
from consumer.letter import Place
from consumer.wire.codec import Reason, Unreadable

if TYPE_CHECKING:
    from consumer.kafka.inbox import Message

NOW = 1_790_000_000_000
DAY = 24 * 60 * 60 * 1000
DEAD = "sms.inbound.dead-letter"

names = st.sampled_from([*letter.CONNECT_HEADERS, "trace", "", "optout.other"]) | st.text(max_size=5)
headers = st.lists(st.tuples(names, st.none() | st.binary(max_size=5)), max_size=6)


class Record:
    """What the client hands out, as far as a letter asks for it."""

    def __init__(
        self, headers: letter.Headers, timestamp: int = NOW, topic: str = "sms.inbound", offset: int = 9
    ) -> None:
        self._headers, self._timestamp, self._place = headers, timestamp, Place(topic, 3, offset)

    def __getattr__(self, name: str) -> Any:
        said = {**self._place._asdict(), "key": b"k", "value": b"v", "timestamp": (1, self._timestamp)}
        return lambda: {**said, "headers": self._headers or None}[name]


def record(headers: letter.Headers, timestamp: int = NOW, **fields: Any) -> Message:
    return cast("Message", Record(headers, timestamp, **fields))


def sealed(message: Message, now: int = NOW) -> letter.DeadLetter:
    return letter.seal(message, DEAD, "not-avro", Unreadable(Reason.NOT_AVRO), now)


def as_message(outgoing: letter.DeadLetter, offset: int = 1) -> Message:
    return record(list(outgoing.headers), outgoing.timestamp, topic=DEAD, offset=offset)


@given(headers)
def test_the_record_s_own_headers_come_back(theirs: letter.Headers) -> None:
    """What a record carried is what its letter and its replay carry, in order, however often it goes round."""
    once = sealed(record(theirs))
    assert letter.opened(list(once.headers))[0] == theirs
    back = letter.replayed(as_message(once))
    assert back[:-2] == theirs
    again = sealed(record(back))
    assert letter.opened(list(again.headers))[0] == theirs
    assert len(again.headers) == len(once.headers) + 1
    assert letter.replayed(as_message(again))[:-2] == theirs


def test_a_letter_says_where_it_came_from_and_which_one_it_was() -> None:
    """A letter is read as it was written; one that came back names the letter whose place it takes."""
    once = sealed(record([("trace", b"1")], NOW - 5), NOW)
    read = letter.read(as_message(once))
    assert (read.place, read.source, read.reason) == (Place(DEAD, 3, 1), Place("sms.inbound", 3, 9), "not-avro")
    assert (read.recorded_at, read.first_kafka_timestamp, read.replay_of, read.size) == (NOW, NOW - 5, None, 2)
    again = letter.read(as_message(sealed(record(letter.replayed(as_message(once))), NOW + 7), offset=2))
    assert (again.replay_of, again.first_kafka_timestamp, again.recorded_at) == (read.place, NOW - 5, NOW + 7)


@pytest.mark.parametrize(
    ("timestamp", "dated", "first"),
    [
        (NOW - 1, NOW - 1, NOW - 1),
        (NOW + 1000, NOW + 1000, NOW),  # it came in at the latest when it was put aside
        (NOW + DAY, 0, NOW),
        (NOW - 2 * DAY, 0, NOW - 2 * DAY),
        (0, 0, 0),
        (-1, 0, NOW),
    ],
)
def test_dates(timestamp: int, dated: int, first: int) -> None:
    """A letter has its record's date unless brokers would delete or refuse it; a replay counts from the first time."""
    once = sealed(record([], timestamp))
    assert once.timestamp == dated
    assert letter.read(as_message(once)).first_kafka_timestamp == timestamp
    assert letter.replayed(as_message(once))[0] == (letter.FIRST_TIME_HEADER, str(first).encode())


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (str(NOW - 5).encode(), NOW - 5),
        (str(NOW + 5).encode(), NOW),
        (b"-1", NOW),
        (b"", NOW),
        (b"x", NOW),
        (None, NOW),
    ],
)
def test_a_first_time_counts_only_if_it_was_earlier(header: bytes | None, expected: int) -> None:
    """The first time of a replayed record holds; what is no time, or lies after the record's own, does not."""
    assert letter.kafka_time(record([(letter.FIRST_TIME_HEADER, header)])) == expected


@pytest.mark.parametrize(
    "foreign",
    [
        [],
        [("optout.reason", None)],
        [("optout.first-kafka-timestamp", b"\xff"), ("__connect.errors.partition", b"-1")],
        [
            ("optout.first-kafka-timestamp", b"1"),
            ("__connect.errors.topic", b"t"),
            ("__connect.errors.offset", b"\xb2"),
        ],
        [("optout.first-kafka-timestamp", b"1"), ("optout.replay-of", b"a:b:c:d")],
    ],
)
def test_what_somebody_else_wrote(foreign: letter.Headers) -> None:
    """A record that is no letter of ours reads as one without a source, whatever it says."""
    read = letter.read(record(foreign, topic=DEAD))
    assert (read.source, read.replay_of, read.recorded_at) == (None, None, NOW)
