"""The machine's eyes: a rule that is taken away is seen, by random steps or where a trace of few steps leads to it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from consumer.ledger import LedgerFault
from consumer.wire.codec import Codec
from consumer.wire.schemas import Schemas
from tests.machine.machine import AS_IT_IS, run
from tests.machine.mutants import MUTANTS
from tests.machine.world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.machine.mutants import Mutant
    from tests.machine.servers import Servers
    from tests.machine.world import Action

QUICKLY = {
    "trim before commit": 1,
    "no outbox": 1,
    "vouch without end": 1,
    "guard without marker": 1,
    "tie reversed": 1,
    "commit before acknowledged": 8,
}
"""Rules whose absence is found within some dozens of random runs, and the seed of such runs; others take hundreds."""
WRITE: list[Action] = [("step", 0, "classify"), ("step", 0, "commit")]
ROUND = ("round", 1000, -1)
STOP, ANOTHER = [("text", patient, "STOP", 0, 0) for patient in range(2)]
APPLY = ("step", 0, "apply")
TRACES: dict[str, tuple[list[Action], str, list[Action], list[Action]]] = {
    # steps before; a step of the first worker; what comes between two of its questions; steps after
    "vouch without identity": ([], "vouch", [("lose_round", [STOP], "fail_over")], []),
    "vouch without epoch": (
        [],
        "vouch",
        [("lose_round", [STOP], "flush"), ANOTHER, *WRITE, ("step", 0, "apply")],
        [],
    ),
    "inbound read after the ledger's end": ([STOP], "vouch", WRITE, []),
    "samples end where inbound may be read": ([("upstream_opens", 0), STOP], "vouch", [], []),
    "no continuity": (
        [("lose_round", [STOP], "fail_over"), ANOTHER, *WRITE],
        "apply",
        [],
        [ROUND],
    ),
    "told below published": (
        [STOP, *WRITE, APPLY],
        "publish",
        [ANOTHER, *WRITE, APPLY, ("snapshot",)],  # the copy holds a change that is told, and one that is not
        [("fail_over", 1), ("step", 0, "publish"), ROUND],
    ),
    "vouch without count": (
        [("round", 1000, -1, [STOP])],
        "vouch",
        [],
        [("delete", 0, 2), ("fail_over", 0), ROUND, ROUND],
    ),
}


def found(servers: Servers, rule: str, mutant: Mutant) -> bool:
    """Follow a trace, with what comes between at each question of the step in turn; whether any way of it failed."""
    before, step, between, after = TRACES[rule]
    return any(
        _fails(servers, mutant, [*before, ("step", 0, step, (count, ("several", between))), *after])
        for count in (range(20) if between else (0,))
    )


def _fails(servers: Servers, mutant: Mutant, trace: Sequence[Action]) -> bool:
    with ExitStack() as parts:
        parts.enter_context(mutant.applied())
        world = World(servers, Codec(Schemas()), mutant.change)
        parts.callback(world.close)
        try:
            world.do(ROUND)
            for action in trace:
                world.do(action)
            world.settle()
        except (AssertionError, LedgerFault):
            return True
    return False


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rule", TRACES)
def test_trace_of_a_missing_rule(servers: Servers, rule: str) -> None:
    """A trace goes wrong at one of its moments where a rule is missing, and at none with all rules."""
    assert found(servers, rule, MUTANTS[rule])
    assert not found(servers, rule, AS_IT_IS)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rule", QUICKLY)
def test_missing_rule_is_found_by_random_steps(servers: Servers, rule: str) -> None:
    """The machine finds out by itself, by steps that it draws, that a rule is missing."""
    with MUTANTS[rule].applied(), pytest.raises((AssertionError, LedgerFault)):
        run(servers, 1000, QUICKLY[rule], MUTANTS[rule], shrink=False)
