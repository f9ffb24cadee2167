"""Spans of time as people write them: 90s, 45m, 1h30m, 2d."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import click

_WRITTEN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


class Duration(click.ParamType[int]):
    """An option that takes a span of time and gives whole seconds: one at least, `at_most` so many."""

    name = "duration"

    def __init__(self, *, at_most: int | None = None) -> None:
        self._at_most = at_most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seconds."""
        if isinstance(value, int):
            return value
        found = _WRITTEN.fullmatch(str(value).strip().lower())
        try:
            days, hours, minutes, rest = (int(part or 0) for part in found.groups()) if found else (0, 0, 0, 0)
            span = timedelta(days=days, hours=hours, minutes=minutes, seconds=rest)
        except (OverflowError, ValueError):
            span = timedelta()
        if span <= timedelta():
            self.fail(f"{str(value)[:20]!a} is no span of time: write it as in 90s, 45m, 1h30m or 2d", param, ctx)
        seconds = int(span.total_seconds())
        if self._at_most is not None and seconds > self._at_most:
            self.fail(f"{in_short(seconds)} are too long: {in_short(self._at_most)} are the most", param, ctx)
        return seconds


def in_short(seconds: float) -> str:
    """Return a span as a person would write it, to the second."""
    left = round(seconds)
    parts = []
    for name, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if count := left // size:
            parts.append(f"{count}{name}")
        left %= size
    return "".join(parts) or "0s"
