"""The soak's shares and recoveries are computed from the times that were written down."""

from __future__ import annotations

from tests.soak.faults import Broken
from tests.soak.records import Probe
from tests.soak.report import RECOVERY_S, definite, outside, recoveries, windows
from tests.soak.schedule import LANES

FLUSH = Broken("Redis flushed", "redis", 100.0, 100.1, "")
KILL = Broken("worker killed", "workers", 103.0, 103.0, "")


def probe(began: float, kind: str = "ALLOWED") -> Probe:
    """Return a verdict that took a hundredth of a second."""
    return Probe("kept", 20.0, ("loc-1", "+12025550101"), kind, "", began, began + 0.01)


def test_every_kind_has_a_stated_recovery() -> None:
    """The table names each kind that can be planned, and no other."""
    assert set(RECOVERY_S) == {kind for kinds in LANES.values() for kind in kinds}


def test_a_fault_of_a_worker_excuses_nothing_alone() -> None:
    """A verdict during a worker's fault must be definite; where it meets a flush, the flush takes longer."""
    assert windows([KILL]) == []
    assert windows([FLUSH]) == [(100.0, 110.1)]
    assert windows([KILL, FLUSH]) == [(100.0, 113.0)]
    assert windows([KILL._replace(began=98.0, ended=98.0), FLUSH]) == [(100.0, 110.1)]


def test_the_share_is_of_verdicts_outside_the_windows() -> None:
    """What is UNKNOWN during a fault or its recovery is not counted, and anything else is."""
    probes = [probe(99), probe(99.995, "UNKNOWN"), probe(105, "UNKNOWN"), probe(111), probe(112, "UNKNOWN")]
    assert outside(probes, [FLUSH]) == [probes[0], *probes[3:]]
    assert definite(outside(probes, [FLUSH])) == 2


def test_a_recovery_lasts_until_the_last_unknown() -> None:
    """It is measured from the fault's end; one that another fault met has no figure, one that nobody felt took none."""
    felt = [probe(100.2, "UNKNOWN"), probe(101.5, "UNKNOWN"), probe(103.09, "UNKNOWN"), probe(109, "UNKNOWN")]
    (found,) = recoveries(felt, [FLUSH])
    assert found.seconds is not None
    assert abs(found.seconds - 3.0) < 0.001
    assert next(one.seconds for one in recoveries(felt, [FLUSH, KILL])) is None
    assert recoveries([probe(101)], [FLUSH])[0].seconds == 0
