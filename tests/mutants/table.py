"""The mutants: for each rule of the protocol one change of the code that takes it out.

A change is a text of a file that is there exactly once, and what stands in its place; a text that is not there, or
twice, fails the tests, so that the table follows the code. `tests/traces/rules.py` says which tests must find each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.mutants import from_ledger, to_guard

if TYPE_CHECKING:
    from tests.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *from_ledger.STATE,
    *from_ledger.L1,
    *from_ledger.L2,
    *from_ledger.L3,
    *to_guard.L4,
    *to_guard.L5,
    *to_guard.L6,
    *to_guard.PASSES,
)
