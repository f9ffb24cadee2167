"""From measurements to the figures of the last line: medians over the turns, and their extremes."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from bench.measurement import Measurement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BATCHES = (500, 1000)


@dataclass
class Results:
    """What was measured at one density of keywords, turn by turn."""

    raw: dict[int, list[Measurement]] = field(default_factory=lambda: {batch: [] for batch in BATCHES})
    worker: list[Measurement] = field(default_factory=list)

    def add(self, raw: Mapping[int, Measurement], worker: Measurement) -> None:
        """Add what one turn measured."""
        for batch, measured in raw.items():
            self.raw[batch].append(measured)
        self.worker.append(worker)

    @property
    def faster(self) -> int:
        """Return the batch size at which the raw client was the faster one."""
        return max(BATCHES, key=lambda batch: median(_rates(self.raw[batch])))

    @property
    def raw_rates(self) -> list[float]:
        """Return what the faster raw client read, in thousands of messages a CPU-second."""
        return _rates(self.raw[self.faster])


def summary(dense: Results, sparse: Results, first: Sequence[Measurement]) -> dict[str, object]:
    """Return the last line. `first` is what workers took to begin: it is left out of what they took for the rest."""
    begin = Measurement(first[0].messages, median(one.cpu_s for one in first), median(one.wall_s for one in first))
    dense_rates, sparse_rates = (_rates([_after(begin, one) for one in each.worker]) for each in (dense, sparse))
    raw = median(dense.raw_rates)
    medians = {
        "raw_k_per_cpu_s": raw,
        "worker_k_per_cpu_s": median(dense_rates),
        "ratio": median(dense_rates) / raw,
        "ratio_sparse": median(sparse_rates) / median(sparse.raw_rates),
    }
    series = {
        "raw_k_per_cpu_s": dense.raw_rates,
        "worker_k_per_cpu_s": dense_rates,
        "ratio": _ratios(dense_rates, dense.raw_rates),
        "ratio_sparse": _ratios(sparse_rates, sparse.raw_rates),
    }
    return {
        **{name: _rounded(value) for name, value in medians.items()},
        "min": {name: _rounded(min(values)) for name, values in series.items()},
        "max": {name: _rounded(max(values)) for name, values in series.items()},
        "worker_sparse_k_per_cpu_s": _rounded(median(sparse_rates)),
        "worker_k_per_wall_s": _rounded(median(one.k_per_wall_s for one in dense.worker)),
        "worker_begin_cpu_s": _rounded(begin.cpu_s),
        "raw_batch": dense.faster,
        "messages": dense.worker[0].messages,
        "repetitions": len(dense.worker),
    }


def _after(begin: Measurement, whole: Measurement) -> Measurement:
    return Measurement(whole.messages - begin.messages, whole.cpu_s - begin.cpu_s, whole.wall_s)


def _rates(measured: Sequence[Measurement]) -> list[float]:
    return [one.k_per_cpu_s for one in measured]


def _ratios(worker: Sequence[float], raw: Sequence[float]) -> list[float]:
    """Return what the worker kept of the raw client's rate within each turn."""
    return [ours / theirs for ours, theirs in zip(worker, raw, strict=True)]


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
