"""Every metric of the guard over HTTP. No label holds a location or a number."""

from __future__ import annotations

from collections import Counter as Tally
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumer.serve.words import Answer

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "optout_serve_requests", "Requests, by route and status.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "optout_serve_request_seconds",
            "From a request's head to its whole answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.being_answered = Gauge(
            "optout_serve_requests_being_answered", "Requests that have no answer yet.", registry=self.registry
        )
        self._verdicts = Counter(
            "optout_serve_verdicts",
            "Verdicts, and why they are UNKNOWN.",
            ["verdict", "reason"],
            registry=self.registry,
        )

    def count(self, answers: Iterable[Answer]) -> None:
        """Count the verdicts of one request."""
        for (verdict, reason), times in Tally((answer.verdict, answer.reason) for answer in answers).items():
            self._verdicts.labels(verdict, reason or "").inc(times)
