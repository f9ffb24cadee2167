"""Senders: guards that are asked all the time, and a queue that holds messages and asks again before it sends."""

from __future__ import annotations

import heapq
import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Self

from tests.soak import askers
from tests.soak.askers import LIMIT_S
from tests.soak.records import Probe
from tests.soak.traffic import patients

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.parts.oracle import Subscription
    from tests.soak.askers import Asker
    from tests.soak.traffic import Traffic

PAUSE_S = 0.04
HOT = 0.7
HELD_S = 8.0
QUEUE_EVERY_S = 0.15
STOPPED = 0.4
"""Share of the queue's messages whose patient texts STOP while they are held."""


class Probes:
    """A thread for each way to ask, and one for the queue."""

    def __init__(self, url: str, buckets: int, traffic: Traffic, seed: int) -> None:
        self._traffic = traffic
        self._everybody = patients()
        self._stop = threading.Event()
        self._seed = seed
        self._asker = partial(askers.Python, url, buckets, LIMIT_S)
        kinds: list[tuple[str, float | None, Callable[[], Asker]]] = [
            ("kept", LIMIT_S, self._asker),
            ("any age", None, partial(askers.Python, url, buckets, None)),
            ("fresh connection", LIMIT_S, partial(askers.Fresh, url, buckets)),
            (askers.CATCH_UP, 0.0, partial(askers.Python, url, buckets, LIMIT_S, askers.CATCH_UP_S)),
            ("asyncio", LIMIT_S, partial(askers.Asyncio, url, buckets)),
            ("http", LIMIT_S, partial(askers.Http, url, buckets)),
            ("javascript", LIMIT_S, partial(askers.JavaScript, url, buckets)),
        ]
        self._threads = [threading.Thread(target=self._ask, args=kind, name=kind[0], daemon=True) for kind in kinds]
        self._threads.append(threading.Thread(target=self._queue, name="queue", daemon=True))
        self.verdicts: list[Probe] = []
        self.failures: list[str] = []
        self.held_across_stop = 0
        self.sent = 0
        self.withheld = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def _ask(self, name: str, limit: float | None, make: Callable[[], Asker]) -> None:
        chance = random.Random(f"{self._seed}/{name}")
        try:
            with make() as asker:
                while not self._stop.wait(PAUSE_S):
                    self._probe(asker, name, limit, self._somebody(chance))
        except Exception as problem:  # noqa: BLE001 - whatever it is, a way to ask has ended
            self.failures.append(f"the guard '{name}' ended: {type(problem).__name__}: {problem}")

    def _somebody(self, chance: random.Random) -> Subscription:
        recent = list(self._traffic.recent)
        return chance.choice(recent if recent and chance.random() < HOT else self._everybody)

    def _probe(self, asker: Asker, name: str, limit: float | None, patient: Subscription) -> Probe:
        began = time.monotonic()
        said = asker.ask(*patient)
        probe = Probe(name, limit, patient, said.kind, said.reason, began, time.monotonic(), said.age)
        self.verdicts.append(probe)
        return probe

    def _queue(self) -> None:
        """Ask, hold for seconds, ask again, and send only then; some patients text STOP meanwhile."""
        chance = random.Random(f"{self._seed}/queue")
        asker = self._asker()
        held: list[tuple[float, Subscription, bool]] = []
        while not self._stop.wait(QUEUE_EVERY_S):
            patient = chance.choice(self._everybody)
            if self._probe(asker, "queue, first", LIMIT_S, patient).kind == "ALLOWED":
                stopped = chance.random() < STOPPED
                if stopped:
                    self._traffic.stop_now(patient)
                heapq.heappush(held, (time.monotonic() + chance.uniform(0.5, HELD_S), patient, stopped))
            while held and held[0][0] <= time.monotonic():
                _, patient, stopped = heapq.heappop(held)
                allowed = self._probe(asker, "queue, last hop", LIMIT_S, patient).kind == "ALLOWED"
                self.sent += allowed
                self.withheld += not allowed
                self.held_across_stop += stopped
