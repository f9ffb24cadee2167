"""Other programs that use the same Kafka, and what each of them does to us."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.soak.poison import Poison
from tests.soak.strangers import Strangers
from tests.soak.transactions import OpenTransactions

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.system import System
    from tests.soak.traffic import Traffic


class Neighbours(NamedTuple):
    """Somebody in our groups, a producer of upstream's, and whoever writes what is no record."""

    strangers: Strangers
    transactions: OpenTransactions
    poison: Poison

    def lines(self) -> list[str]:
        """Return what each of them did."""
        return [one.line() for one in self]


def neighbours(system: System, traffic: Traffic, folder: Path, seed: int) -> Neighbours:
    """Return those of a run."""
    return Neighbours(Strangers(system, folder), OpenTransactions(system, traffic, seed), Poison(system, traffic, seed))
