"""A dead letter: an inbound record as it came, and in headers of ours why it was put aside.

Our headers stand behind the record's own and begin with the first timestamp, so that they can be taken off again.
Those of `__connect.errors.` are what Kafka Connect writes and what tools for dead letters read. None holds an error's
text: it could quote a patient.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from operator import methodcaller
from typing import TYPE_CHECKING, NamedTuple, cast

from consumer.kafka.producers import Outgoing
from consumer.wire.errors import Reason, Unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumer.kafka.inbox import Message

Headers = list[tuple[str, str | bytes | None]]

UNATTRIBUTABLE = "unattributable-opt-out"
"""The reason of a dead letter that somebody must look at now: a patient said STOP and nobody knows who, or to whom."""
UNATTRIBUTABLE_OPT_IN = "unattributable-opt-in"
OUT_OF_RANGE = "out-of-range"
UNSENDABLE = "unsendable-change"
"""The reason of a letter that stands for a change which the topic of changes does not take. The change is in force."""
UNSENDABLE_CONFIRMATION = "unsendable-confirmation"
"""That of one which stands for a confirmation alone: the change was told."""
OF_CHANGES = frozenset({UNSENDABLE, UNSENDABLE_CONFIRMATION})
"""The reasons of letters that stand for what was to be told, and for no record of inbound."""
REASONS = (
    UNATTRIBUTABLE,
    UNATTRIBUTABLE_OPT_IN,
    OUT_OF_RANGE,
    UNSENDABLE,
    UNSENDABLE_CONFIRMATION,
    *(str(reason) for reason in Reason),
)
"""Every reason there is."""

FIRST_TIME_HEADER = "optout.first-kafka-timestamp"
"""The Kafka timestamp, in ms, that the record had when it first came in; -1 where it had none."""
REASON_HEADER = "optout.reason"
RECORDED_HEADER = "optout.recorded-at"
"""When the letter was written, in ms, by the classifier's clock."""
REPLAY_OF_HEADER = "optout.replay-of"
"""On a replayed record: the letter that it was. One that becomes a letter again takes the place of that one."""
CONNECT_HEADERS = tuple(
    f"__connect.errors.{name}" for name in ("topic", "partition", "offset", "stage", "exception.class.name")
)
WHOLE_HEADERS = tuple(f"optout.whole-{name}" for name in ("value-bytes", "value-sha256", "key-bytes", "header-bytes"))
"""On a letter that holds only the beginning of its record: what the whole one was."""
OURS = frozenset(
    {FIRST_TIME_HEADER, REASON_HEADER, RECORDED_HEADER, REPLAY_OF_HEADER, *CONNECT_HEADERS, *WHOLE_HEADERS}
)

FIRST_BYTES = 4096
"""Bytes of a value that a letter keeps where its topic does not take all of it."""
LONGEST_KEY = 1024
"""Bytes of a key that it keeps then."""

LOST_HEADERS = ("optout.headers-lost", b"a name among them is not UTF-8")
"""Stands for all headers of a record that the client cannot give."""

_headers = methodcaller("headers")
"""Where it is called often, the interpreter takes a method's result without looking whether it raised. This looks."""

LONGEST_PLACE = 300
"""Characters of a place as a header names it: a topic's name has 249 at most."""
OLDEST_MS = 24 * 60 * 60 * 1000
"""How far behind now the timestamp of a letter may lie. The broker deletes by it: an older one could go at once."""
NEWEST_MS = 5 * 60 * 1000
"""How far ahead of now. Brokers refuse a record that is dated an hour ahead."""


class Place(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic} [{self.partition}] {self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter(Outgoing):
    """A record on its way to the dead letters: why, and whether all of it."""

    reason: str
    source: Place
    whole: bool = True

    def reduced(self) -> DeadLetter | None:
        """Return the letter with the beginning of its record, its size and its digest; see Outgoing."""
        if not self.whole:
            return None
        theirs, ours = opened(list(self.headers))
        value, key = self.value or b"", self.key or b""
        sizes = (len(value), hashlib.sha256(value).hexdigest(), len(key), _size(theirs))
        return replace(
            self,
            value=None if self.value is None else value[:FIRST_BYTES],
            key=None if self.key is None else key[:LONGEST_KEY],
            headers=[*ours, *((name, str(said).encode()) for name, said in zip(WHOLE_HEADERS, sizes, strict=True))],
            whole=False,
        )


class Whole(NamedTuple):
    """What a record was of which a letter holds only the beginning: sizes in bytes, and the value's digest."""

    value: int
    sha256: str
    key: int
    headers: int

    def __str__(self) -> str:
        return f"value {self.value}, key {self.key}, headers {self.headers} bytes; SHA-256 of the value {self.sha256}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What the headers of a dead letter say of it. Times are in ms since the epoch.

    What somebody else wrote into the topic has reason "" and no source. `size` is that of key and value, in bytes;
    `replay_of` the letter whose replay became this one; `whole` what the record was where the letter holds only its
    beginning.
    """

    place: Place
    timestamp: int
    size: int
    reason: str
    source: Place | None
    stage: str
    exception: str
    recorded_at: int
    first_kafka_timestamp: int
    replay_of: Place | None
    whole: Whole | None


def seal(message: Message, topic: str, reason: str, problem: Exception, now: int) -> DeadLetter:
    """Return the letter: the record as it came, with the reason in the headers that existing tools read.

    Its timestamp is the record's own, unless that is missing, far ahead, or so old that the broker would soon delete
    the letter: then it is now's, and the header alone keeps the record's.
    """
    headers, added = opened(headers_of(message))
    source = place_of(message)
    stage = "VALUE_CONVERTER" if isinstance(problem, Unreadable) else "TRANSFORMATION"
    timestamp = int(message.timestamp()[1])
    replay_of = _replay_of(dict(added))
    block: Headers = [
        (FIRST_TIME_HEADER, str(kafka_time(message)).encode()),
        *_why(reason, source, stage, type(problem).__name__, now),
        *([(REPLAY_OF_HEADER, _as_header(replay_of))] if replay_of else []),
    ]
    return DeadLetter(
        topic,
        as_bytes(message.key()),
        as_bytes(message.value()),
        timestamp=timestamp if now - OLDEST_MS <= timestamp <= now + NEWEST_MS else 0,
        headers=[*headers, *block],
        reason=reason,
        source=source,
    )


def unsendable(topic: str, reason: str, refused: Outgoing, problem: str, now: int) -> DeadLetter:
    """Return the letter that stands for what a topic did not take of a change: its beginning, and where the line is."""
    source = refused.source
    assert isinstance(source, Place)  # see Changes
    headers: Headers = [(FIRST_TIME_HEADER, b"-1"), *_why(reason, source, "KAFKA_PRODUCE", problem, now)]
    letter = DeadLetter(topic, None, refused.value or b"", headers=headers, reason=reason, source=source).reduced()
    assert letter is not None  # it was whole
    return letter


def _why(reason: str, source: Place, stage: str, problem: str, now: int) -> Headers:
    connect = (*source, stage, problem)
    return [
        (REASON_HEADER, reason.encode()),
        (RECORDED_HEADER, str(now).encode()),
        *((name, str(value).encode()) for name, value in zip(CONNECT_HEADERS, connect, strict=True)),
    ]


def opened(headers: Headers) -> tuple[Headers, Headers]:
    """Return the record's own headers, as they were, and those that we added to it."""
    begins = [number for number, (name, _) in enumerate(headers) if name == FIRST_TIME_HEADER]
    if not begins or any(name not in OURS for name, _ in headers[begins[-1] :]):
        return headers, []
    return headers[: begins[-1]], headers[begins[-1] :]


def replayed(message: Message) -> Headers:
    """Return the headers with which a letter goes back to where it came from.

    It came in at the latest when it was put aside: what a broken clock dated ahead must not count as newer now.
    """
    headers, _ = opened(headers_of(message))
    letter = read(message)
    known = [at for at in (letter.first_kafka_timestamp, letter.recorded_at) if at >= 0]
    return [
        *headers,
        (FIRST_TIME_HEADER, str(min(known, default=-1)).encode()),
        (REPLAY_OF_HEADER, _as_header(letter.place)),
    ]


def read(message: Message) -> Letter:
    """Return what a record of the dead-letter topic says of itself."""
    said = dict(opened(headers_of(message))[1])
    topic, partition, offset, stage, exception = (_text(said.get(name)) for name in CONNECT_HEADERS)
    recorded_at = _number(said.get(RECORDED_HEADER))
    timestamp = int(message.timestamp()[1])
    return Letter(
        place=place_of(message),
        timestamp=timestamp,
        size=len(message.key() or b"") + len(message.value() or b""),
        reason=_text(said.get(REASON_HEADER)),
        source=_place(topic, partition, offset),
        stage=stage,
        exception=exception,
        recorded_at=timestamp if recorded_at is None else recorded_at,
        first_kafka_timestamp=_first(said.get(FIRST_TIME_HEADER)),
        replay_of=_replay_of(said),
        whole=_whole(*(_text(said.get(name)) for name in WHOLE_HEADERS)),
    )


def kafka_time(message: Message) -> int:
    """Return the record's Kafka timestamp in ms, or the first one of a replayed dead letter; -1 if it has none."""
    timestamp = int(message.timestamp()[1])
    first = _number(dict(headers_of(message)).get(FIRST_TIME_HEADER))
    return first if first is not None and first <= timestamp else timestamp  # it came in before it came again


def headers_of(message: Message) -> Headers:
    """Return the record's headers, as they came.

    The client cannot give headers with a name that is not UTF-8: it returns a list with a null pointer in it, and
    raises as well. One header that says so is put in their place: a STOP is not to be lost for a name.
    """
    try:
        headers = _headers(message)
    except SystemError:
        headers = [LOST_HEADERS]
        message.set_headers(headers)
    return list(cast("Sequence[tuple[str, str | bytes | None]]", headers or ()))


def place_of(message: Message) -> Place:
    """Return where a record stands."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None and partition is not None and offset is not None  # noqa: PT018 - an error has none
    return Place(topic, partition, offset)


def as_bytes(value: str | bytes | None) -> bytes | None:
    """Return a key or value as the client has it, as bytes."""
    return value.encode() if isinstance(value, str) else value


def _place(*parts: str) -> Place | None:
    if len(parts) != len(Place._fields):
        return None
    topic, partition, offset = parts[0], _number(parts[1]), _number(parts[2])
    return None if not topic or partition is None or offset is None else Place(topic, partition, offset)


def _replay_of(said: Mapping[str, str | bytes | None]) -> Place | None:
    """Return the letter that a header names, and None for anything else: somebody else may have written it."""
    named = _text(said.get(REPLAY_OF_HEADER))
    return _place(*named.rsplit(":", 2)) if len(named) <= LONGEST_PLACE else None


def _as_header(place: Place) -> bytes:
    return f"{place.topic}:{place.partition}:{place.offset}".encode()


def _whole(value: str, sha256: str, key: str, headers: str) -> Whole | None:
    sizes = [_number(size) for size in (value, key, headers)]
    if None in sizes or not sha256:
        return None
    return Whole(sizes[0] or 0, sha256, sizes[1] or 0, sizes[2] or 0)


def _size(headers: Headers) -> int:
    return sum(len(name.encode("utf-8", "surrogatepass")) + len(as_bytes(value) or b"") for name, value in headers)


def _text(value: str | bytes | None) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value or ""


def _number(value: str | bytes | None) -> int | None:
    """Return what is written in digits, and None for anything else: somebody else may have written it."""
    digits = _text(value)
    return int(digits[:20]) if digits.isascii() and digits.isdigit() else None


def _first(value: str | bytes | None) -> int:
    number = _number(value)
    return -1 if number is None else number
