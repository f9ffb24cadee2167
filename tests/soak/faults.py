"""Breaks things when the schedule says so, one thread a lane, and writes down from when to when each was broken."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.soak.schedule import LANES, WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.parts.kafka import KafkaCluster
    from tests.soak.crew import Crew
    from tests.soak.ground import Ground
    from tests.soak.neighbours import Neighbours
    from tests.soak.schedule import Fault

DELAY_S = 0.15
KILL_S = 10.0
"""For so long a killer waits for a victim, where all workers are down."""


class Broken(NamedTuple):
    """One fault as it was: times of time.monotonic(), and a word on it."""

    kind: str
    lane: str
    began: float
    ended: float
    note: str


class Breaker:
    """Carries a schedule out. A lane that is late goes on at once: what is late is not left out."""

    def __init__(
        self, faults: Sequence[Fault], crew: Crew, kafka: KafkaCluster, ground: Ground, neighbours: Neighbours
    ) -> None:
        self._faults = faults
        self._crew = crew
        self._kafka = kafka
        self._ground = ground
        self._neighbours = neighbours
        self._stop = threading.Event()
        self._hands: dict[str, Callable[[Fault], str | None]] = {
            "worker killed": self._kill_worker,
            "worker paused": self._pause_worker,
            "rolling restart": self._restart_workers,
            "broker killed": self._kill_broker,
            "broker paused": self._pause_broker,
            "Redis killed": self._kill_redis,
            "Redis paused": self._pause_redis,
            "Redis flushed": self._flush,
            "AOF tail truncated": self._truncate,
            "old copy restored": self._restore,
            "rolled-back failover": self._fail_over,
            "connections cut": self._cut,
            "connections delayed": self._delay,
            "answers held back": self._hold,
            "stranger in a group": self._join,
            "transaction left open": self._leave_open,
            "poison record": self._poison,
        }
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), name=f"faults: {lane}", daemon=True) for lane in LANES
        ]
        self.broken: list[Broken] = []
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._ground.copy()
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.join(60)

    def join(self, seconds: float) -> None:
        """Wait until every lane is through."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self.failures.append(f"{thread.name} is not through")

    def counts(self) -> Counter[str]:
        """Return how often each kind came to pass."""
        return Counter(one.kind for one in self.broken)

    def _run(self, lane: str) -> None:
        for number, fault in enumerate(fault for fault in self._faults if fault.lane == lane):
            if self._stop.wait(max(0.0, self._began + fault.at - time.monotonic())):
                return
            began = time.monotonic()
            try:
                note = self._hands[fault.kind](fault)
            except Exception as problem:  # noqa: BLE001 - the other faults are to come all the same; the run has failed
                self.failures.append(f"{fault.kind} could not be brought about: {type(problem).__name__}: {problem}")
                continue
            if note is not None:
                self.broken.append(Broken(fault.kind, lane, began, time.monotonic(), note))
            if lane == "redis" and number % 2:
                self._ground.copy()

    def _kill_worker(self, fault: Fault) -> str | None:
        until = time.monotonic() + KILL_S
        while time.monotonic() < until:  # one that is down already cannot be killed
            for slot in range(fault.target, fault.target + WORKERS):
                if self._crew.kill(slot % WORKERS):
                    return f"worker {slot % WORKERS}"
            self._stop.wait(0.1)
        return None

    def _pause_worker(self, fault: Fault) -> str | None:
        if not self._crew.pause(fault.target):
            return None
        self._stop.wait(fault.seconds)
        self._crew.resume(fault.target)
        return f"worker {fault.target} for {fault.seconds:.1f} s"

    def _restart_workers(self, _: Fault) -> str:
        for slot in range(WORKERS):
            self._crew.restart(slot)
        return "one after the other"

    def _kill_broker(self, fault: Fault) -> str:
        self._kafka.kill_broker(fault.target % self._kafka.size)
        return self._heal_brokers(fault)

    def _pause_broker(self, fault: Fault) -> str:
        self._kafka.pause_broker(fault.target % self._kafka.size)
        return self._heal_brokers(fault)

    def _heal_brokers(self, fault: Fault) -> str:
        self._stop.wait(fault.seconds)
        self._kafka.heal()
        return f"broker {fault.target} for {fault.seconds:.1f} s, then until every replica was in sync"

    def _kill_redis(self, fault: Fault) -> str:
        self._ground.server.kill()
        self._stop.wait(fault.seconds)
        self._ground.server.start()
        return f"for {fault.seconds:.1f} s"

    def _pause_redis(self, fault: Fault) -> str:
        self._ground.pause()
        self._stop.wait(fault.seconds)
        self._ground.resume()
        return f"for {fault.seconds:.1f} s"

    def _flush(self, _: Fault) -> str:
        with self._ground.client() as client:
            return f"{client.dbsize()} keys" if client.flushall() else "refused"

    def _truncate(self, fault: Fault) -> str:
        self._ground.server.kill()
        self._stop.wait(fault.seconds)
        lost = self._ground.truncate()
        self._ground.server.start()
        return f"{lost} bytes"

    def _restore(self, _: Fault) -> str:
        return f"a copy {self._ground.restore():.0f} s old"

    def _fail_over(self, fault: Fault) -> str:
        isolate = fault.target == 1
        lacking = self._ground.fail_over(fault.seconds, isolate=isolate)
        return f"the replica lacked {lacking} bytes" + (", the old primary runs on" if isolate else "")

    def _cut(self, _: Fault) -> str:
        self._ground.front.cut()
        return "all of them"

    def _delay(self, fault: Fault) -> str:
        self._ground.front.delay(DELAY_S)
        self._stop.wait(fault.seconds)
        self._ground.front.delay(0)
        return f"by {DELAY_S} s each way for {fault.seconds:.1f} s"

    def _hold(self, fault: Fault) -> str:
        self._ground.front.hold()
        self._stop.wait(fault.seconds)
        self._ground.front.release()
        return f"for {fault.seconds:.1f} s, then delivered late"

    def _join(self, fault: Fault) -> str:
        return self._neighbours.strangers.join(fault.target, fault.seconds, self._stop)

    def _leave_open(self, fault: Fault) -> str:
        return self._neighbours.transactions.leave_open(fault.target, fault.seconds, self._stop)

    def _poison(self, fault: Fault) -> str:
        return self._neighbours.poison.put(fault.target)
