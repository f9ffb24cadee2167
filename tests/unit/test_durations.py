"""Spans of time as people write them."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.durations import Duration, in_short


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90), ("45m", 2700), ("1h30m", 5400), (" 2D ", 172_800), ("1d1h1m1s", 90_061)],
)
def test_spans_are_read(written: str, seconds: int) -> None:
    """Days, hours, minutes and seconds are read in that order."""
    assert Duration().convert(written, None, None) == seconds


@pytest.mark.parametrize(
    "written", ["", "0", "45", "0m", "soon", "-5m", "5m1h", "1.5h", "m", "9" * 400, "9" * 20 + "d"]
)
def test_what_is_no_span_is_refused(written: str) -> None:
    """What is no span of time, or none at all, is refused in a sentence."""
    with pytest.raises(click.BadParameter, match="is no span of time"):
        Duration().convert(written, None, None)


def test_the_most_is_the_most() -> None:
    """A span above the most is refused, with what is the most."""
    assert Duration(at_most=3600).convert("1h", None, None) == 3600
    with pytest.raises(click.BadParameter, match="1h1s are too long: 1h are the most"):
        Duration(at_most=3600).convert("3601s", None, None)


@given(st.integers(1, 10**8))
def test_what_is_shown_can_be_written(seconds: int) -> None:
    """A span is shown as it can be given."""
    assert Duration().convert(in_short(seconds), None, None) == seconds
