"""Any record survives the way over the wire, and no bytes do anything but be read or be unreadable."""

from __future__ import annotations

import traceback
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.events import (
    InboundMessage,
    KeywordRecord,
    PatientKeyword,
    RequestedOptOut,
    ReviewRequested,
)
from consumer.wire.codec import Codec, Unreadable
from consumer.wire.framing import header
from consumer.wire.records import KINDS
from consumer.wire.schemas import Schemas

CODEC = Codec(Schemas())
SECRET_BODY = "Zebra! stop that at once"
SECRET_NUMBER = "+12025550143"

longs = st.integers(-(2**63), 2**63 - 1)
ints = st.integers(-(2**31), 2**31 - 1)
texts = st.text(max_size=40)
# What a field's type does not say. Every other `int` of the events is a long on the wire.
by_name: dict[str, st.SearchStrategy[Any]] = {
    "partition": ints,
    "pack_version": ints,
    "buckets": st.lists(ints, max_size=3).map(tuple),
    "places": st.lists(texts, max_size=3).map(tuple),
    "shared_with": st.lists(texts, max_size=3).map(tuple),
    "cause": st.deferred(lambda: built(PatientKeyword) | built(RequestedOptOut)),
}
by_type: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    int: longs,
    str | None: st.none() | texts,
    bool: st.booleans(),
}


def built(kind: type[Any], **given_fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for a record: its fields as given, or by their names, or by their types."""
    known = by_name | given_fields
    return st.builds(
        kind, **{name: known[name] if name in known else of_type(hint) for name, hint in get_type_hints(kind).items()}
    )


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    if hint in by_type:
        return by_type[hint]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    # Nothing is left to what Hypothesis makes of a type: it draws numbers that no schema can hold.
    assert is_dataclass(hint), f"say here what can be in a field of type {hint}"
    return built(cast("type[Any]", hint))


ledger_records = built(KeywordRecord)
records = st.one_of([built(kind) for kind in KINDS])
secrets = st.one_of(
    [
        built(InboundMessage, body=st.just(SECRET_BODY), patient_number=st.just(SECRET_NUMBER)),
        built(ReviewRequested, body=st.just(SECRET_BODY), patient_number=st.just(SECRET_NUMBER)),
        built(
            KeywordRecord,
            cause=built(PatientKeyword, raw_body=st.just(SECRET_BODY)),
            patient_number=st.just(SECRET_NUMBER),
        ),
    ]
)


@given(records)
def test_any_record_survives(record: Any) -> None:
    """What was encoded is decoded: the same record, of the same kind."""
    assert CODEC.decode(type(record), CODEC.encode(record)) == record


def read_or_unreadable(kind: type[Any], value: bytes) -> Any:
    """Decode; return the record, or None for one that is unreadable. Anything else that is raised fails the test."""
    try:
        return CODEC.decode(kind, value)
    except Unreadable as problem:
        error = problem
    told = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    assert "Zebra" not in told
    assert SECRET_NUMBER not in told
    # The library's own error may hold the bytes.
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    return None


@given(st.sampled_from(KINDS), st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_are_unreadable_at_worst(kind: type[Any], value: bytes, framed: bool) -> None:  # noqa: FBT001
    """No bytes make decoding raise anything but Unreadable, with or without a sound header before them."""
    read_or_unreadable(kind, header(Schemas().writer(kind.__name__).id) + value if framed else value)


@given(secrets, st.data())
def test_damaged_bytes_are_unreadable_at_worst(record: Any, data: st.DataObject) -> None:
    """Flipped bits make a record unreadable or another record, never another error, and no error quotes the patient."""
    value = bytearray(CODEC.encode(record))
    for position in data.draw(st.lists(st.integers(0, len(value) * 8 - 1), min_size=1, max_size=4)):
        value[position // 8] ^= 1 << position % 8
    read_or_unreadable(type(record), bytes(value))


@given(secrets, st.data())
def test_truncated_bytes_are_unreadable(record: Any, data: st.DataObject) -> None:
    """No beginning of a record is a record, and no error quotes the patient."""
    value = CODEC.encode(record)
    assert read_or_unreadable(type(record), value[: data.draw(st.integers(0, len(value) - 1))]) is None


@given(ledger_records, st.data())
def test_a_ledger_record_has_one_form(record: KeywordRecord, data: st.DataObject) -> None:
    """What is read from damaged bytes of the ledger is what they say: encoded again it gives the same bytes."""
    value = bytearray(CODEC.encode(record))
    position = data.draw(st.integers(0, len(value) * 8 - 1))
    value[position // 8] ^= 1 << position % 8
    read = read_or_unreadable(KeywordRecord, bytes(value))
    if read is not None and isinstance(read.cause, PatientKeyword):  # a request drops what only a keyword has
        assert CODEC.encode(read) == bytes(value)
