"""Takes every rule out of the code, one after the other, and prints which test found it: `make mutants`.

Options: words choose mutants by name or rule. Exit code 1 where one is not found, or where the tests fail without any.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.mutants import laboratory
from tests.mutants.table import MUTANTS
from tests.parts import available
from tests.parts.kafka import KafkaCluster

if TYPE_CHECKING:
    from tests.mutants.laboratory import Run
    from tests.mutants.mutant import Mutant

AT_ONCE = 3
"""Most of its time a mutant's test waits."""


def main(arguments: list[str]) -> int:
    """Run the unchanged copy and each mutant, print a line for each test, and return 1 on any surprise."""
    chosen = [one for one in MUTANTS if all(word in f"{one.name} {one.rule}" for word in arguments)]
    if not chosen:
        sys.exit(f"no mutant's name and rule hold these words: {' '.join(arguments)}")
    began = time.monotonic()
    with ExitStack() as stack:
        kafka = available.external_kafka() or _cluster(stack)
        unchanged = laboratory.run([], sorted({node for one in chosen for node in one.tests}), kafka)
        surprises = int(not unchanged.green)
        _print("no mutation", unchanged, f"{unchanged.passed} tests", good=unchanged.green)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for one, runs in zip(chosen, pool.map(lambda one: laboratory.run_each(one, kafka), chosen), strict=True):
                surprises += not all(found.red for found in runs)
                _print_mutant(one, runs)
    print(f"{len(chosen)} mutants, {surprises} with a surprise, {time.monotonic() - began:.0f} s")  # noqa: T201
    return min(surprises, 1)


def _cluster(stack: ExitStack) -> str:
    parts = available.kafka_parts()
    return stack.enter_context(KafkaCluster(parts.installation, parts.size)).bootstrap


def _print_mutant(one: Mutant, runs: list[Run]) -> None:
    for node, found in zip(one.tests, runs, strict=True):
        _print(f"{one.rule}: {one.name}", found, node.partition("::")[2], good=found.red)


def _print(what: str, found: Run, test: str, *, good: bool) -> None:
    print(f"{'ok ' if good else 'BAD'} {what:76} {found.verdict:6} {found.seconds:5.1f} s  {test}", flush=True)  # noqa: T201
    if not good:
        print(f"      {found}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
