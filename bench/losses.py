"""What a loss of Redis costs under load: when a guard says UNKNOWN, when it is right again, and how much is replayed.

python -m bench.losses [--subscriptions N]

Three workers, texts all the time, and a guard that asks without a pause about patients whose STOP is in force. Redis is
flushed; replaced by a replica that lacks the last writes; put back to a copy of before. Each is told step by step, in
seconds from the moment of the loss. One wrong ALLOWED fails the run.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections import deque
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import redis

from consumer.embedded.redis_server import RedisServer, find_servers
from consumer.guard import Guard, VerdictKind
from tests.parts import available, oracle
from tests.parts.forwarder import Forwarder
from tests.parts.kafka import KafkaCluster
from tests.parts.system import System, inbound, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUCKETS = 16
WORKERS = 3
TEXTS_A_SECOND = 50
SETTLED_S = 300.0
PAUSE_S = 0.002


class Asked(NamedTuple):
    """One answer about patients of a bucket who are opted out."""

    at: float
    bucket: int
    kind: VerdictKind


class Load:
    """Texts of new patients, all the time; each of them says STOP."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.sent: list[dict[str, Any]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def _send(self) -> None:
        number = 0
        while not self._stop.wait(0.2):
            batch = [
                inbound(location_in((number + i) % BUCKETS, BUCKETS), f"+1303555{number + i:04}", "STOP")
                for i in range(TEXTS_A_SECOND // 5)
            ]
            number += len(batch)
            self._system.send(batch)
            self.sent += batch

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Send for as long as the block lasts."""
        self._thread.start()
        yield
        self._stop.set()
        self._thread.join(30)


class Watch:
    """A guard that asks, bucket by bucket, about patients of whom it is known that they are opted out."""

    def __init__(self, system: System, number: str) -> None:
        self._guard = Guard(system.redis(), buckets=BUCKETS, max_staleness=None)
        self._locations = [location_in(bucket, BUCKETS) for bucket in range(BUCKETS)]
        self._number = number
        self.answers: deque[Asked] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        while not self._stop.wait(PAUSE_S):
            for bucket, location in enumerate(self._locations):
                kind = self._guard.check(location, self._number).kind
                self.answers.append(Asked(time.monotonic(), bucket, kind))

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Ask for as long as the block lasts."""
        self._thread.start()
        yield
        self._stop.set()
        self._thread.join(30)


class Losses:
    """One deployment, and what is done to its Redis."""

    def __init__(self, system: System, server: RedisServer, forwarder: Forwarder, watch: Watch) -> None:
        self.system = system
        self.server = server
        self.forwarder = forwarder
        self._watch = watch

    def tell(self, name: str, lose: Callable[[], object]) -> None:
        """Lose something, wait until everything is right again, and print each step."""
        applied = sum(self.system.metas("applied").values())
        marks = [len(worker.log()) for worker in self.system.workers]
        self._watch.answers.clear()
        began = time.monotonic()
        lose()
        done = time.monotonic()
        wait_for("healed", lambda: self._healed(done), SETTLED_S)
        answers = list(self._watch.answers)
        lines = [line for worker, mark in zip(self.system.workers, marks, strict=True) for line in worker.log()[mark:]]
        named = [line for line in lines if "records_to_replay" in line]
        replayed = sum(line["records_replayed"] for line in lines if "records_replayed" in line)
        unknown = [answer.at for answer in answers if answer.kind is VerdictKind.UNKNOWN]
        right = self._right_again(answers)
        print(f"\n{name} ({applied} records applied before; the loss itself took {done - began:.2f} s)")
        _step("first UNKNOWN", min(unknown) - began)
        _step("first bucket right again", min(right) - began)
        _step("half of the buckets", sorted(right)[len(right) // 2] - began)
        _step("all of them", max(right) - began)
        kinds = sorted({line["loss"] for line in named})
        print(
            f"  named {', '.join(kinds)} in {len(named)} lines; {sum(n['records_to_replay'] for n in named)} records to"
        )
        print(f"  replay by what was known, {replayed} replayed with what came in meanwhile")
        print(f"  {len(answers)} answers meanwhile, {len(unknown)} of them UNKNOWN, {self.wrong()} ALLOWED")

    def _healed(self, since: float) -> bool:
        recent = [a for a in list(self._watch.answers)[-20 * BUCKETS :] if a.at > since + 1]
        return len(recent) >= 10 * BUCKETS and all(answer.kind is VerdictKind.SUPPRESSED for answer in recent)

    @staticmethod
    def _right_again(answers: list[Asked]) -> list[float]:
        """Return when each bucket was right for good."""
        last = dict.fromkeys(range(BUCKETS), 0.0)
        for answer in answers:
            if answer.kind is not VerdictKind.SUPPRESSED:
                last[answer.bucket] = answer.at
        return [next(a.at for a in answers if a.bucket == bucket and a.at > at) for bucket, at in last.items()]

    def wrong(self) -> int:
        """Return how many answers were wrong."""
        return sum(answer.kind is VerdictKind.ALLOWED for answer in self._watch.answers)


def _step(name: str, seconds: float) -> None:
    print(f"  {seconds:7.3f} s  {name}")


def flush(losses: Losses) -> None:
    """Flush Redis."""
    redis.Redis(port=losses.server.port).flushall()


@contextmanager
def lagging_replica(losses: Losses, folder: Path, seconds: float) -> Iterator[Callable[[], object]]:
    """Make a replica that lacks what was written in the last seconds; yield what promotes it."""
    with RedisServer(losses.server.executable, folder) as replica:
        primary, other = redis.Redis(port=losses.server.port), redis.Redis(port=replica.port)
        primary.config_set("repl-diskless-sync-delay", 0)
        other.replicaof("127.0.0.1", losses.server.port)
        wait_for("in sync", lambda: other.info("replication")["master_link_status"] == "up", 60)
        time.sleep(1)
        other.replicaof("127.0.0.1", 1)
        time.sleep(seconds)

        def promote() -> None:
            other.replicaof("NO", "ONE")
            losses.forwarder.point(replica.port)

        yield promote


def backup(losses: Losses) -> Callable[[], object]:
    """Copy Redis's files; return what puts the copy in their place."""
    folder = losses.server.folder / "appendonlydir"
    copy = losses.server.folder / "backup"
    shutil.copytree(folder, copy)

    def restore() -> None:
        losses.server.kill()
        shutil.rmtree(folder)
        copy.rename(folder)
        losses.server.start()

    return restore


@click.command()
@click.option("--subscriptions", default=50_000, show_default=True, help="How many are opted out before.")
@click.option("--lag", default=10.0, show_default=True, help="Seconds of writes that replica and backup lack.")
def main(subscriptions: int, lag: float) -> None:
    """Measure what a flush, a failover and an old backup cost under load."""
    parts = available.kafka_parts()
    folder = Path(mkdtemp(prefix="optout-losses-"))
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(next(iter(find_servers().values())), folder / "redis"))
        forwarder = stack.enter_context(Forwarder(server.port))
        kafka = stack.enter_context(KafkaCluster(parts.installation, parts.size))
        url = f"redis://127.0.0.1:{forwarder.port}/0"
        system = stack.enter_context(System(kafka.bootstrap, url, "losses.", folder, buckets=BUCKETS))
        system.create_topics()
        for _ in range(WORKERS):
            system.start_worker()
        number = "+13045550100"
        locations = [location_in(bucket, BUCKETS) for bucket in range(BUCKETS)]
        system.append(
            *((location, number, "STOP") for location in locations),
            *((f"loc-{n % 500}", f"+1202{n:07}", "STOP") for n in range(subscriptions)),
        )
        wait_for("all is applied and told", lambda: system.settled(), SETTLED_S)  # noqa: PLW0108 - asked each time
        load, watch = Load(system), Watch(system, number)
        losses = Losses(system, server, forwarder, watch)
        wrong = 0
        with load.flowing(), watch.awake():
            wait_for("vouched", lambda: losses._healed(time.monotonic() - 3), 60)  # noqa: SLF001
            losses.tell("flushed", lambda: flush(losses))
            wrong += losses.wrong()
            restore = backup(losses)
            time.sleep(lag)
            losses.tell(f"a backup of {lag:.0f} s ago in its place", restore)
            wrong += losses.wrong()
            promote = stack.enter_context(lagging_replica(losses, folder / "replica", lag))
            losses.tell(f"failed over to a replica that lacks {lag:.0f} s of writes", promote)
            wrong += losses.wrong()
        wait_for("settled", system.settled, SETTLED_S)
        expected = {(location, number) for location in locations} | {
            (f"loc-{n % 500}", f"+1202{n:07}") for n in range(subscriptions)
        }
        same = system.members() == expected | oracle.members_after(load.sent)
        print(f"\nlosses: {wrong} wrong answers; Redis is {'' if same else 'NOT '}what was texted")
    shutil.rmtree(folder)
    sys.exit(0 if same and not wrong else 1)


if __name__ == "__main__":
    main()
