"""One run: a deployment of its own, traffic, senders, and everything that breaks it; then the evidence."""

from __future__ import annotations

import secrets
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from redis import RedisError

from tests.parts.kafka import wait_until
from tests.parts.system import System, wait_for
from tests.soak.checker import place_in
from tests.soak.claims import Claims
from tests.soak.crew import Crew
from tests.soak.faults import Breaker
from tests.soak.ground import Ground
from tests.soak.listener import Listener
from tests.soak.neighbours import neighbours
from tests.soak.outcome import Evidence, judge
from tests.soak.poison import LIMITS
from tests.soak.probes import Probes
from tests.soak.schedule import WORKERS, schedule
from tests.soak.traffic import Traffic

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.kafka import KafkaCluster
    from tests.soak.outcome import Outcome

BUCKETS = 16
PER_SECOND = 70.0
READY_S, SETTLE_S, LANES_S, DELIVER_S, CALM_S = 120.0, 120.0, 120.0, 60.0, 5.0
PROGRESS_S = 10.0


def say(line: str) -> None:
    """Print at once, whoever reads."""
    print(line, flush=True)  # noqa: T201


class Soak:
    """A run of `duration` seconds of faults on this cluster and this Redis server, with its logs in `folder`."""

    def __init__(self, kafka: KafkaCluster, redis: Path, folder: Path, *, seed: int, duration: float) -> None:
        self._kafka = kafka
        self._redis = redis
        self._folder = folder
        self._seed = seed
        self._duration = duration
        self._problems: list[str] = []

    def run(self) -> Outcome:
        """Run to the end and return what is to be thought of it."""
        planned = schedule(self._seed, self._duration)
        with ExitStack() as parts:
            ground = parts.enter_context(Ground(self._redis, self._folder))
            system = parts.enter_context(self._system(ground))
            self._crew = parts.enter_context(Crew(system, WORKERS))
            self._listener = parts.enter_context(Listener(system))
            self._traffic = parts.enter_context(Traffic(system, self._seed, PER_SECOND))
            self._claims = parts.enter_context(Claims(system, ground.url, BUCKETS))
            self._probes = parts.enter_context(Probes(ground.url, BUCKETS, self._traffic, self._seed))
            wait_for("a first verdict is definite", lambda: any(p.is_definite for p in self._probes.verdicts), READY_S)
            self._faults_from = time.monotonic()
            self._neighbours = neighbours(system, self._traffic, self._folder, self._seed)
            self._breaker = parts.enter_context(Breaker(planned, self._crew, self._kafka, ground, self._neighbours))
            self._go_on()
            self._breaker.join(LANES_S)
            self._settle(system)
            self._crew.end_all()
            evidence = self._evidence(system)
        outcome = judge(evidence, planned, self._duration)
        outcome.problems[:0] = self._problems
        return outcome

    def _system(self, ground: Ground) -> System:
        folder = self._folder / "workers"
        folder.mkdir()
        system = System(self._kafka.bootstrap, ground.url, f"soak-{secrets.token_hex(3)}.", folder, buckets=BUCKETS)
        system.topics["second"] = f"{system.prefix}sms.inbound.second"
        system.environment["OPTOUT_INBOUND_TOPICS"] = f"{system.topics['inbound']},{system.topics['second']}"
        system.environment |= LIMITS
        system.environment["PYTHONFAULTHANDLER"] = "1"  # what a worker does when it is aborted: it says where it stands
        system.create_topics()
        wait_until(lambda: bool(system.ends("changed")), "the topic of the changes has leaders", READY_S)
        return system

    def _go_on(self) -> None:
        """Wait until the time is over, with a line now and then at a terminal."""
        while (passed := time.monotonic() - self._faults_from) < self._duration:
            time.sleep(min(PROGRESS_S, self._duration - passed))
            if sys.stdout.isatty():
                unknown = sum(not probe.is_definite for probe in self._probes.verdicts[-100:])
                say(
                    f"{passed + PROGRESS_S:5.0f} s: {self._traffic.acked} records, {len(self._breaker.broken)} faults, "
                    f"{len(self._listener.told)} changes, {len(self._probes.verdicts)} probes, "
                    f"of the last 100 {unknown} UNKNOWN"
                )

    def _settle(self, system: System) -> None:
        """Let traffic end and everything come to rest; the senders go on asking for a while."""
        if left := self._traffic.finish(DELIVER_S):
            self._problems.append(f"{left} texts did not reach Kafka")
        self._neighbours.transactions.settle()
        began = time.monotonic()
        try:
            wait_for("everything is read, applied and told", lambda: _settled(system), SETTLE_S)
        except AssertionError as problem:
            self._problems.append(f"{problem}; where each worker's threads stood is at the end of its log")
            self._crew.abort_all()
        say(f"at rest {time.monotonic() - began:.1f} s after the last text was in Kafka")
        time.sleep(CALM_S)
        self._probes.__exit__()

    def _evidence(self, system: System) -> Evidence:
        return Evidence(
            texts=self._traffic.texts,
            acked=self._traffic.acked,
            told=list(self._listener.told),
            probes=self._probes,
            claims=list(self._claims.claims),
            ledger=system.read("ledger", without=self._neighbours.poison.in_ledger),
            changed=system.read("changed"),
            confirmations=system.read("confirmations"),
            letters=[place_in(written.record["headers"]) for written in system.read("dead")],
            poison=self._neighbours.poison.letters,
            members=system.members(),
            crew=self._crew,
            breaker=self._breaker,
            neighbours=self._neighbours.lines(),
            faults_from=self._faults_from,
        )


def _settled(system: System) -> bool:
    """Whether everything is read, applied and told: a change leaves the outbox when it is known to be told.

    Of the classifiers' offsets it looks at the copy, which no stranger overwrites.
    """
    try:
        if any(system.committed("classify.kept", role) != system.ends(role) for role in ("inbound", "second")):
            return False
        return system.metas("applied") == system.ends("ledger") and not any(system.metas("outbox").values())
    except (RedisError, KafkaException):  # not now
        return False
