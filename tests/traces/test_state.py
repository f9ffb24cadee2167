"""The state rules, on real parts: what the property tests try by the thousand, once from the ledger to the set."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.integration.test_publisher import HERE, PATIENTS, THERE, each_once, owner, publish

if TYPE_CHECKING:
    from tests.parts.system import System


def test_opt_out_wins_a_tie(system: System) -> None:
    """Of a STOP and a START of one millisecond the STOP is in force, whichever the ledger has first."""
    at, patient = time.time_ns() // 1_000_000, PATIENTS[0]
    system.write("ledger", *((0, system.line(HERE, patient, word, at)) for word in ("STOP", "START")))
    system.write("ledger", *((1, system.line(THERE, patient, word, at)) for word in ("START", "STOP")))
    member = owner(system)
    assert system.members() == {(HERE, patient), (THERE, patient)}
    publish(member)
    each_once(system, 2)
    member.die()
