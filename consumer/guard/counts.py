"""What a guard has answered so far, and how long it took: for the host program's own metrics.

With prometheus-client there, `register` shows it in a registry.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from consumer.guard.verdict import Unknown, VerdictKind

    Told = tuple[VerdictKind, Unknown | None, int]
    """A verdict's kind and reason, and how many were so."""

BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class GuardCounts:
    """Counts since the guard was made.

    `verdicts` and `claims` by kind and reason; a claim is a question for the pass of a confirmation. `checks` is how
    many checks there were, of one number or many, `seconds` what they took in all, and `slower_than` how many of them
    took longer than each of BOUNDS_S.
    """

    verdicts: Mapping[tuple[VerdictKind, Unknown | None], int]
    claims: Mapping[tuple[VerdictKind, Unknown | None], int]
    checks: int
    seconds: float
    slower_than: Mapping[float, int]


class Tally:
    """Counts. Safe to share among threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._verdicts: Counter[tuple[VerdictKind, Unknown | None]] = Counter()
        self._claims: Counter[tuple[VerdictKind, Unknown | None]] = Counter()
        self._took = [0] * (len(BOUNDS_S) + 1)
        self._seconds = 0.0

    def checked(self, seconds: float, told: Iterable[Told]) -> None:
        """Count one check."""
        bound = bisect_left(BOUNDS_S, seconds)
        with self._lock:
            self._took[bound] += 1
            self._seconds += seconds
            for kind, reason, times in told:
                self._verdicts[kind, reason] += times

    def claimed(self, kind: VerdictKind, reason: Unknown | None) -> None:
        """Count one claim."""
        with self._lock:
            self._claims[kind, reason] += 1

    def counts(self) -> GuardCounts:
        """Return what was counted up to now."""
        with self._lock:
            took, seconds = list(self._took), self._seconds
            verdicts, claims = dict(self._verdicts), dict(self._claims)
        checks = sum(took)
        faster = dict(zip(BOUNDS_S, accumulate(took), strict=False))
        return GuardCounts(verdicts, claims, checks, seconds, {bound: checks - n for bound, n in faster.items()})


class _Collector:
    """Shows a guard's counts to prometheus-client when it asks."""

    def __init__(self, tally: Tally, labels: Mapping[str, str]) -> None:
        self._tally = tally
        self._names, self._values = [*labels], [*labels.values()]

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily  # noqa: PLC0415 - where it is there

        now = self._tally.counts()
        for name, text, counted in (
            ("optout_guard_verdicts", "Verdicts on numbers, and why they are UNKNOWN.", now.verdicts),
            ("optout_guard_claims", "Claims of confirmations, and what was answered.", now.claims),
        ):
            family = CounterMetricFamily(name, text, labels=[*self._names, "verdict", "reason"])
            for (kind, reason), times in counted.items():
                family.add_metric([*self._values, str(kind), str(reason or "")], times)
            yield family
        buckets = [(str(bound), now.checks - slower) for bound, slower in now.slower_than.items()]
        seconds = HistogramMetricFamily(
            "optout_guard_check_seconds", "What a check took, of one number or many.", labels=self._names
        )
        seconds.add_metric(self._values, [*buckets, ("+Inf", now.checks)], now.seconds)
        yield seconds


def register(tally: Tally, registry: Any = None, **labels: str) -> None:
    """Show what is counted in a registry of prometheus-client. Raises ModuleNotFoundError where that is not there."""
    from prometheus_client import REGISTRY  # noqa: PLC0415 - where it is there

    (registry or REGISTRY).register(_Collector(tally, labels))
