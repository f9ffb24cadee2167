"""What is broken when: a pure function of a seed and a duration.

Faults come in three lanes. Within a lane they follow each other; across lanes they meet as chance will have it.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

LONG_S = 1800
"""The long run, which the figures below are of; a shorter one has its share of each."""
RECORDS, WORKER_KILLS, BROKER_KILLS, REDIS_FAULTS = 100_000, 200, 20, 30
QUIET_START_S, QUIET_END_S = 4.0, 3.0

WORKERS = 3
BROKERS = 3

WORKER_KINDS = ("worker killed", "worker paused", "rolling restart")
BROKER_KINDS = ("broker killed", "broker paused")
REDIS_KINDS = (
    "rolled-back failover",
    "Redis killed",
    "old copy restored",
    "connections cut",
    "AOF tail truncated",
    "Redis flushed",
    "connections delayed",
    "Redis paused",
    "answers held back",
)
LANES = {"workers": WORKER_KINDS, "brokers": BROKER_KINDS, "redis": REDIS_KINDS}


class Fault(NamedTuple):
    """One thing that is broken: when it begins and how long it stays broken, in seconds; `target` says which."""

    at: float
    lane: str
    kind: str
    seconds: float = 0.0
    target: int = 0


class Floors(NamedTuple):
    """What a run must have reached to count."""

    records: int
    worker_kills: int
    broker_kills: int
    redis_faults: int


def floors(duration: float) -> Floors:
    """Return the share of the long run's figures that a run of so many seconds must reach."""
    share = duration / LONG_S
    least = (max(1, math.floor(figure * share)) for figure in (RECORDS, WORKER_KILLS, BROKER_KILLS, REDIS_FAULTS))
    return Floors(*least)


def schedule(seed: int, duration: float) -> list[Fault]:
    """Return the faults of a run in the order of their times."""
    chance = random.Random(f"{seed}/{duration}")
    return sorted([*_workers(chance, duration), *_brokers(chance, duration), *_redis(chance, duration)])


def _slots(chance: random.Random, duration: float, count: int, spread: float) -> list[float]:
    """Return `count` times, evenly apart but for a share `spread` of the step by which each is moved."""
    step = (duration - QUIET_START_S - QUIET_END_S) / count
    return [QUIET_START_S + step * (number + spread * chance.random()) for number in range(count)]


def _workers(chance: random.Random, duration: float) -> list[Fault]:
    """Kills in bursts of one to four, so that some of them hit a rebalance and between bursts all can recover.

    Each seventh fault is a pause that outlasts the session, which makes a zombie, and some restart everybody in order.
    """
    kills = math.ceil(floors(duration).worker_kills * 1.1)
    bursts: list[int] = []
    while (left := kills - sum(bursts)) > 0:
        bursts.append(min(left, chance.randint(1, 4)))
    pauses, restarts = max(1, kills // 7), max(1, round(duration / 150))
    begun: list[int | str] = [*bursts, *["worker paused"] * pauses, *["rolling restart"] * restarts]
    chance.shuffle(begun)
    faults = []
    for at, what in zip(_slots(chance, duration, len(begun), 0.4), begun, strict=True):
        if isinstance(what, int):
            moments = sorted(chance.uniform(0, 4) for _ in range(what))
            faults += [Fault(at + m, "workers", "worker killed", 0, chance.randrange(WORKERS)) for m in moments]
        else:
            seconds = chance.uniform(1, 8) if what == "worker paused" else 0.0
            faults.append(Fault(at, "workers", what, seconds, chance.randrange(WORKERS)))
    return faults


def _brokers(chance: random.Random, duration: float) -> list[Fault]:
    kills = math.ceil(floors(duration).broker_kills * 1.1)
    kinds = ["broker killed"] * kills + ["broker paused"] * (kills // 4)
    chance.shuffle(kinds)
    times = _slots(chance, duration, len(kinds), 0.5)
    return [
        Fault(at, "brokers", kind, chance.uniform(2, 6), chance.randrange(BROKERS))
        for at, kind in zip(times, kinds, strict=True)
    ]


def _redis(chance: random.Random, duration: float) -> list[Fault]:
    """Go through all kinds again and again, each time in another order; a short run reaches some of them."""
    count = max(math.ceil(floors(duration).redis_faults * 1.2), min(len(REDIS_KINDS), int(duration // 14)), 1)
    kinds: list[str] = []
    while len(kinds) < count:
        kinds += chance.sample(REDIS_KINDS, len(REDIS_KINDS))
    times = _slots(chance, duration, count, 0.4)
    return [
        Fault(at, "redis", kind, chance.uniform(1, 5), chance.randrange(2))
        for at, kind in zip(times, kinds, strict=False)
    ]


def counts(faults: Iterable[Fault]) -> Counter[str]:
    """Return how many faults there are of each kind."""
    return Counter(fault.kind for fault in faults)
