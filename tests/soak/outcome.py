"""What is to be thought of a run: the checker's judgement, the floors, the shares, and the lines that say it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.soak import checker, report
from tests.soak.askers import CATCH_UP
from tests.soak.schedule import NEIGHBOUR_KINDS, REDIS_KINDS, counts, floors

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tests.parts.oracle import Subscription, Written
    from tests.soak.crew import Crew
    from tests.soak.faults import Breaker
    from tests.soak.probes import Probes
    from tests.soak.records import Claim, Place, Probe, Text, Told
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
    claims: Sequence[Claim]
    ledger: Sequence[Written]
    changed: Sequence[Written]
    confirmations: Sequence[Written]
    letters: Sequence[Place]
    poison: Collection[Place]
    members: set[Subscription]
    crew: Crew
    breaker: Breaker
    neighbours: Sequence[str]
    faults_from: float


@dataclass
class Outcome:
    """The figures of the last line, the lines before it, and every sentence about what is not as it must be.

    `timeline` is for who looks for the cause: every fault as it was, and all that is known of a wrong verdict.
    """

    records: int
    worker_kills: int
    broker_kills: int
    redis_faults: int
    probes: int
    lost: int
    doubled: int
    allowed: int
    lines: list[str] = field(default_factory=list)
    timeline: list[str] = field(default_factory=list)
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
    wrong.sort(key=lambda one: one.probe.kind != "ALLOWED")  # the worst are shown first
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
    outcome.problems += checker.judge_claims(seen.claims)[:SHOWN]
    outcome.problems += checker.judge_letters(seen.poison, seen.letters)[:SHOWN]
    outcome.problems += [_wrong(one, seen) for one in wrong[:SHOWN]]
    outcome.problems += [*seen.probes.failures, *seen.breaker.failures]
    outcome.problems += _short(outcome, happened, planned, duration)
    outcome.problems += [
        f"a worker ended with code {end.code}: {end.sentence} ({end.log})"
        for end in seen.crew.ends
        if not end.is_understood
    ]
    outcome.problems += _share(seen, duration)
    outcome.lines = _lines(seen, happened)
    outcome.timeline = [*_timeline(seen), *(line for one in wrong[:SHOWN] for line in _history(one, seen))]
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
        "faults of neighbours": (sum(happened[kind] for kind in NEIGHBOUR_KINDS), least.neighbours),
    }
    found = [f"{count} {what} are too few: {floor}" for what, (count, floor) in reached.items() if count < floor]
    return found + [f"'{kind}' was planned and never came to pass" for kind in counts(planned) if not happened[kind]]


def _share(seen: Evidence, duration: float) -> list[str]:
    verdicts = seen.probes.verdicts
    if duration < DEFINITE_FROM_S:
        kinds = {probe.kind for probe in verdicts}
        return [f"no verdict was {kind}" for kind in ("ALLOWED", "SUPPRESSED") if kind not in kinds]
    outside = report.outside(_probes_from(seen), seen.breaker.broken)
    if report.definite(outside) < DEFINITE_SHARE * len(outside):
        return [f"outside faults and their recovery only {_definite(outside)} were definite"]
    return [] if outside else ["no verdict was given outside faults and their recovery"]


def _probes_from(seen: Evidence) -> list[Probe]:
    """Return the verdicts from the first fault on: before, the workers were still starting.

    Not those that wait for what Kafka held: they are UNKNOWN where workers alone are away.
    """
    return [p for p in seen.probes.verdicts if p.began > seen.faults_from and p.guard != CATCH_UP]


def _lines(seen: Evidence, happened: Counter[str]) -> list[str]:
    verdicts, crew = _probes_from(seen), seen.crew
    broken = sorted(seen.breaker.broken, key=lambda one: one.began)
    outside = report.outside(verdicts, broken)
    return [
        *report.recovery_lines(report.recoveries(verdicts, broken)),
        "",
        f"faults: {', '.join(f'{kind} {count}' for kind, count in sorted(happened.items()))}",
        f"ledger: {len(seen.ledger)} keywords, {len(seen.changed)} changes, {len(seen.members)} patients opted out",
        *seen.neighbours,
        _queue(seen.probes),
        *_by_guard(outside),
        _claims(seen.claims),
        f"definite verdicts: {_definite(outside)} outside faults and their recovery, {_definite(verdicts)} in all",
        f"UNKNOWN because: {report.reasons(verdicts)}",
        f"workers: {crew.starts} started, {crew.clean} ended cleanly when asked",
        *(f"  {count} x {sentence}" for sentence, count in crew.sentences().items()),
    ]


def _timeline(seen: Evidence) -> list[str]:
    """Return each fault and each stretch of UNKNOWN verdicts with its times since faults began, in s."""
    spans = [(one.began, one.ended, f"{one.kind}: {one.note}") for one in seen.breaker.broken]
    spans += [(start, end, f"    UNKNOWN: {why}") for start, end, why in report.stretches(_probes_from(seen))]
    spans += [(end.at, end.at, f"a worker ended, {end.code}: {end.sentence} ({end.log})") for end in seen.crew.ends]
    spans += [(start, end, "  may be UNKNOWN") for start, end in report.windows(seen.breaker.broken)]
    zero = seen.faults_from
    return [f"{began - zero:8.1f} - {ended - zero:<8.1f}{what}" for began, ended, what in sorted(spans)]


def _history(one: checker.Wrong, seen: Evidence) -> list[str]:
    """Return all that is known of the patient of a wrong verdict, in the order of time, but for the number."""
    patient, zero = one.probe.patient, seen.faults_from
    moments = [
        (t.sent, f"sent {'STOP' if t.out else 'START'} dated {t.at}, to {t.place}")
        for t in seen.texts
        if t.patient == patient
    ]
    moments += [
        (t.seen, f"told {'OPTED_OUT' if t.out else 'OPTED_IN'} dated {t.at}") for t in seen.told if t.patient == patient
    ]
    for p in seen.probes.verdicts:
        if p.patient == patient:
            mark = " <== WRONG" if p is one.probe else ""
            moments.append((p.began, f"asked '{p.guard}': {p.kind} {p.reason} at {p.ended - zero:.3f}{mark}"))
    return [f"a patient of {patient[0]}", *(f"{when - zero:10.3f}  {what}" for when, what in sorted(moments))]


def _queue(queue: Probes) -> str:
    return (
        f"queue: {queue.held_across_stop} messages held across a STOP, {queue.withheld} withheld at the last hop, "
        f"{queue.sent} sent"
    )


def _by_guard(outside: Sequence[Probe]) -> list[str]:
    """Return how each way of asking fared."""
    return [
        f"  {name}: {_definite([p for p in outside if p.guard == name])}" for name in sorted({p.guard for p in outside})
    ]


def _claims(claims: Sequence[Claim]) -> str:
    kinds = Counter(claim.kind for claim in claims)
    confirmations = len({claim.event_id for claim in claims})
    return f"confirmations: {confirmations} claimed by {len(claims)} claims, of which {dict(kinds)}"


def _definite(probes: Sequence[Probe]) -> str:
    return f"{report.definite(probes) / len(probes):.2%} of {len(probes)}" if probes else "none of 0"
