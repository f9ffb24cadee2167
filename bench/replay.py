"""How fast a worker fills an empty Redis from the ledger, with how much memory, and who has to wait for it meanwhile.

python -m bench.replay SUBSCRIPTIONS

Writes a ledger whose changes were all told long ago, starts one worker that applies, and waits until every bucket is
vouched for. Then all buckets but one are lost while it runs, and STOPs are written to the one that is well.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click
import redis
from confluent_kafka import KafkaException, Producer

from bench import stage
from bench.stage import BUCKETS
from bench.yardstick import FAILED
from consumer.domain.buckets import bucket_of
from consumer.kafka.errors import sentence
from tests.parts.system import location_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bench.stage import Stage
    from tests.parts.oracle import Subscription
    from tests.parts.system import System, Worker

PATIENTS_A_LOCATION = 500
BACK_AGAIN, TWICE = 0.1, 0.05
"""Parts of the patients who texted START later, and who texted STOP a second time."""
DEADLINE_S = 1200.0
LOOK_EVERY_S = 0.1
PROBES_A_SECOND = 20
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """One sentence: what did not come to be."""


def keywords(subscriptions: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """Make the ledger's keywords: each subscription's STOP, what some texted later, in some mixed order."""
    chance = random.Random(seed)  # noqa: S311 - nothing here is a secret
    later: list[tuple[str, str, str]] = []
    for number in range(subscriptions):
        location = f"loc-{number % max(1, subscriptions // PATIENTS_A_LOCATION):06}"
        patient = f"+1202{number:07}"
        yield location, patient, "STOP"
        drawn = chance.random()
        if drawn < BACK_AGAIN + TWICE:
            later.append((location, patient, "START" if drawn < BACK_AGAIN else "QUIT"))
    chance.shuffle(later)
    yield from later


def fill(system: System, subscriptions: int, seed: int) -> tuple[int, set[Subscription]]:
    """Write the ledger as if all of it was classified and told; return how many records, and who is opted out."""
    producer = Producer(
        {
            "bootstrap.servers": system.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 50,
            "queue.buffering.max.messages": 200_000,
            "log_level": 0,
        }
    )
    out: set[Subscription] = set()
    count, began = 0, time.time_ns() // 1_000_000 - 86_400_000
    for count, (location, patient, word) in enumerate(keywords(subscriptions, seed), 1):
        value = system.line(location, patient, word, began + count)
        (out.discard if word == "START" else out.add)((location, patient))
        while True:
            try:
                producer.produce(system.topics["ledger"], value, partition=bucket_of(location, BUCKETS))
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(120):
        raise Failed("Kafka did not take the ledger")
    system.commit("apply", "ledger", system.ends("ledger"))
    for role in ("inbound", "requests"):
        system.commit("classify", role, system.ends(role))
    return count, out


class Watch:
    """Looks at a worker, and at what it does to Redis."""

    def __init__(self, system: System, client: redis.Redis, worker: Worker) -> None:
        self._system = system
        self._client = client
        self._worker = worker
        self._process = Path("/proc") / str(worker.process.pid)

    def cpu(self) -> tuple[float, float]:
        """Return the CPU-seconds of the worker and of Redis."""
        fields = (self._process / "stat").read_text().rpartition(")")[2].split()
        server: Any = self._client.info("cpu")
        return (int(fields[11]) + int(fields[12])) / TICKS, server["used_cpu_user"] + server["used_cpu_sys"]

    def peak_mib(self) -> float:
        """Return the most memory that the worker ever had."""
        lines = (self._process / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    def metas(self, *fields: str) -> list[Any]:
        """Return these fields of each bucket's meta."""
        with self._client.pipeline(transaction=False) as pipeline:
            for bucket in range(BUCKETS):
                pipeline.hmget(f"optout:{{{bucket}.{BUCKETS}}}:meta", *fields)
            return pipeline.execute()

    def applied(self, ends: Mapping[int, int]) -> bool:
        """Return whether each bucket is applied up to its end of then, whatever came since in some."""
        return all(int(applied or 0) >= ends[bucket] for bucket, (applied,) in enumerate(self.metas("applied")))

    def vouched(self) -> int:
        """Return how many buckets are vouched for."""
        return sum(fresh is not None for (fresh,) in self.metas("fresh"))

    def wait(self, what: str, condition: Callable[[], bool]) -> float:
        """Wait until it holds; return for how many seconds. Raises Failed."""
        began = time.monotonic()
        while not condition():
            if self._worker.process.poll() is not None:
                raise Failed(f"the worker ended: {self._worker.log_file.read_text().splitlines()[-1:]}")
            if time.monotonic() - began > DEADLINE_S:
                raise Failed(f"not within {DEADLINE_S:.0f} s: {what}")
            time.sleep(LOOK_EVERY_S)
        return time.monotonic() - began


def replay(system: System, client: redis.Redis, records: int) -> tuple[Watch, dict[str, Any]]:
    """Start a worker on an empty Redis; return what it took until all is applied and vouched for."""
    worker = system.start_worker("--only", "apply")
    watch = Watch(system, client, worker)
    watch.wait("it has its buckets", lambda: "buckets received" in worker.events())
    (cpu, redis_cpu), idle = watch.cpu(), watch.peak_mib()
    ends = system.ends("ledger")
    began, first = time.monotonic(), 0.0
    half = 0.0

    def applied() -> bool:
        nonlocal first, half
        vouched = watch.vouched()
        first = first or (time.monotonic() - began if vouched else 0.0)
        half = half or (time.monotonic() - began if vouched >= BUCKETS / 2 else 0.0)
        return watch.applied(ends)

    wall = watch.wait("all is applied", applied)
    (cpu_then, redis_then), peak = watch.cpu(), watch.peak_mib()
    whole = wall + watch.wait("all is vouched for", lambda: watch.vouched() == BUCKETS)
    return watch, {
        "records": records,
        "wall_s": round(wall, 2),
        "records_per_s": round(records / wall),
        "worker_cpu_s": round(cpu_then - cpu, 2),
        "records_per_worker_cpu_s": round(records / (cpu_then - cpu)),
        "redis_cpu_s": round(redis_then - redis_cpu, 2),
        "records_per_redis_cpu_s": round(records / (redis_then - redis_cpu)),
        "idle_mib": round(idle),
        "peak_mib": round(peak),
        "first_bucket_vouched_s": round(first or whole, 2),
        "half_vouched_s": round(half or whole, 2),
        "all_vouched_s": round(whole, 2),
    }


class Probes:
    """Writes STOPs to one bucket and times how long each takes to be in the set."""

    def __init__(self, system: System, bucket: int, exchange: int) -> None:
        self._system = system
        self._bucket = bucket
        self._exchange = exchange
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seconds: list[float] = []

    def _run(self) -> None:
        location = location_in(self._bucket, BUCKETS)
        key = f"optout:{{{self._bucket}.{BUCKETS}}}:set:{location}"
        sent: dict[str, float] = {}
        number, due = 0, time.monotonic()
        with self._system.redis() as client:
            while sent or not self._stop.is_set():
                if time.monotonic() >= due and not self._stop.is_set():
                    number, due = number + 1, due + 1 / PROBES_A_SECOND
                    patient = f"1{self._exchange}{number:04}"
                    self._system.write("ledger", (self._bucket, self._system.line(location, f"+{patient}", "STOP")))
                    sent[patient] = time.monotonic()
                patients = list(sent)
                for patient, member in zip(patients, client.smismember(key, patients) if patients else [], strict=True):
                    if member:
                        self.seconds.append(time.monotonic() - sent.pop(patient))
                time.sleep(0.002)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(DEADLINE_S)

    def percentile(self, part: float) -> float:
        """Return the seconds within which this part of the probes was in force."""
        ordered = sorted(self.seconds)
        return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 3) if ordered else 0.0


def beside(system: System, client: redis.Redis, watch: Watch) -> dict[str, Any]:
    """Lose all buckets but one while the worker runs; return how long STOPs took in the one that is well."""
    well = BUCKETS - 1
    with Probes(system, well, 305555) as quiet:
        time.sleep(5)
    ends = system.ends("ledger")
    watch.wait("all is applied", lambda: watch.applied(ends))
    others = [f"optout:{{{bucket}.{BUCKETS}}}:meta" for bucket in range(BUCKETS) if bucket != well]
    with Probes(system, well, 312555) as busy:
        client.delete(*others)
        wall = watch.wait("all is applied", lambda: watch.applied(ends))
    return {
        "probes": len(busy.seconds),
        "quiet_p50_s": quiet.percentile(0.5),
        "quiet_p99_s": quiet.percentile(0.99),
        "during_p50_s": busy.percentile(0.5),
        "during_p99_s": busy.percentile(0.99),
        "during_max_s": busy.percentile(1.0),
        "replayed_s": round(wall, 2),
        "peak_mib": round(watch.peak_mib()),
    }


def measured(on: Stage, subscriptions: int, seed: int) -> dict[str, Any]:
    """Make one replay and one beside a bucket that is well. Raises Failed."""
    system = on.system("replay", f"{on.prefix}inbound")
    with system, redis.Redis.from_url(on.redis_url) as client:
        began = time.monotonic()
        records, out = fill(system, subscriptions, seed)
        click.echo(f"{records} records written in {time.monotonic() - began:.0f} s")
        watch, figures = replay(system, client, records)
        click.echo(json.dumps(figures))
        if system.members() != out:
            raise Failed("Redis does not hold those who opted out last")
        figures |= {f"beside_{name}": value for name, value in beside(system, client, watch).items()}
        if {one for one in system.members() if one[0].count("-") == 1} != out:
            raise Failed("after the second replay Redis does not hold those who opted out last")
        if system.ends("changed") != dict.fromkeys(system.ends("changed"), 0):
            told = [record for record in system.read("changed") if record.record["location_id"].count("-") == 1]
            if told:
                raise Failed(f"{len(told)} changes were told again")
        return figures


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("subscriptions", type=click.IntRange(min=1000))
@click.option("--seed", type=int, default=20, show_default=True, help="Another order of keywords.")
def main(subscriptions: int, seed: int) -> None:
    """Replay a ledger of so many SUBSCRIPTIONS into an empty Redis, and beside a bucket that is well; verify both."""
    try:
        with stage.provided() as on:
            click.echo(on.description())
            figures = measured(on, subscriptions, seed)
    except KafkaException as problem:
        raise click.ClickException(f"Kafka failed: {sentence(problem)}") from None
    except (*FAILED, Failed) as problem:
        raise click.ClickException(str(problem) or type(problem).__name__) from None
    click.echo(json.dumps(figures))


if __name__ == "__main__":
    sys.exit(main())
