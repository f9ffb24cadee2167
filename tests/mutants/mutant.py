"""What a mutant is: the product without one rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tests.traces.rules import TRACES


class Edit(NamedTuple):
    """One place of `consumer/` that is changed."""

    file: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """The product without one rule."""

    name: str
    rule: str
    """A name of tests/model/rules.py, or of the state rules."""
    why: str
    """Why the product does not keep the rule any more."""
    edits: tuple[Edit, ...]
    in_ci: bool = False

    @property
    def tests(self) -> tuple[str, ...]:
        """The tests that must find it."""
        return TRACES[self.rule]
