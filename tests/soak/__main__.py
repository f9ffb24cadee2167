"""Breaks a whole deployment for as long as you like and holds it to its promises: `make soak DURATION=300 SEED=7`.

The last line counts; the exit code is 0 only if nothing was lost, doubled or allowed and enough was broken.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.parts import available
from tests.parts.errors import PartMissing, PartRefused
from tests.parts.kafka import KafkaCluster, KafkaNotStarted
from tests.soak.schedule import counts, floors, schedule
from tests.soak.soak import Soak, say

SHORTEST_S, DEFAULT_S = 30, 300


def main(arguments: list[str]) -> int:
    """Run once and return the exit code."""
    options = _options(arguments)
    try:
        parts = available.kafka_parts()
    except (PartMissing, PartRefused) as problem:
        print(problem, file=sys.stderr)  # noqa: T201
        return 2
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1, 10**6)
    folder = Path(tempfile.mkdtemp(prefix="optout-soak-"))
    again = f"make soak DURATION={options.duration} SEED={seed}"
    say(f"{options.duration} s of faults, as again with `{again}`; at least {_words(options.duration)}")
    say(f"planned: {', '.join(f'{kind} {n}' for kind, n in counts(schedule(seed, options.duration)).items())}")
    say(f"logs: {folder}")
    try:
        with KafkaCluster(parts.installation, parts.size) as kafka:
            outcome = Soak(kafka, folder, seed=seed, duration=options.duration).run()
    except KafkaNotStarted as problem:
        print(problem, file=sys.stderr)  # noqa: T201
        return 1
    for line in outcome.lines:
        say(line)
    if outcome.is_good:
        shutil.rmtree(folder)
    else:
        for sentence in outcome.problems:
            say(f"NOT AS IT MUST BE: {sentence}")
        say(f"to see it again: {again}; logs stay in {folder}")
    say(outcome.last_line())
    return 0 if outcome.is_good else 1


def _words(duration: float) -> str:
    least = floors(duration)
    return (
        f"{least.records} records, {least.worker_kills} worker kills, {least.broker_kills} broker kills and "
        f"{least.redis_faults} Redis faults must come to pass"
    )


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make soak", description="Breaks a whole deployment and holds it to its promises."
    )
    parser.add_argument("--duration", type=int, default=DEFAULT_S, metavar="SECONDS", help=f"at least {SHORTEST_S}")
    parser.add_argument("--seed", type=int, default=None, metavar="NUMBER", help="to repeat a run's schedule")
    options = parser.parse_args(arguments)
    if options.duration < SHORTEST_S:
        parser.error(f"DURATION is {options.duration}: it takes {SHORTEST_S} s to break and recover anything")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
