"""How places are written: `topic:partition:offset`, or `topic:partition:first-last`."""

from __future__ import annotations

import re
from dataclasses import dataclass

import click

from consumer.kafka.inbox import Partition

_WRITTEN = re.compile(r"([A-Za-z0-9._-]+):(\d{1,9}):(\d{1,18})(?:-(\d{1,18}))?")


@dataclass(frozen=True, slots=True)
class Places:
    """Some places of a partition, `last` included; None for all that cannot be read from `first` on as one piece."""

    partition: Partition
    first: int
    last: int | None

    def __str__(self) -> str:
        """Return them as they are written."""
        name = f"{self.partition.topic}:{self.partition.number}:{self.first}"
        return name if self.last in (None, self.first) else f"{name}-{self.last}"


class PlacesType(click.ParamType[Places]):
    """Places as somebody writes them."""

    name = "places"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Places:
        """Return the places that are meant."""
        written = _WRITTEN.fullmatch(value)
        if written is None:
            self.fail(f"{value} names no place: write topic:partition:offset, or first-last for several", param, ctx)
        topic, number, first, last = written.groups()
        if last is not None and int(last) < int(first):
            self.fail(f"{value} ends before it begins", param, ctx)
        return Places(Partition(topic, int(number)), int(first), None if last is None else int(last))
