"""The yardstick for speed: how much of the raw client's throughput the whole worker keeps. See README.md beside this.

python -m bench.yardstick --help
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click
import redis
from confluent_kafka import KafkaException

from bench import stage
from bench.figures import BATCHES, Results, summary
from bench.passes import Passes, PassFailed
from bench.traffic import Traffic
from consumer.embedded.errors import EmbeddedError
from consumer.kafka.errors import sentence
from tests.parts.errors import PartMissing, PartRefused
from tests.parts.kafka import KafkaNotStarted

if TYPE_CHECKING:
    from bench.measurement import Measurement
    from bench.stage import Stage

DENSE, SPARSE = 0.03, 0.001
MESSAGES, QUICK_MESSAGES = 800_000, 100_000
REPETITIONS, QUICK_REPETITIONS = 5, 2
FIRST_MESSAGES = 1_000
"""What a worker takes for so few is mostly what it takes to begin."""
RAW_ROUNDS = 3
"""The raw client is so much faster that it reads each topic several times, to be measured over as long as it takes."""
FAILED = (
    AssertionError,  # the tests' parts say with it what did not come to be
    EmbeddedError,
    KafkaNotStarted,
    PartMissing,
    PartRefused,
    PassFailed,
    TimeoutError,
)


class Yardstick:
    """Makes passes over filled topics in turns, tells each as it is made, and keeps those that count."""

    def __init__(self, on: Stage, messages: int, seed: int) -> None:
        self._on = on
        self._passes = Passes(on)
        now = time.time_ns() // 1_000_000
        self._traffic = {density: Traffic(messages, density, seed, now) for density in (DENSE, SPARSE)}
        self._first = Traffic(FIRST_MESSAGES, DENSE, seed, now)
        self._topics: dict[float, str] = {}
        self._first_topic = ""
        self.results = {density: Results() for density in self._traffic}
        self.first: list[Measurement] = []

    def fill(self) -> None:
        """Publish all texts."""
        self._first_topic = self._on.fill("first", self._first)
        for density, traffic in self._traffic.items():
            began = time.monotonic()
            self._topics[density] = self._on.fill(f"{density:g}", traffic)
            click.echo(
                f"{traffic.messages} texts published in {time.monotonic() - began:.1f} s: "
                f"{len(traffic.keywords)} keywords, {traffic.near_misses} near misses, the rest talk"
            )
        click.echo(
            f"\n{'turn':<9}{'what':<18}{'keywords':>9}{'texts':>10}{'CPU s':>9}{'k/CPU-s':>10}{'wall s':>9}{'k/s':>8}"
        )

    def turn(self, number: int) -> None:
        """Make one pass of each kind; turn 0 is for warming up and does not count. Raises PassFailed."""
        for density, topic in self._topics.items():
            raw = {}
            for batch in BATCHES:
                raw[batch] = self._passes.raw(topic, batch, RAW_ROUNDS)
                _print(number, f"raw, {batch} a call", density, raw[batch])
            worker = self._passes.worker(topic, self._traffic[density])
            _print(number, "worker", density, worker)
            if number:
                self.results[density].add(raw, worker)
        if number:
            self.first.append(self._passes.worker(self._first_topic, self._first))
            _print(number, "worker, to begin", DENSE, self.first[-1])


def _print(turn: int, what: str, density: float, measured: Measurement) -> None:
    click.echo(
        f"{turn or 'warm-up':<9}{what:<18}{density:>9.1%}{measured.messages:>10}{measured.cpu_s:>9.3f}"
        f"{measured.k_per_cpu_s:>10.1f}{measured.wall_s:>9.3f}{measured.k_per_wall_s:>8.1f}"
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Under a minute: fewer messages, fewer repetitions.")
@click.option(
    "--messages", type=click.IntRange(min=10 * FIRST_MESSAGES), help="Messages in each of the two inbound topics."
)
@click.option("--repetitions", type=click.IntRange(min=1), help="Measured passes of each kind.")
@click.option("--warm-up/--no-warm-up", default=True, help="Make one pass of each kind first that does not count.")
@click.option("--seed", type=int, default=20, show_default=True, help="Other texts.")
def main(*, quick: bool, messages: int | None, repetitions: int | None, warm_up: bool, seed: int) -> None:
    """Measure the raw Kafka client and the whole worker in turns, on a real Kafka and Redis, and verify the output."""
    messages = messages or (QUICK_MESSAGES if quick else MESSAGES)
    repetitions = repetitions or (QUICK_REPETITIONS if quick else REPETITIONS)
    try:
        with stage.provided() as on:
            click.echo(on.description())
            yardstick = Yardstick(on, messages, seed)
            yardstick.fill()
            for number in range(0 if warm_up else 1, repetitions + 1):
                yardstick.turn(number)
    except KafkaException as problem:
        raise click.ClickException(f"Kafka failed: {sentence(problem)}") from None
    except redis.RedisError as problem:
        raise click.ClickException(f"Redis failed: {problem}") from None
    except FAILED as problem:
        raise click.ClickException(str(problem) or type(problem).__name__) from None
    click.echo()
    click.echo(json.dumps(summary(yardstick.results[DENSE], yardstick.results[SPARSE], yardstick.first)))


if __name__ == "__main__":
    sys.exit(main())
