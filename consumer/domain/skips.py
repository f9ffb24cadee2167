"""What may be passed over in one topic: the places of which an operator wrote so, each with the record's digest.

A record that can be read is never passed over, whatever is written of it; whoever reads makes sure of that before
asking here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from consumer.domain.events import NO_RECORD

if TYPE_CHECKING:
    from consumer.domain.events import Skip

_DIGEST = re.compile("[0-9a-f]{64}")


class Gap(NamedTuple):
    """Places without a record that can be read: from `offset` to before `end`."""

    offset: int
    end: int


class Skips:
    """The skips of one topic. Taken in by one thread, asked by any."""

    def __init__(self, topic: str, topic_id: str) -> None:
        self.topic = topic
        self.topic_id = topic_id
        self._digests: dict[tuple[int, int], frozenset[str]] = {}
        self._gaps: dict[int, tuple[Gap, ...]] = {}

    def add(self, skip: Skip) -> str | None:
        """Take a skip in; return why it allows nothing, where it does not."""
        if problem := self.problem(skip):
            return problem
        place = skip.partition, skip.offset
        if skip.digest == NO_RECORD:
            gaps = {*self._gaps.get(skip.partition, ()), Gap(skip.offset, skip.end)}
            self._gaps[skip.partition] = tuple(sorted(gaps))
        else:
            self._digests[place] = self._digests.get(place, frozenset()) | {skip.digest}
        return None

    def problem(self, skip: Skip) -> str | None:
        """Return why a skip of this topic allows nothing whatever stands at its places; None where it may."""
        if skip.topic_id != self.topic_id:
            return "it names another topic of that name, by its id"
        if skip.partition < 0 or skip.offset < 0 or skip.end <= skip.offset:
            return "it names no place"
        if skip.digest == NO_RECORD:
            return None
        if not _DIGEST.fullmatch(skip.digest):
            return "its digest is none"
        return None if skip.end == skip.offset + 1 else "it names one record and several places"

    def names(self, number: int, offset: int) -> bool:
        """Return whether there is a skip of a record at this place, whatever its digest."""
        return (number, offset) in self._digests

    def allows(self, number: int, offset: int, digest: str) -> bool:
        """Return whether the record of this digest at this place may be passed over, if it cannot be read."""
        return digest in self._digests.get((number, offset), ())

    def gap_end(self, number: int, position: int) -> int:
        """Return up to where places without a record may be passed over from here on; `position` for not at all."""
        for gap in self._gaps.get(number, ()):
            if gap.offset <= position < gap.end:
                position = gap.end
        return position
