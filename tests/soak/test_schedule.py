"""The soak's schedule: the same for the same seed, enough of everything, now close together and now apart."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.soak.schedule import (
    BROKER_KILLS,
    LANES,
    LONG_S,
    NEIGHBOUR_KINDS,
    NEIGHBOURS,
    REDIS_FAULTS,
    REDIS_KINDS,
    WORKER_KILLS,
    counts,
    floors,
    schedule,
)

SEEDS = range(20)


def test_a_seed_is_a_schedule() -> None:
    """The same seed and duration give the same faults, and another seed others."""
    assert schedule(7, 300) == schedule(7, 300)
    assert schedule(7, 300) != schedule(8, 300)


@pytest.mark.parametrize("duration", [30, 60, 300, LONG_S])
def test_it_plans_more_than_must_be_reached(duration: int) -> None:
    """Every floor is below what is planned, neighbours do each kind, and everything begins within the time there is."""
    for seed in SEEDS:
        faults, least = schedule(seed, duration), floors(duration)
        planned = counts(faults)
        assert planned["worker killed"] >= least.worker_kills
        assert planned["broker killed"] >= least.broker_kills
        assert sum(planned[kind] for kind in REDIS_KINDS) >= least.redis_faults
        assert sum(planned[kind] for kind in NEIGHBOUR_KINDS) >= least.neighbours
        assert all(planned[kind] for kind in NEIGHBOUR_KINDS)
        assert all(0 < fault.at < duration for fault in faults)


def test_the_long_run_holds_every_kind() -> None:
    """In half an hour every kind of fault comes several times, and the floors are those of the long run."""
    planned = counts(schedule(1, LONG_S))
    assert set(planned) == {kind for kinds in LANES.values() for kind in kinds}
    assert min(planned.values()) > 2
    assert floors(LONG_S)[1:] == (WORKER_KILLS, BROKER_KILLS, REDIS_FAULTS, NEIGHBOURS)


def test_faults_meet_and_leave_room() -> None:
    """Some faults begin within a second of each other, and between some there is time for everything to recover."""
    for seed in SEEDS:
        gaps = [after.at - before.at for before, after in pairwise(schedule(seed, LONG_S))]
        assert sum(gap < 1 for gap in gaps) > 20
        assert sum(gap > 10 for gap in gaps) > 10
