"""Searches every configuration, the deep ones too, and prints a table: `make prove`.

Options: -v prints the shortest trace of each rule taken away; other words choose configurations by name.
"""

from __future__ import annotations

import sys
from multiprocessing import get_context
from operator import attrgetter
from typing import TYPE_CHECKING

from tests.model.configurations import DEEP, DEEP_HARMLESS, HARMLESS, OPEN, REMOVED, SMALL

if TYPE_CHECKING:
    from tests.model.configurations import Configuration
    from tests.model.explore import Outcome
from tests.model.rules import sentence

PROCESSES = 2


def _searched(number: int) -> tuple[int, Outcome]:
    return number, ALL[number].run()


ALL: list[Configuration] = sorted(
    [*SMALL, *DEEP, *REMOVED, *HARMLESS, *DEEP_HARMLESS, *OPEN], key=attrgetter("most_states")
)


def main(arguments: list[str]) -> int:
    """Search, print a line for each configuration as it ends, and return how many surprised."""
    verbose = "-v" in arguments
    words = [word for word in arguments if not word.startswith("-")]
    chosen = [number for number, one in enumerate(ALL) if all(word in one.name for word in words)]
    surprises = 0
    print(f"{'':3} {'configuration':64} {'verdict':8} {'states':>10} {'seconds':>8}  harm")  # noqa: T201
    with get_context("fork").Pool(PROCESSES, maxtasksperchild=1) as pool:
        for number, outcome in pool.imap_unordered(_searched, chosen, chunksize=1):
            configuration = ALL[number]
            surprise = configuration.surprise(outcome)
            surprises += surprise is not None
            _print(configuration, outcome, surprise, verbose=verbose)
    print(f"{len(chosen)} searched, {surprises} with a surprise")  # noqa: T201
    return min(surprises, 1)


def _print(configuration: Configuration, outcome: Outcome, surprise: str | None, *, verbose: bool) -> None:
    mark = "ok " if surprise is None else "BAD"
    harm = f"{outcome.harm} ({len(outcome.trace)} steps)" if outcome.harm else ""
    line = f"{mark} {configuration.name:64} {outcome.verdict:8} {outcome.states:>10,} {outcome.seconds:>8.1f}  {harm}"
    print(line, flush=True)  # noqa: T201
    if verbose and configuration.removed:
        print(f"      {sentence(configuration.removed)}")  # noqa: T201
    if surprise is not None or (verbose and outcome.trace):
        for number, label in enumerate(outcome.trace, 1):
            print(f"      {number:2}. {label}")  # noqa: T201
        if surprise is not None:
            print(f"      {surprise.splitlines()[0]}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
