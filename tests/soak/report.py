"""What a run was, in lines for people: counts, shares of definite verdicts, and how long recovery took."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.soak.faults import Broken
    from tests.soak.records import Probe

RECOVERY_S = {
    "worker killed": 0.0,
    "worker paused": 0.0,
    "rolling restart": 0.0,
    "broker killed": 10.0,
    "broker paused": 10.0,
    "Redis killed": 10.0,
    "Redis paused": 10.0,
    "Redis flushed": 10.0,
    "AOF tail truncated": 10.0,
    "old copy restored": 10.0,
    "rolled-back failover": 10.0,
    "connections cut": 10.0,
    "connections delayed": 10.0,
    "answers held back": 10.0,
    "stranger in a group": 0.0,
    "transaction left open": 0.0,
    "poison record": 0.0,
}
"""For so long after a fault of this kind has ended a verdict may be UNKNOWN."""
MEETING_S = 10.0
"""A fault of the workers or of a neighbour makes no verdict UNKNOWN, for guards accept an older answer. But what it
meets takes so much longer: nobody vouches meanwhile."""
CALM_S = 2.0
"""A stretch without any UNKNOWN that ends a recovery."""


@dataclass(frozen=True)
class Recovery:
    """How long after its end a fault's last UNKNOWN came; None where another fault met it."""

    kind: str
    seconds: float | None


def outside(probes: Iterable[Probe], broken: Sequence[Broken]) -> list[Probe]:
    """Return the verdicts that were given outside these faults and their stated recovery."""
    excused = windows(broken)
    starts = [start for start, _ in excused]
    found = []
    for probe in probes:
        number = bisect_right(starts, probe.ended) - 1
        if number < 0 or probe.began > excused[number][1]:
            found.append(probe)
    return found


def definite(probes: Iterable[Probe]) -> int:
    """Return how many of these verdicts a sender can act on."""
    return sum(probe.is_definite for probe in probes)


def windows(broken: Sequence[Broken]) -> list[tuple[float, float]]:
    """Return from when to when a verdict may be UNKNOWN: each fault with its recovery, those that meet as one.

    What befalls workers, or neighbours do, is no reason by itself. Where it meets another fault it makes that one's
    window longer.
    """
    no_reason = [one for one in broken if not RECOVERY_S[one.kind]]
    others = merged((one.began, one.ended + RECOVERY_S[one.kind]) for one in broken if RECOVERY_S[one.kind])
    longer = merged([*others, *((one.began, one.ended + MEETING_S) for one in no_reason)])
    found = []
    for start, end in longer:
        if within := [other for other, _ in others if start <= other <= end]:
            found.append((within[0], end))
    return found


def merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the spans in order, those that meet as one."""
    found: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def recoveries(probes: Iterable[Probe], broken: Sequence[Broken]) -> list[Recovery]:
    """Return how long each fault made itself felt after its end, in the order of their beginnings."""
    unknown = sorted(probe.ended for probe in probes if not probe.is_definite)
    return [Recovery(one.kind, _recovery(one, unknown, broken)) for one in sorted(broken, key=lambda one: one.began)]


def _recovery(one: Broken, unknown: Sequence[float], broken: Sequence[Broken]) -> float | None:
    first = bisect_left(unknown, one.began)
    if first and unknown[first - 1] > one.began - CALM_S:
        return None  # something else was still felt
    last = one.ended
    for moment in unknown[bisect_left(unknown, one.ended) :]:
        if moment - last > CALM_S:
            break
        last = moment
    met = any(other.began < last + CALM_S and other.ended > one.began - CALM_S for other in broken if other is not one)
    return None if met else last - one.ended


def recovery_lines(found: Sequence[Recovery]) -> list[str]:
    """Return a table: the kind, how often, the median and the longest of those that no other fault met, the stated."""
    lines = [f"{'':24}{'faults':>8}{'alone':>8}{'p50 s':>8}{'max s':>8}{'stated s':>10}"]
    for kind, stated in RECOVERY_S.items():
        alone = [one.seconds for one in found if one.kind == kind and one.seconds is not None]
        times = sum(one.kind == kind for one in found)
        figures = f"{median(alone):>8.1f}{max(alone):>8.1f}" if alone else f"{'-':>8}{'-':>8}"
        lines.append(f"{kind:24}{times:>8}{len(alone):>8}{figures}{stated:>10.0f}")
    return lines


def stretches(probes: Iterable[Probe]) -> list[tuple[float, float, str]]:
    """Return from when to when verdicts were UNKNOWN again and again, and for which reasons."""
    found: list[list[Probe]] = []
    for probe in sorted((probe for probe in probes if not probe.is_definite), key=lambda probe: probe.ended):
        if found and probe.began - found[-1][-1].ended < CALM_S / 2:
            found[-1].append(probe)
        else:
            found.append([probe])
    return [(stretch[0].began, stretch[-1].ended, reasons(stretch)) for stretch in found]


def reasons(probes: Iterable[Probe]) -> str:
    """Return how often a verdict was UNKNOWN for which reason."""
    found = Counter(probe.reason for probe in probes if not probe.is_definite)
    return ", ".join(f"{reason} {count}" for reason, count in found.most_common()) or "none"
