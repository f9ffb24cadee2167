"""Takes every rule out of the code, one after the other, and prints which test found it: `make mutants`.

Options: words choose mutants by name or rule. Exit code 1 where one is not found, or where the tests fail without any.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.mutants import laboratory
from tests.mutants.table import MUTANTS
from tests.parts import available
from tests.parts.kafka import KafkaCluster

if TYPE_CHECKING:
    from tests.mutants.mutant import Mutant

AT_ONCE = 3
"""Most of the time a mutant's test waits."""


def main(arguments: list[str]) -> int:
    """Run the unchanged copy and each mutant, print a line for each, and return 1 on any surprise."""
    chosen = [one for one in MUTANTS if all(word in f"{one.name} {one.rule}" for word in arguments)]
    with ExitStack() as stack:
        kafka = available.external_kafka() or _cluster(stack)
        unchanged = laboratory.run([], sorted({node for one in chosen for node in one.tests}), kafka)
        print(f"{'ok ' if unchanged.green else 'BAD'} without any mutation: {unchanged} ({unchanged.seconds:.0f} s)")  # noqa: T201
        surprises = int(not unchanged.green)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            runs = pool.map(lambda one: laboratory.run(one.edits, one.tests, kafka), chosen)
            for one, found in zip(chosen, runs, strict=True):
                surprises += not found.red
                _print(one, found)
    print(f"{len(chosen)} mutants, {surprises} with a surprise")  # noqa: T201
    return min(surprises, 1)


def _cluster(stack: ExitStack) -> str:
    parts = available.kafka_parts()
    return stack.enter_context(KafkaCluster(parts.installation, parts.size)).bootstrap


def _print(one: Mutant, found: laboratory.Run) -> None:
    mark = "ok " if found.red else "BAD"
    print(f"{mark} {one.rule:24} {one.name:62} {found.seconds:5.1f} s  {found}", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
