"""The whole machine under random steps: what came in is in force, told once and in order, whatever comes between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.machine.machine import STEPS, run
from tests.parts.chance import seed_of, times

if TYPE_CHECKING:
    from tests.machine.servers import Servers

RUNS = times(100)


@pytest.mark.timeout(1800)
def test_nothing_lost_nothing_twice_never_allowed_by_accident(servers: Servers, request: pytest.FixtureRequest) -> None:
    """Whatever comes between which two steps, no STOP is forgotten, and every change is told once and in order."""
    given = request.config.getoption("hypothesis_seed", None)
    seed = seed_of("machine") if given is None else int(given)
    terminal = request.config.get_terminal_writer()
    terminal.line(f"\n{RUNS} runs of {STEPS} steps; the same again with --hypothesis-seed={seed}")
    run(servers, RUNS, seed)
