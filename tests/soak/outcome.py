"""What is to be thought of a run: the checker's judgement, the floors, the shares, and the lines that say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.soak import checker, report
from tests.soak.schedule import REDIS_KINDS, counts, floors

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from tests.parts.oracle import Subscription, Written
    from tests.soak.crew import Crew
    from tests.soak.faults import Breaker
    from tests.soak.probes import Probes
    from tests.soak.records import Probe, Text, Told
    from tests.soak.schedule import Fault

DEFINITE_FROM_S = 600.0
DEFINITE_SHARE = 0.99
SHOWN = 5


@dataclass(frozen=True)
class Evidence:
    """Everything that was written down, and what the topics and Redis held at rest."""

    texts: Sequence[Text]
    acked: int
    told: Sequence[Told]
    probes: Probes
    ledger: Sequence[Written]
    changed: Sequence[Written]
    confirmations: Sequence[Written]
    members: set[Subscription]
    crew: Crew
    breaker: Breaker
    faults_from: float


@dataclass
class Outcome:
    """The figures of the last line, the lines before it, and every sentence about what is not as it must be."""

    records: int
    worker_kills: int
    broker_kills: int
    redis_faults: int
    probes: int
    lost: int
    doubled: int
    allowed: int
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether all promises held and the floors were reached."""
        return not (self.problems or self.lost or self.doubled or self.allowed)

    def last_line(self) -> str:
        """Return the run in one line."""
        return (
            f"soak: {self.records} records, {self.worker_kills} worker kills, {self.broker_kills} broker kills, "
            f"{self.redis_faults} redis faults, {self.probes} probes: "
            f"{self.lost} lost, {self.doubled} doubled, {self.allowed} allowed"
        )


def judge(seen: Evidence, planned: Sequence[Fault], duration: float) -> Outcome:
    """Return what is to be thought of this run."""
    verdicts = seen.probes.verdicts
    wrong = checker.judge_verdicts(seen.texts, seen.told, verdicts)
    records = checker.judge_records(seen.texts, seen.ledger, seen.changed, seen.confirmations, seen.members)
    allowed = [one for one in wrong if one.probe.kind == "ALLOWED"]
    happened = seen.breaker.counts()
    outcome = Outcome(
        records=seen.acked,
        worker_kills=happened["worker killed"],
        broker_kills=happened["broker killed"],
        redis_faults=sum(happened[kind] for kind in REDIS_KINDS),
        probes=len(verdicts),
        lost=len(records.lost),
        doubled=len(records.doubled),
        allowed=len(allowed),
    )
    outcome.problems += records.other
    outcome.problems += [f"lost: {one}" for one in records.lost[:SHOWN]]
    outcome.problems += [f"doubled: {one}" for one in records.doubled[:SHOWN]]
    outcome.problems += [_wrong(one, seen) for one in wrong[:SHOWN]]
    outcome.problems += seen.breaker.failures
    outcome.problems += _short(outcome, happened, planned, duration)
    outcome.problems += [
        f"a worker ended with code {end.code}: {end.sentence} ({end.log})"
        for end in seen.crew.ends
        if not end.is_understood
    ]
    outcome.problems += _share(seen, duration)
    outcome.lines = _lines(seen, happened)
    return outcome


def _wrong(one: checker.Wrong, seen: Evidence) -> str:
    """Say when and where a verdict was wrong, without the number of the patient."""
    probe, (at, out) = one.probe, one.bound
    state = f"an {'opt-out' if out else 'opt-in'} dated {at}" if one.bound != checker.NOTHING else "no text at all"
    return (
        f"{probe.kind} at {probe.began - seen.faults_from:.3f} s by the guard '{probe.guard}' for a patient of "
        f"{probe.patient[0]}, of whom {state} was known and no other text was sent that could explain it"
    )


def _short(outcome: Outcome, happened: Counter[str], planned: Sequence[Fault], duration: float) -> list[str]:
    """Return a sentence for each floor that was not reached."""
    least = floors(duration)
    reached = {
        "records": (outcome.records, least.records),
        "worker kills": (outcome.worker_kills, least.worker_kills),
        "broker kills": (outcome.broker_kills, least.broker_kills),
        "Redis faults": (outcome.redis_faults, least.redis_faults),
    }
    found = [f"{count} {what} are too few: {floor}" for what, (count, floor) in reached.items() if count < floor]
    return found + [f"'{kind}' was planned and never came to pass" for kind in counts(planned) if not happened[kind]]


def _share(seen: Evidence, duration: float) -> list[str]:
    verdicts = seen.probes.verdicts
    if duration < DEFINITE_FROM_S:
        kinds = {probe.kind for probe in verdicts}
        return [f"no verdict was {kind}" for kind in ("ALLOWED", "SUPPRESSED") if kind not in kinds]
    definite, total = report.definite(_probes_from(seen), seen.breaker.broken)
    if definite < DEFINITE_SHARE * total:
        return [f"outside faults and their recovery only {definite} of {total} verdicts were definite"]
    return [] if total else ["no verdict was given outside faults and their recovery"]


def _probes_from(seen: Evidence) -> list[Probe]:
    """Return the verdicts from the first fault on: before, the workers were still starting."""
    return [probe for probe in seen.probes.verdicts if probe.began > seen.faults_from]


def _lines(seen: Evidence, happened: Counter[str]) -> list[str]:
    verdicts, crew = _probes_from(seen), seen.crew
    broken = sorted(seen.breaker.broken, key=lambda one: one.began)
    inside = report.definite(verdicts)
    outside = report.definite(verdicts, broken)
    changes = len(seen.changed)
    return [
        *(
            f"{one.began - seen.faults_from:7.1f} - {one.ended - seen.faults_from:.1f} s  {one.kind}: {one.note}"
            for one in broken
        ),
        "",
        *report.recovery_lines(report.recoveries(verdicts, broken)),
        "",
        f"faults: {', '.join(f'{kind} {count}' for kind, count in sorted(happened.items()))}",
        f"ledger: {len(seen.ledger)} keywords, {changes} changes, {len(seen.members)} patients opted out at the end",
        _queue(seen.probes),
        f"definite verdicts: {_percent(outside)} outside faults and their recovery, {_percent(inside)} of all",
        f"UNKNOWN because: {report.reasons(verdicts)}",
        f"workers: {crew.starts} started, {crew.clean} ended cleanly when asked",
        *(f"  {count} x {sentence}" for sentence, count in crew.sentences().items()),
    ]


def _queue(queue: Probes) -> str:
    return (
        f"queue: {queue.held_across_stop} messages held across a STOP, {queue.withheld} withheld at the last hop, "
        f"{queue.sent} sent"
    )


def _percent(share: tuple[int, int]) -> str:
    definite, total = share
    return f"{definite / total:.2%} of {total}" if total else "none given"
