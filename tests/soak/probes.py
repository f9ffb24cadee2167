"""Senders: guards that are asked all the time, and a queue that holds messages and asks again before it sends."""

from __future__ import annotations

import heapq
import random
import threading
import time
from typing import TYPE_CHECKING, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consumer.guard import Guard
from tests.soak.records import Probe
from tests.soak.traffic import patients

if TYPE_CHECKING:
    from tests.parts.oracle import Subscription
    from tests.soak.traffic import Traffic

LIMIT_S = 20.0
TIMEOUT_S = 1.0
PAUSE_S = 0.04
HOT = 0.7
HELD_S = 8.0
QUEUE_EVERY_S = 0.15
STOPPED = 0.4
"""Share of the queue's messages whose patient texts STOP while they are held."""


class Probes:
    """Four threads: two guards that keep their connection, one that makes a new one each time, and the queue."""

    def __init__(self, url: str, buckets: int, traffic: Traffic, seed: int) -> None:
        self._url = url
        self._buckets = buckets
        self._traffic = traffic
        self._everybody = patients()
        self._stop = threading.Event()
        self._seed = seed
        self._threads = [
            threading.Thread(target=self._ask, args=("kept", LIMIT_S), name="kept", daemon=True),
            threading.Thread(target=self._ask, args=("any age", None), name="any-age", daemon=True),
            threading.Thread(target=self._ask, args=("fresh connection", LIMIT_S), name="fresh", daemon=True),
            threading.Thread(target=self._queue, name="queue", daemon=True),
        ]
        self.verdicts: list[Probe] = []
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

    def _guard(self, limit: float | None) -> tuple[Guard, redis.Redis]:
        client = redis.Redis.from_url(
            self._url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
        return Guard(client, buckets=self._buckets, max_staleness=limit), client

    def _ask(self, name: str, limit: float | None) -> None:
        chance = random.Random(f"{self._seed}/{name}")
        guard, client = self._guard(limit)
        while not self._stop.wait(PAUSE_S):
            if name == "fresh connection":
                guard, client = self._guard(limit)
            self._probe(guard, name, limit, self._somebody(chance))
            if name == "fresh connection":
                client.close()

    def _somebody(self, chance: random.Random) -> Subscription:
        recent = list(self._traffic.recent)
        return chance.choice(recent if recent and chance.random() < HOT else self._everybody)

    def _probe(self, guard: Guard, name: str, limit: float | None, patient: Subscription) -> Probe:
        began = time.monotonic()
        verdict = guard.check(*patient)
        probe = Probe(name, limit, patient, str(verdict.kind), str(verdict.reason or ""), began, time.monotonic())
        self.verdicts.append(probe)
        return probe

    def _queue(self) -> None:
        """Ask, hold for seconds, ask again, and send only then; some patients text STOP meanwhile."""
        chance = random.Random(f"{self._seed}/queue")
        guard, _ = self._guard(LIMIT_S)
        held: list[tuple[float, Subscription, bool]] = []
        while not self._stop.wait(QUEUE_EVERY_S):
            patient = chance.choice(self._everybody)
            if self._probe(guard, "queue, first", LIMIT_S, patient).kind == "ALLOWED":
                stopped = chance.random() < STOPPED
                if stopped:
                    self._traffic.stop_now(patient)
                heapq.heappush(held, (time.monotonic() + chance.uniform(0.5, HELD_S), patient, stopped))
            while held and held[0][0] <= time.monotonic():
                _, patient, stopped = heapq.heappop(held)
                allowed = self._probe(guard, "queue, last hop", LIMIT_S, patient).kind == "ALLOWED"
                self.sent += allowed
                self.withheld += not allowed
                self.held_across_stop += stopped
