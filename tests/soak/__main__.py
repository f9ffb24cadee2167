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
from typing import TYPE_CHECKING

from tests.parts import available
from tests.parts.errors import PartMissing, PartRefused
from tests.parts.kafka import KafkaCluster, KafkaNotStarted
from tests.soak.schedule import counts, floors, schedule
from tests.soak.soak import Soak, say

if TYPE_CHECKING:
    from tests.soak.outcome import Outcome

SHORTEST_S, DEFAULT_S = 30, 300
INTERRUPTED = 130


def main(arguments: list[str]) -> int:
    """Run once and return the exit code."""
    options = _options(arguments)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1, 10**6)
    folder = Path(tempfile.mkdtemp(prefix="optout-soak-"))
    again = f"make soak DURATION={options.duration} SEED={seed}"
    say(f"{again}, with its logs in {folder}")
    say(_plan(seed, options.duration))
    try:
        outcome = _run(folder, seed, options.duration)
    except (PartMissing, PartRefused, KafkaNotStarted, AssertionError, TimeoutError) as problem:
        print(f"The soak could not be run to its end: {problem}; logs stay in {folder}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print(f"Stopped; logs stay in {folder}", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    for line in outcome.lines:
        say(line)
    if outcome.is_good and not options.keep:
        shutil.rmtree(folder)
    else:
        (folder / "timeline.txt").write_text("\n".join([*outcome.timeline, ""]))
        say(f"what happened when stands in {folder}/timeline.txt, logs beside it; the same faults again: {again}")
    for sentence in outcome.problems:
        say(f"NOT AS IT MUST BE: {sentence}")
    say(outcome.last_line())
    return 0 if outcome.is_good else 1


def _run(folder: Path, seed: int, duration: float) -> Outcome:
    redis = available.redis_executable(available.redis_kinds()[0])
    parts = available.kafka_parts()
    with KafkaCluster(parts.installation, parts.size) as kafka:
        return Soak(kafka, redis, folder, seed=seed, duration=duration).run()


def _plan(seed: int, duration: float) -> str:
    planned = ", ".join(f"{count} x {kind}" for kind, count in counts(schedule(seed, duration)).items())
    least = floors(duration)
    return (
        f"{duration:.0f} s of faults: {planned}; it takes {least.records} records, {least.worker_kills} worker kills, "
        f"{least.broker_kills} broker kills, {least.redis_faults} Redis faults, {least.neighbours} faults "
        "of neighbours, and each of these kinds to count"
    )


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make soak", description="Breaks a whole deployment and holds it to its promises."
    )
    parser.add_argument("--duration", type=int, default=DEFAULT_S, metavar="SECONDS", help=f"at least {SHORTEST_S}")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a good run, too")
    parser.add_argument("--seed", type=int, default=None, metavar="NUMBER", help="to repeat the faults of a run")
    options = parser.parse_args(arguments)
    if options.duration < SHORTEST_S:
        parser.error(f"DURATION is {options.duration}: breaking and recovering takes at least {SHORTEST_S} s")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
