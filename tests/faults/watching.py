"""Asks two guards about every patient all the time, and knows when ALLOWED is wrong."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from consumer.guard import Guard, VerdictKind
from tests.parts.oracle import BACK, OUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from consumer.guard import Verdict
    from tests.parts.oracle import Subscription

EVERY = 0.03


@dataclass
class _Stop:
    at: int
    accepted: float | None = None


@dataclass
class _Patient:
    """What a patient has texted. `held`: a guard has said SUPPRESSED, and no newer START was sent."""

    stops: list[_Stop] = field(default_factory=list)
    newest_start: int = -1
    in_doubt: bool = False
    held: bool = False


class Watch:
    """One thread that asks. A wrong ALLOWED is one of these:

    - the patient's STOP was seen to be in force, and no newer START has been sent since;
    - the verdict says that it knows all that inbound held at a time (`fresh`) at which Kafka had accepted the STOP,
      and no newer START has been sent.

    A START that is on its way makes what was seen before it say nothing, until `settled` is called.
    """

    def __init__(self, url: str, buckets: int) -> None:
        self._guards = [
            Guard.from_url(url, timeout=1, buckets=buckets),
            Guard.from_url(url, timeout=1, buckets=buckets, max_staleness=None),
        ]
        self._patients: dict[Subscription, _Patient] = defaultdict(_Patient)
        self._lock = threading.Lock()
        self._turn = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.violations: list[str] = []
        self.seen: Counter[str] = Counter()
        self.failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def sending(self, texts: Iterable[Mapping[str, Any]]) -> list[_Stop]:
        """Hear of texts before they are sent; the answer is for `accepted`."""
        stops = []
        with self._lock:
            for text in texts:
                word = text["body"].strip().lower()
                patient = self._patients[text["location_id"], text["patient_number"]]
                if word in OUT:
                    stops.append(_Stop(text["received_at"]))
                    patient.stops.append(stops[-1])
                elif word in BACK:
                    patient.newest_start = max(patient.newest_start, text["received_at"])
                    if all(stop.at < patient.newest_start for stop in patient.stops):
                        patient.in_doubt, patient.held = True, False
                        self._turn += 1
        return stops

    def accepted(self, stops: Iterable[_Stop]) -> None:
        """Hear that Kafka has these."""
        with self._lock:
            for stop in stops:
                stop.accepted = time.time() * 1000

    def settled(self) -> None:
        """Hear that everything sent so far is applied."""
        with self._lock:
            self._turn += 1
            for patient in self._patients.values():
                patient.in_doubt = False

    def verdicts(self) -> list[dict[Subscription, VerdictKind]]:
        """Return what each guard says now of each patient."""
        return [
            {(location, number): verdict.kind for location, number, verdict in self._asked(guard)}
            for guard in self._guards
        ]

    def _asked(self, guard: Guard) -> list[tuple[str, str, Verdict]]:
        numbers = defaultdict(list)
        with self._lock:
            for location, number in self._patients:
                numbers[location].append(number)
        return [
            (location, number, verdict)
            for location, each in numbers.items()
            for number, verdict in zip(each, guard.check_many(location, each), strict=True)
        ]

    def _run(self) -> None:
        try:
            while not self._stop.wait(EVERY):
                for guard in self._guards:
                    turn = self._turn
                    for location, number, verdict in self._asked(guard):
                        self._judge(location, number, verdict, turn)
        except BaseException as problem:  # noqa: BLE001 - whoever waits for us raises it
            self.failure = problem

    def _judge(self, location: str, number: str, verdict: Verdict, turn: int) -> None:
        with self._lock:
            patient = self._patients[location, number]
            self.seen[verdict.kind.value] += 1
            if verdict.kind is VerdictKind.SUPPRESSED:
                patient.held |= turn == self._turn and not patient.in_doubt  # else it may tell of before the START
            elif verdict.kind is VerdictKind.ALLOWED:
                assert verdict.fresh is not None
                fresh = verdict.fresh
                covered = any(
                    stop.accepted is not None and stop.accepted <= fresh and stop.at >= patient.newest_start
                    for stop in patient.stops
                )
                if patient.held or covered:
                    why = "its STOP was in force" if patient.held else "fresh covers its STOP"
                    self.violations.append(f"ALLOWED for {location} {number[-4:]}: {why}")
