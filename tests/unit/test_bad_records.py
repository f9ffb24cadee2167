"""When too much cannot be read."""

from __future__ import annotations

import pytest

from consumer.domain.bad_records import BadRecords


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
