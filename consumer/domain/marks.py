"""How far inbound may be committed (L5): an offset only when all that became of what lies below it is acknowledged.

Acknowledgements overtake each other, so no count of them says what is done. Instead positions are noted together with
a mark, and each record belongs to the mark it was made under. A mark is done when it and all earlier ones have nothing
outstanding; its positions may then be committed, however much was made since.

Knows no client and no clock. One thread notes, makes and acknowledges.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

P = TypeVar("P")
"""What has a position: a partition."""

MOST_NOTED = 64
"""Marks that wait at once: memory. Where there are as many, the open one goes on until one of them is done."""


class Mark(Generic[P]):
    """Some records, and the positions that may be committed once they and all earlier ones are acknowledged.

    A record holds on to its mark until it is acknowledged, also if its partition was given up meanwhile: so a late
    acknowledgement completes the mark of its own record, and no later one.
    """

    __slots__ = ("outstanding", "positions")

    def __init__(self) -> None:
        self.outstanding = 0
        """Records that were made under this mark and are not acknowledged."""
        self.positions: dict[P, int] = {}

    def acknowledged(self) -> None:
        """Say that one of its records is acknowledged."""
        self.outstanding -= 1


class Marks(Generic[P]):
    """The positions of the partitions that are ours, and how far everything below them is acknowledged."""

    def __init__(self, most_noted: int = MOST_NOTED) -> None:
        self.positions: dict[P, int] = {}
        """How far each partition is read; whoever reads moves it, after it has made what becomes of a message."""
        self._most_noted = most_noted
        self._open: Mark[P] = Mark()
        self._noted: deque[Mark[P]] = deque()
        self._last: dict[P, int] = {}
        self._done: dict[P, int] = {}

    def made(self) -> Mark[P]:
        """Count a record as made; return the mark that is to hear when it is acknowledged."""
        self._open.outstanding += 1
        return self._open

    def note(self) -> None:
        """Note the positions, if any has moved: what is made from now on does not hold them back."""
        if self.positions == self._last or len(self._noted) >= self._most_noted:
            return
        self._last = self._open.positions = self.positions.copy()
        self._noted.append(self._open)
        self._open = Mark()

    def done(self) -> Mapping[P, int]:
        """Return the positions of the newest mark that is done: of the partitions that are ours still."""
        while self._noted and not self._noted[0].outstanding:
            self._done = self._noted.popleft().positions
        return self._done

    def leave(self, partitions: Iterable[P]) -> None:
        """Forget the positions of partitions that were given up, in every mark: others may commit there now."""
        for partition in partitions:
            for positions in (self.positions, self._last, self._done, *(mark.positions for mark in self._noted)):
                positions.pop(partition, None)
