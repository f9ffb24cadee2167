"""What a guard costs beside the bare Redis command, on the same kind of client, in one run: `make bench-guard`.

python -m bench.guard [--turns N] [--calls N]

Each question is asked in turns with the command that it is held against, call by call, so that both meet the same
machine. Told are the ratios of their medians, and for one check of their 99th percentiles, as the median over the turns
with its extremes. Many numbers are asked about without what it takes to read them, which is told apart: a bare command
is given members of a set. Every verdict is held against the set.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
import redis
from redis import asyncio as aioredis

from consumer.domain.bucket import Entry
from consumer.domain.buckets import DEFAULT_BUCKETS, bucket_of, bucket_prefix, digits_of, set_key
from consumer.domain.events import Action
from consumer.embedded.redis_server import RedisServer, find_servers
from consumer.guard import AsyncGuard, Guard, VerdictKind, question
from consumer.suppression.answers import Batch
from consumer.suppression.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from consumer.guard import Verdict

LOCATIONS = [f"loc-{number:04}" for number in range(1000)]
NUMBERS = [f"+1202555{number:04}" for number in range(1000)]
MEMBERS = [digits_of(number) for number in NUMBERS]
STOPPED = frozenset(NUMBERS[::33])
"""Three in a hundred have opted out, of every location."""
HERE = LOCATIONS[0]


def key_of(location: str) -> str:
    """Return the key of a location's set."""
    return set_key(bucket_prefix(bucket_of(location, DEFAULT_BUCKETS), DEFAULT_BUCKETS), location)


KEYS = [key_of(location) for location in LOCATIONS]


def fill(client: redis.Redis) -> None:
    """Let every location have its opted-out patients, as a worker would, and vouch for all buckets."""
    view = View(client, buckets=DEFAULT_BUCKETS, ledger="bench/appliers")
    ends: dict[int, int] = dict.fromkeys(range(DEFAULT_BUCKETS), 0)
    for bucket in ends:
        view.begin(bucket)
    for location in LOCATIONS:
        bucket = bucket_of(location, DEFAULT_BUCKETS)
        entries = [
            Entry(ends[bucket] + place, location, digits_of(number), Action.OPT_OUT, place, "STOP")
            for place, number in enumerate(sorted(STOPPED))
        ]
        view.apply([Batch(bucket, ends[bucket], ends[bucket] + len(entries), entries)])
        ends[bucket] += len(entries)
    server, metas = view.server(), view.metas(ends)
    view.vouch(server, server.time, {b: (meta.epoch, ends[b]) for b, meta in metas.items() if meta is not None})


def check(verdicts: Sequence[Verdict], numbers: Sequence[str]) -> None:
    """Raise AssertionError for a verdict that is not what the set says."""
    for verdict, number in zip(verdicts, numbers, strict=True):
        assert verdict.kind is (VerdictKind.SUPPRESSED if number in STOPPED else VerdictKind.ALLOWED), verdict


def in_turns(bare: Callable[[], object], ours: Callable[[], object], calls: int) -> tuple[list[float], list[float]]:
    """Call one and the other in turns, and return what each call took, in s, in ascending order."""
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(calls):
        for call, times in ((bare, took[0]), (ours, took[1])):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
    return sorted(took[0]), sorted(took[1])


async def in_turns_async(bare: Any, ours: Any, calls: int) -> tuple[list[float], list[float]]:
    """Do the same with what is awaited."""
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(calls):
        for call, times in ((bare, took[0]), (ours, took[1])):
            began = time.perf_counter()
            await call()
            times.append(time.perf_counter() - began)
    return sorted(took[0]), sorted(took[1])


class Figures:
    """What was measured, turn by turn."""

    def __init__(self) -> None:
        self._found: dict[str, list[tuple[float, float]]] = {}

    def add(self, name: str, took: tuple[list[float], list[float]], at: float = 0.5) -> None:
        """Add one turn: what the bare command and what ours took, at this part of all calls."""
        bare, ours = (times[min(int(len(times) * at), len(times) - 1)] for times in took)
        self._found.setdefault(name, []).append((bare, ours))

    def lines(self) -> list[str]:
        """Return a line for each."""
        return [
            f"{name:34} {median(o / b for b, o in found):6.2f}  "
            f"({min(o / b for b, o in found):.2f} to {max(o / b for b, o in found):.2f})   "
            f"{1e6 * median(o for _, o in found):7.0f} us beside {1e6 * median(b for b, _ in found):.0f}"
            for name, found in self._found.items()
        ]

    def summary(self) -> dict[str, float]:
        """Return the ratios."""
        return {name: round(median(ours / bare for bare, ours in found), 3) for name, found in self._found.items()}


def measure(url: str, turns: int, calls: int) -> Figures:
    """Measure the guard of threads, then the one of asyncio."""
    figures = Figures()
    client = redis.Redis.from_url(url, protocol=2)
    with Guard.from_url(url) as guard:
        asked = question.of_location(HERE, MEMBERS, DEFAULT_BUCKETS, why=False)
        assert len(asked) == 1
        check(guard.check_many(HERE, NUMBERS), NUMBERS)
        check(guard.check_each(list(zip(LOCATIONS, NUMBERS, strict=True))), NUMBERS)

        def pipeline() -> None:
            with client.pipeline(transaction=False) as commands:
                for key, member in zip(KEYS, MEMBERS, strict=True):
                    commands.sismember(key, member)
                commands.execute()

        def many() -> None:
            guard._answered(question.of_location(HERE, MEMBERS, DEFAULT_BUCKETS, why=False), 1000, None)  # noqa: SLF001

        def each() -> None:
            guard._answered(question.of_each(LOCATIONS, MEMBERS, DEFAULT_BUCKETS, why=False), 1000, None)  # noqa: SLF001

        for turn in range(-1, turns):  # the first is for warming up
            one = in_turns(
                lambda: client.sismember(KEYS[0], MEMBERS[500]), lambda: guard.check(HERE, NUMBERS[500]), calls
            )
            thousand = in_turns(lambda: client.smismember(KEYS[0], MEMBERS), many, calls // 10)
            mixed = in_turns(pipeline, each, calls // 40)
            read = in_turns(lambda: client.smismember(KEYS[0], MEMBERS), lambda: question.members_of(NUMBERS, "US"), 50)
            if turn >= 0:
                figures.add("one check / SISMEMBER", one)
                figures.add("one check / SISMEMBER, 99 %", one, 0.99)
                figures.add("1000 of one / SMISMEMBER", thousand)
                figures.add("1000 of 1000 / 1000 SISMEMBER", mixed)
                figures.add("reading 1000 numbers / SMISMEMBER", read)
    client.close()
    asyncio.run(_measure_async(url, turns, calls, figures))
    return figures


async def _measure_async(url: str, turns: int, calls: int, figures: Figures) -> None:
    client = aioredis.Redis.from_url(url, protocol=2)
    async with AsyncGuard.from_url(url) as guard:
        check(await guard.check_many(HERE, NUMBERS), NUMBERS)
        for turn in range(-1, turns):
            one = await in_turns_async(
                lambda: client.sismember(KEYS[0], MEMBERS[500]), lambda: guard.check(HERE, NUMBERS[500]), calls
            )
            if turn >= 0:
                figures.add("asyncio: one check / SISMEMBER", one)
                figures.add("asyncio: one check, 99 %", one, 0.99)
    await client.aclose()


def import_times(turns: int) -> dict[str, float]:
    """Return what importing takes in a new interpreter, in ms: redis and the phone library alone, and the guard."""
    took = {}
    for name, statement in (("redis", "import redis, redis.asyncio, phonenumbers"), ("guard", "import consumer.guard")):
        program = f"import time; began = time.perf_counter(); {statement}; print(time.perf_counter() - began)"
        times = [
            float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)  # noqa: S603
            for _ in range(turns)
        ]
        took[f"import_{name}_ms"] = round(1000 * median(times), 1)
    return took


@click.command()
@click.option("--turns", type=click.IntRange(1, 100), default=9, show_default=True)
@click.option(
    "--calls", type=click.IntRange(100, 100_000), default=2000, show_default=True, help="Of a kind in a turn."
)
def main(turns: int, calls: int) -> None:
    """Measure, and print a line for each ratio and the last one in JSON."""
    servers = find_servers()
    if not servers:
        raise click.ClickException("no redis-server and no valkey-server on the PATH: install one")
    with tempfile.TemporaryDirectory(prefix="optout-bench-") as folder:
        server = RedisServer(next(iter(servers.values())), Path(folder) / "redis")
        server.start()
        try:
            with redis.Redis.from_url(server.url) as client:
                fill(client)
            figures = measure(server.url, turns, calls)
        finally:
            server.kill()
    for line in figures.lines():
        click.echo(line)
    click.echo(json.dumps({**figures.summary(), **import_times(turns), "turns": turns, "calls": calls}))


if __name__ == "__main__":
    main()
