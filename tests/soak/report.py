"""What a run was, in lines for people: counts, shares of definite verdicts, and how long recovery took."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
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
}
"""For so long after a fault of this kind has ended a verdict may be UNKNOWN."""
CALM_S = 2.0
"""A stretch without any UNKNOWN that ends a recovery."""


@dataclass(frozen=True)
class Recovery:
    """How long after its end a fault's last UNKNOWN came; None where the next fault began before that was seen."""

    kind: str
    seconds: float | None


def definite(probes: Iterable[Probe], broken: Sequence[Broken] = ()) -> tuple[int, int]:
    """Return how many verdicts outside these faults and their stated recovery were definite, and of how many."""
    windows = merged((one.began, one.ended + RECOVERY_S[one.kind]) for one in broken)
    starts = [start for start, _ in windows]
    definite_ones = total = 0
    for probe in probes:
        number = bisect_right(starts, probe.ended) - 1
        if number >= 0 and probe.began <= windows[number][1]:
            continue
        total += 1
        definite_ones += probe.is_definite
    return definite_ones, total


def merged(windows: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the windows in order, those that meet as one."""
    found: list[tuple[float, float]] = []
    for start, end in sorted(windows):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def recoveries(probes: Iterable[Probe], broken: Sequence[Broken]) -> list[Recovery]:
    """Return how long each fault made itself felt after its end, in the order of their beginnings."""
    unknown = sorted(probe.ended for probe in probes if not probe.is_definite)
    order = sorted(broken, key=lambda one: one.began)
    begins = [one.began for one in order]
    return [Recovery(one.kind, _recovery(one, unknown, begins)) for one in order]


def _recovery(one: Broken, unknown: Sequence[float], begins: Sequence[float]) -> float | None:
    later = unknown[bisect_left(unknown, one.began) :]
    after = [one.ended, *(moment for moment in later if moment > one.ended)]
    last = one.ended
    for before, moment in pairwise(after):
        if moment - before > CALM_S:
            break
        last = moment
    following = bisect_right(begins, one.began)
    overlapped = following < len(begins) and begins[following] < last + CALM_S
    return None if overlapped else last - one.ended


def recovery_lines(found: Sequence[Recovery]) -> list[str]:
    """Return a table: the kind, how often, the median and the longest of those that no other fault met, the stated."""
    lines = [f"{'':24}{'faults':>8}{'alone':>8}{'p50 s':>8}{'max s':>8}{'stated s':>10}"]
    for kind, stated in RECOVERY_S.items():
        alone = [one.seconds for one in found if one.kind == kind and one.seconds is not None]
        times = sum(one.kind == kind for one in found)
        figures = f"{median(alone):>8.1f}{max(alone):>8.1f}" if alone else f"{'-':>8}{'-':>8}"
        lines.append(f"{kind:24}{times:>8}{len(alone):>8}{figures}{stated:>10.0f}")
    return lines


def reasons(probes: Iterable[Probe]) -> str:
    """Return how often a verdict was UNKNOWN for which reason."""
    found = Counter(probe.reason for probe in probes if not probe.is_definite)
    return ", ".join(f"{reason} {count}" for reason, count in found.most_common()) or "none"
