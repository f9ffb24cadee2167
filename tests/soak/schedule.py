"""What is broken when: a pure function of a seed and a duration.

Faults come in four lanes. Within a lane they follow each other; across lanes they meet as chance will have it.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LONG_S = 1800
"""The long run, which the figures below are of; a shorter one has its share of each."""
RECORDS, WORKER_KILLS, BROKER_KILLS, REDIS_FAULTS, NEIGHBOURS = 100_000, 200, 20, 30, 60
MORE = 1.15
"""More is planned than must be reached: a worker that is down when its turn comes cannot be killed."""
QUIET_START_S, QUIET_END_S = 4.0, 3.0
ALONE_SHARE = 0.4
"""Share of the time in which one fault has everything to itself, with the seconds before and after it."""
BEFORE_S, AFTER_S = 5.0, {"redis": 12.0, "brokers": 25.0}

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
NEIGHBOUR_KINDS = ("stranger in a group", "transaction left open", "poison record")
"""What other programs do that use the same Kafka."""
LANES = {"workers": WORKER_KINDS, "brokers": BROKER_KINDS, "redis": REDIS_KINDS, "neighbours": NEIGHBOUR_KINDS}


class Fault(NamedTuple):
    """One thing that is broken: when it begins, how long it stays broken, in seconds, and by `target` which, or how."""

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
    neighbours: int


def floors(duration: float) -> Floors:
    """Return the share of the long run's figures that a run of so many seconds must reach."""
    share = duration / LONG_S
    figures = (RECORDS, WORKER_KILLS, BROKER_KILLS, REDIS_FAULTS, NEIGHBOURS)
    return Floors(*(max(1, math.floor(figure * share)) for figure in figures))


def schedule(seed: int, duration: float) -> list[Fault]:
    """Return the faults of a run in the order of their times.

    Some come alone, with time to recover, so that it can be measured how long that takes; the others meet.
    """
    chance = random.Random(f"{seed}/{duration}")
    redis, brokers = _redis(chance, duration), _brokers(chance, duration)
    alone = [*redis[: len(redis) // 2], *brokers[: len(brokers) // 3]]
    chance.shuffle(alone)
    time = _Time(duration, alone)
    together = [fault for fault in (*redis, *brokers) if fault not in time.alone]
    chance.shuffle(together)
    faults = list(time.alone.values())
    for lane in ("redis", "brokers"):
        mine = [fault for fault in together if fault.lane == lane]
        times = _slots(chance, time.busy, len(mine), 0.5)
        faults += [fault._replace(at=time.at(at)) for fault, at in zip(mine, times, strict=True)]
    workers = _workers(chance, duration)
    for what, at in zip(workers, _slots(chance, time.busy, len(workers), 0.4), strict=True):
        faults += [fault._replace(at=time.at(at) + fault.at) for fault in what]
    neighbours = _neighbours(chance, duration)
    times = _slots(chance, time.busy, len(neighbours), 0.3)
    faults += [fault._replace(at=time.at(at)) for fault, at in zip(neighbours, times, strict=True)]
    return sorted(faults)


class _Time:
    """The time of a run: windows in which one fault has everything to itself, and busy time between them."""

    def __init__(self, duration: float, wanted: Sequence[Fault]) -> None:
        whole = duration - QUIET_START_S - QUIET_END_S
        chosen, taken = [], 0.0
        for fault in wanted:
            if taken + _window(fault) <= ALONE_SHARE * whole:
                chosen.append(fault)
                taken += _window(fault)
        self.busy = whole - taken
        self._piece = self.busy / (len(chosen) + 1)
        self._windows = [_window(fault) for fault in chosen]
        self.alone = {}
        for number, fault in enumerate(chosen):
            begin = QUIET_START_S + self._piece * (number + 1) + sum(self._windows[:number])
            self.alone[fault] = fault._replace(at=begin + BEFORE_S)

    def at(self, busy: float) -> float:
        """Return the time in the run of a moment in busy time."""
        return QUIET_START_S + busy + sum(self._windows[: int(busy / self._piece)])


def _window(fault: Fault) -> float:
    return BEFORE_S + fault.seconds + AFTER_S[fault.lane]


def _slots(chance: random.Random, span: float, count: int, spread: float) -> list[float]:
    """Return `count` moments of a span, evenly apart but for a share `spread` of the step by which each is moved."""
    return [span / count * (number + spread * chance.random()) for number in range(count)]


def _workers(chance: random.Random, duration: float) -> list[list[Fault]]:
    """Return bursts of one to four kills within four seconds, so that some hit a rebalance; `at` counts from the first.

    Between them come pauses, most of which outlast the session and make a zombie, and restarts of everybody in order.
    """
    kills = math.ceil(floors(duration).worker_kills * MORE)
    bursts: list[list[Fault]] = []
    while (left := kills - sum(map(len, bursts))) > 0:
        moments = sorted(chance.uniform(0, 4) for _ in range(min(left, chance.randint(1, 4))))
        bursts.append([Fault(at, "workers", "worker killed", 0.0, chance.randrange(WORKERS)) for at in moments])
    bursts += [
        [Fault(0.0, "workers", "worker paused", chance.uniform(1, 8), chance.randrange(WORKERS))]
        for _ in range(max(1, kills // 7))
    ]
    bursts += [[Fault(0.0, "workers", "rolling restart")]] * max(1, round(duration / 150))
    chance.shuffle(bursts)
    return bursts


def _brokers(chance: random.Random, duration: float) -> list[Fault]:
    kills = math.ceil(floors(duration).broker_kills * MORE)
    kinds = ["broker killed"] * kills + ["broker paused"] * (kills // 4)
    chance.shuffle(kinds)
    return [Fault(0.0, "brokers", kind, chance.uniform(2, 6), chance.randrange(BROKERS)) for kind in kinds]


def _redis(chance: random.Random, duration: float) -> list[Fault]:
    """Go through all kinds again and again, each time in another order; a short run reaches some of them."""
    count = max(math.ceil(floors(duration).redis_faults * MORE), min(len(REDIS_KINDS), int(duration // 14)), 1)
    kinds: list[str] = []
    while len(kinds) < count:
        kinds += chance.sample(REDIS_KINDS, len(REDIS_KINDS))
    return [Fault(0.0, "redis", kind, chance.uniform(1, 5), chance.randrange(2)) for kind in kinds[:count]]


def _neighbours(chance: random.Random, duration: float) -> list[Fault]:
    """Go through the kinds again and again, and through the ways of each: `target` counts on from a random number."""
    count = max(math.ceil(floors(duration).neighbours * MORE), len(NEIGHBOUR_KINDS))
    ways = {kind: chance.randrange(100) for kind in NEIGHBOUR_KINDS}
    found: list[Fault] = []
    while len(found) < count:
        for kind in chance.sample(NEIGHBOUR_KINDS, len(NEIGHBOUR_KINDS)):
            found.append(Fault(0.0, "neighbours", kind, chance.uniform(2, 6), ways[kind]))
            ways[kind] += 1
    return found[:count]


def counts(faults: Iterable[Fault]) -> Counter[str]:
    """Return how many faults there are of each kind."""
    return Counter(fault.kind for fault in faults)
