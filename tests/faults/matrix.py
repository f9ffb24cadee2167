"""The crash matrix: each step of the protocol, each fault, some seeds. `make crash-matrix` runs all of it.

    python -m tests.faults.matrix --step publish-in-commit --fault stop --seed 3

repeats one run. A line for each run, and a summary at the end; exit 0 only if nothing was lost, doubled or wrongly
allowed, and every run met its step and came to rest.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from multiprocessing import get_context
from typing import TYPE_CHECKING, NamedTuple

from tests.faults.crash import FAULTS, crash
from tests.faults.points import STEPS, unknown
from tests.parts import available
from tests.parts.errors import PartMissing, PartRefused
from tests.parts.kafka import KafkaCluster, KafkaNotStarted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.faults.judging import Outcome

AT_ONCE = 5
"""Runs side by side: they mostly wait for sessions and transactions to time out."""


class Cell(NamedTuple):
    """One run to be made."""

    step: str
    fault: str
    seed: int

    def __str__(self) -> str:
        """Return its name in a list of tests."""
        return f"{self.step}-{self.fault}-{self.seed}"


def chosen_for_ci() -> list[Cell]:
    """Return one run of each step, with each kind of fault in its turn; `make crash-matrix` tries each with each."""
    return [Cell(step, FAULTS[number % len(FAULTS)], 1) for number, step in enumerate(STEPS)]


def pool(at_once: int = AT_ONCE) -> ProcessPoolExecutor:
    """Return processes that make runs."""
    return ProcessPoolExecutor(at_once, mp_context=get_context("spawn"))


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the last line."""
    steps, faults = {o.step for o in outcomes}, {o.fault for o in outcomes}
    wrong = [outcome for outcome in outcomes if not outcome.well]
    return (
        f"crash matrix: {len(outcomes)} runs over {len(steps)} steps and {len(faults)} faults, "
        f"{sum(o.kills for o in outcomes)} kills, {sum(o.stops for o in outcomes)} stops, "
        f"{sum(o.probes for o in outcomes)} probes, {len(wrong)} runs went wrong: "
        f"{sum(o.lost for o in outcomes)} lost, {sum(o.doubled for o in outcomes)} doubled, "
        f"{sum(o.allowed for o in outcomes)} allowed"
    )


def run_all(cells: Iterable[Cell], bootstrap: str, at_once: int) -> list[Outcome]:
    """Make these runs, some at once, and print each as it ends."""
    outcomes: list[Outcome] = []
    with pool(at_once) as runs:
        for future in as_completed([runs.submit(crash, bootstrap, *cell) for cell in cells]):
            outcomes.append(future.result())
            print(outcomes[-1], flush=True)  # noqa: T201
    return outcomes


def _bootstrap(stack: ExitStack) -> str:
    """Return the cluster that was given, or one of our own that ends with the stack."""
    if bootstrap := available.external_kafka():
        return bootstrap
    parts = available.kafka_parts()
    return stack.enter_context(KafkaCluster(parts.installation, parts.size)).bootstrap


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.matrix", description="the crash matrix")
    parser.add_argument("--step", action="append", choices=STEPS, help="only this step; may be given several times")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="only this fault; may be given several times")
    parser.add_argument("--seed", type=int, action="append", help="only this seed; may be given several times")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 1 to N (%(default)s)")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, metavar="N", help="runs side by side (%(default)s)")
    asked = parser.parse_args(arguments)
    if asked.seeds < 1 or asked.at_once < 1:
        parser.error("--seeds and --at-once want a number from 1 on")
    if missing := unknown():
        parser.exit(
            1, f"{parser.prog}: the product has no {', '.join(missing)}: bring tests/faults/points.py up to date\n"
        )
    seeds = asked.seed or range(1, asked.seeds + 1)
    cells = [Cell(step, fault, s) for s in seeds for step in asked.step or STEPS for fault in asked.fault or FAULTS]
    try:
        available.redis_executable(available.redis_kinds()[0])
        with ExitStack() as stack:
            outcomes = run_all(cells, _bootstrap(stack), min(asked.at_once, len(cells)))
    except (PartMissing, PartRefused, KafkaNotStarted) as problem:
        parser.exit(1, f"{parser.prog}: {problem}\n")
    except KeyboardInterrupt:
        return 130
    print(summary(outcomes))  # noqa: T201
    return 0 if all(outcome.well for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
