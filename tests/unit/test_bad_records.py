"""When too much cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.domain.bad_records import WINDOW, BadRecords

if TYPE_CHECKING:
    from collections.abc import Iterable


def stops_at(limits: BadRecords, bad: str) -> int | None:
    """Return at which record the limits stop: one for each character, `x` for a bad one."""
    for number, kind in enumerate(bad, 1):
        limits.read += 1
        if kind == "x" and limits.add("not-avro"):
            return number
    return None


@pytest.mark.parametrize(
    ("records", "stop"),
    [
        ("xx.xx.xx", None),
        ("xxx", 3),
        ("xx.xxxx", 6),
        (".", None),
        ("", None),
    ],
)
def test_a_run(records: str, stop: int | None) -> None:
    """So many bad records in a row are too many, and one that can be read ends the run."""
    assert stops_at(BadRecords(in_a_row=3), records) == stop


@pytest.mark.parametrize(
    ("records", "stop"),
    [
        ("x........." * 101, 1001),  # a tenth is bad: too much, as soon as a thousand were read
        ("x" * 50 + "." * 5000, None),
        (("." * 19 + "x") * 1000, None),  # exactly the share
        (("." * 19 + "x") * 500 + "x", 10001),
        ("x" * 99 + "." * 900 + "x", 1000),
        ("x" * 49 + "." * 950 + "x", None),
        ("." * 5000 + "x" * 51, 5051),
    ],
)
def test_a_share(records: str, stop: int | None) -> None:
    """More than the share of the last thousand records is too much, once there were a thousand."""
    assert stops_at(BadRecords(), records) == stop


def stops_under(limits: BadRecords, ids: Iterable[int | None]) -> int | None:
    """Return at which record the limits stop: one for each schema id that nobody knows, None for a good one."""
    for number, schema_id in enumerate(ids, 1):
        limits.read += 1
        if schema_id is not None and limits.add("unknown-schema", schema_id):
            return number
    return None


@pytest.mark.parametrize(
    ("ids", "stop"),
    [
        (range(10_000), None),
        ([number % 25 for number in range(10_000)], None),  # each comes 40 times in a thousand
        ([7] * 1000, 100),  # a sender that was deployed against another registry
        ([7, 8] * 1000, 199),
        ([None if number % 10 else 7 for number in range(3000)], 1001),  # one sender of ten
        ([7 if number % 30 == 0 else number for number in range(10_000)], None),
    ],
)
def test_unknown_ids_are_counted_each_by_itself(ids: Iterable[int | None], stop: int | None) -> None:
    """Ids out of the air stop nobody, however many; one id under which too much comes does, as ever."""
    assert stops_under(BadRecords(), ids) == stop


def test_unknown_ids_are_seen() -> None:
    """It is known how many of the last records came under ids that nobody knows, and nothing of older ones is kept."""
    limits = BadRecords()
    assert stops_under(limits, range(5000)) is None
    assert limits.unknown == WINDOW
    assert len(limits._run) + len(limits._recent) < 3 * WINDOW
    assert stops_under(limits, [*[None] * 950, 1]) is None
    assert limits.unknown == 50
    limits.read += 1
    limits.add("not-avro")
    assert limits.unknown == 49


def test_unknown_ids_end_no_run_of_others() -> None:
    """Who mixes ids out of the air with bytes of another kind is stopped by these."""
    limits = BadRecords(in_a_row=3)
    for number, reason in enumerate(("not-avro", "unknown-schema", "not-framed", "unknown-schema"), 1):
        limits.read = number
        assert limits.add(reason, number if reason == "unknown-schema" else None) is None
    limits.read = 5
    assert str(limits.add("not-avro")).startswith("3 records in a row cannot be read (not-avro 2, not-framed 1), as ")


def test_no_limits() -> None:
    """Without limits nothing is too much."""
    assert stops_at(BadRecords(None, None), "x" * 5000) is None


def test_it_says_what_and_which_setting() -> None:
    """What is too much is said by reason, with the setting that says so."""
    limits = BadRecords(in_a_row=2)
    limits.read = 1
    assert limits.add("not-avro") is None
    limits.read = 2
    assert limits.add("no-value") == (
        "2 records in a row cannot be read (not-avro 1, no-value 1), as OPTOUT_DEAD_LETTERS_IN_A_ROW says"
    )
    limits = BadRecords(None, share=0.001)
    for read in (998, 999, 1000):
        limits.read = read
        said = limits.add("not-framed")
    assert said == "3 of the last 1000 records cannot be read (not-framed 3), above OPTOUT_DEAD_LETTERS_SHARE"
    limits = BadRecords(in_a_row=1)
    limits.read = 1
    assert limits.add("unknown-schema", 4711) == (
        "1 records in a row came under the schema id 4711, which is not known, as OPTOUT_DEAD_LETTERS_IN_A_ROW says"
    )
