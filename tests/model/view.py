"""One bucket, from the ledger to the guard: applying, publishing, vouching, and what can fail meanwhile (L1-L4, L6).

Workers are an applier, a publisher and a voucher each. One that lost the partition and has not noticed goes on as if it
owned it: there is no step for noticing, because one that noticed does nothing that a slow one might not do as well. The
classifiers have a model of their own. Here any text may come into the ledger at any time, also again, and the time that
a voucher learns is any up to which everything is in the ledger: that is what the classifiers' model proves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.model import scripts
from tests.model.explore import Harm
from tests.model.rules import Rules
from tests.model.scripts import IN, OUT, Bucket, Identity, Marker, Seen
from tests.model.state import UNKNOWN, Asked, Batch, State, Vouching, Worker, covered, demanded

if TYPE_CHECKING:
    from tests.model.scripts import Text
    from tests.model.state import Faults

Steps = list[tuple[str, State]]


@dataclass(frozen=True)
class View:
    """The model. `texts` stand in the order in which they came in; `limit` is how many changes a transaction takes."""

    texts: tuple[Text, ...]
    faults: Faults
    rules: Rules = field(default_factory=Rules)
    duplicates: int = 0
    limit: int = 100
    in_order: bool = False
    """Whether texts come into the ledger in the order in which they came in: fewer states."""
    any_time: bool = True
    """Whether vouchers may learn older times too, as from an older sample: more states."""
    run_ids_recur: bool = False
    stops_at_reset: bool = True
    """Whether the check that would stop a worker here (L1) counts as harm of its own."""
    workers: int = 2

    @property
    def patients(self) -> int:
        return 1 + max(text.patient for text in self.texts)

    def start(self) -> State:
        bucket = scripts.empty(self.patients)
        workers: tuple[Worker | None, ...] = (Worker(0, 0), *([None] * (self.workers - 1)))
        highest = ((-1, IN),) * self.patients
        return State(
            (), self.duplicates, highest, 0, 0, 0, None, Identity(0, 0), bucket, 0, bucket, workers, None, self.faults
        )

    def steps(self, state: State) -> Steps:
        steps: Steps = []
        self._write(state, steps)
        for number, worker in enumerate(state.workers):
            if worker is not None:
                self._apply(state, number, worker, steps)
                self._take(state, number, worker, steps)
                self._send(state, number, worker, steps)
                self._vouch(state, number, worker, steps)
                pending = self.rules.one_transaction and worker.batch is not None and worker.batch.sent
                if state.faults.crashes and not pending:
                    steps.append((f"w{number} dies", state.after_crash().with_worker(number, None)))
            self._assign(state, number, worker, steps)
        if state.in_doubt:
            settled = state._replace(in_doubt=None)
            committed = settled.telling(*state.in_doubt)._replace(committed=state.in_doubt[1])
            steps.append(("the doubtful transaction is committed", committed))
            steps.append(("the doubtful transaction is aborted", settled))
        self._harm_redis(state, steps)
        if not self.rules.guard_at_once:
            self._ask(state, steps)
        return steps

    # The classifiers

    def _write(self, state: State, steps: Steps) -> None:
        missing = [text for text in self.texts if text not in state.ledger]
        for text in missing[:1] if self.in_order else missing:
            steps.append((f"the ledger receives {scripts.name(text)}", state._replace(ledger=(*state.ledger, text))))
        if state.duplicates:
            for text in sorted(set(state.ledger)):
                again = state._replace(ledger=(*state.ledger, text), duplicates=state.duplicates - 1)
                steps.append((f"the ledger receives {scripts.name(text)} again", again))
        if state.faults.strangers and state.readable is None:
            fewer = state.faults._replace(strangers=state.faults.strangers - 1)
            opened = state._replace(readable=len(state.ledger), faults=fewer)
            steps.append(("a stranger opens a transaction on the ledger", opened))
        if state.readable is not None:
            steps.append(("the stranger's transaction ends", state._replace(readable=None)))

    # The applier

    def _apply(self, state: State, number: int, worker: Worker, steps: Steps) -> None:
        bucket = state.bucket
        if not scripts.is_whole(self.rules, bucket):
            begun = self._begun(state, worker)
            what = "damaged" if bucket.epoch else "missing"
            name = f"the bucket is {what}: w{number}'s"
            steps.append((f"{name} applier begins it", begun.with_worker(number, worker._replace(position=0))))
            if bucket.epoch:  # the voucher's audit, which the applier does not know of
                steps.append((f"{name} voucher begins it", begun))
            return
        if worker.position != bucket.applied:
            goes_on = state.with_worker(number, worker._replace(position=bucket.applied))
            steps.append((f"w{number} goes on at {bucket.applied}", goes_on))
        refused = worker.position > bucket.applied and self.rules.continuity
        if worker.position < self._readable(state) and worker.position >= bucket.applied and not refused:
            text = state.ledger[worker.position]
            highest = list(state.highest)
            highest[text.patient] = max(highest[text.patient], (text.time, text.kind))
            applied = scripts.apply(self.rules, bucket, worker.position, text, max(worker.known, 0))
            after = state._replace(
                highest=tuple(highest),
                bucket=applied,
            ).with_worker(number, worker._replace(position=applied.applied))
            steps.append((f"w{number} applies {worker.position}", after))

    def _begun(self, state: State, worker: Worker) -> State:
        epoch = state.epochs + 1
        return state._replace(bucket=scripts.begin(self.rules, state.bucket, epoch, max(worker.known, 0)), epochs=epoch)

    # The publisher

    def _take(self, state: State, number: int, worker: Worker, steps: Steps) -> None:
        rules, bucket, batch = self.rules, state.bucket, worker.batch
        if batch is None and worker.known == UNKNOWN and (not rules.asks_when_settled or state.is_settled()):
            learned = worker._replace(known=state.committed)
            steps.append((f"w{number} learns that {state.committed} is published", state.with_worker(number, learned)))
        below = worker.known if rules.trims_after_commit or batch is None else batch.up_to
        if bucket.epoch and (below > bucket.published or (bucket.outbox and bucket.outbox[0].offset < below)):
            steps.append((f"w{number} trims below {below}", state._replace(bucket=scripts.trim(bucket, below))))
        if batch is None and worker.known != UNKNOWN and scripts.is_whole(rules, bucket):
            changes, up_to = scripts.take(rules, bucket, worker.known, self.limit)
            if up_to > worker.known:
                taken = Batch(changes, up_to if rules.takes_at_once else UNKNOWN)
                name = f"w{number} takes {len(changes)} changes" + (f" up to {up_to}" if rules.takes_at_once else "")
                steps.append((name, state.with_worker(number, worker._replace(batch=taken))))
        if batch and batch.up_to == UNKNOWN:
            read = worker._replace(batch=batch._replace(up_to=max(worker.known, bucket.applied)))
            steps.append((f"w{number} reads that {bucket.applied} is applied", state.with_worker(number, read)))

    def _send(self, state: State, number: int, worker: Worker, steps: Steps) -> None:
        batch = worker.batch
        if batch is None or batch.up_to == UNKNOWN:
            return
        given_up = worker._replace(batch=None, known=UNKNOWN)
        if not batch.sent:
            if (state.owner == number and batch.token_holds) or not self.rules.fences_zombies:
                sent = state.with_worker(number, worker._replace(batch=batch._replace(sent=True)))
                if not self.rules.one_transaction:
                    sent = sent.telling(batch.changes, batch.up_to)
                steps.append((f"w{number} sends offset {batch.up_to}", sent))
            else:
                steps.append((f"w{number} is refused by the broker", state.with_worker(number, given_up)))
            if state.faults.crashes:
                steps.append((f"w{number} aborts", state.after_crash().with_worker(number, given_up)))
            return
        told = worker._replace(batch=None, known=batch.up_to if batch.token_holds else UNKNOWN)
        committed = state.with_worker(number, told)._replace(committed=batch.up_to)
        if self.rules.one_transaction:
            committed = committed.telling(batch.changes, batch.up_to)
        steps.append((f"w{number} commits offset {batch.up_to}", committed))
        if state.faults.crashes and state.in_doubt is None and self.rules.one_transaction:
            doubtful = state.after_crash()._replace(in_doubt=(batch.changes, batch.up_to))
            assumed = {"ask": UNKNOWN, "taken as aborted": worker.known, "taken as done": batch.up_to}
            goes_on = worker._replace(batch=None, known=assumed[self.rules.after_doubt])
            steps.append((f"w{number}'s commit is in doubt", doubtful.with_worker(number, goes_on)))
            steps.append((f"w{number} dies, its commit in doubt", doubtful.with_worker(number, None)))

    # The voucher

    def _vouch(self, state: State, number: int, worker: Worker, steps: Steps) -> None:
        bucket, vouching = state.bucket, worker.vouching
        if vouching is None:
            if bucket.epoch:
                seen = Vouching(Seen(state.server, bucket.epoch))
                name = f"w{number}'s voucher reads the identity"
                steps.append((name, state.with_worker(number, worker._replace(vouching=seen))))
            return
        time_is_next = vouching.fresh == UNKNOWN and (self.rules.time_before_end or vouching.end != UNKNOWN)
        if time_is_next:
            newest = covered(self.texts, state.ledger)
            for fresh in range(newest + 1) if self.any_time else (newest,):
                learned = worker._replace(vouching=vouching._replace(fresh=fresh))
                steps.append((f"w{number}'s voucher learns the time {fresh}", state.with_worker(number, learned)))
        elif vouching.end == UNKNOWN:
            end = len(state.ledger) if self.rules.ledger_as_held else self._readable(state)
            learned = worker._replace(vouching=vouching._replace(end=end))
            steps.append((f"w{number}'s voucher reads the ledger's end {end}", state.with_worker(number, learned)))
        else:
            after = scripts.vouch(self.rules, bucket, state.server, vouching.seen, (vouching.fresh, vouching.end))
            done = state.with_worker(number, worker._replace(vouching=None))
            if after is None:
                steps.append((f"w{number} may not vouch", done))
            else:
                steps.append((f"w{number} vouches for {vouching.fresh}", done._replace(bucket=after)))

    @staticmethod
    def _readable(state: State) -> int:
        """Return where reading the ledger ends."""
        return len(state.ledger) if state.readable is None else state.readable

    def covered(self, ledger: tuple[Text, ...]) -> int:
        return covered(self.texts, ledger)

    # The group

    def _assign(self, state: State, number: int, worker: Worker | None, steps: Steps) -> None:
        owner_lives = state.workers[state.owner] is not None
        if state.owner == number and owner_lives:
            return
        if owner_lives:
            if not state.faults.rebalances:
                return
            state = state._replace(faults=state.faults._replace(rebalances=state.faults.rebalances - 1))
        applied = state.bucket.applied
        if worker is None:
            received = Worker(applied)
        elif not self.rules.one_token:
            received = worker._replace(position=applied)
        else:
            batch = worker.batch and worker.batch._replace(token_holds=False)
            received = worker._replace(position=applied, known=UNKNOWN, batch=batch)
        name = f"w{number} {'receives' if worker is None else 'gets back'} the partition and goes on at {applied}"
        steps.append((name, state.with_worker(number, received)._replace(owner=number)))

    # Redis

    def _harm_redis(self, state: State, steps: Steps) -> None:
        bucket, faults = state.bucket, state.faults
        if faults.losses:
            lost = state._replace(faults=faults._replace(losses=faults.losses - 1))
            steps.append(("Redis is flushed", lost._replace(bucket=scripts.empty(self.patients))))
            if bucket.epoch:
                without_meta = Bucket(0, 0, 0, 0, None, bucket.outbox, bucket.stored)
                steps.append(("the bucket's meta is lost", lost._replace(bucket=without_meta)))
            if bucket.epoch and bucket.outbox:
                steps.append(("the bucket's outbox is lost", lost._replace(bucket=bucket._replace(outbox=()))))
        if faults.snapshots and bucket != state.snapshot:
            kept = faults._replace(snapshots=faults.snapshots - 1)
            steps.append(("a snapshot is made", state._replace(snapshot=bucket, faults=kept)))
        if faults.rollbacks:
            now = state.server.replication + 1
            for run in {now, 0} if self.run_ids_recur else {now}:
                back = state._replace(
                    server=Identity(run, now),
                    bucket=state.snapshot,
                    faults=faults._replace(rollbacks=faults.rollbacks - 1),
                )
                steps.append((f"server {run} goes on with the snapshot's data", back))
        if faults.restarts_anew and bucket.epoch:
            anew = self._begun(state, Worker(0))
            fewer = faults._replace(restarts_anew=faults.restarts_anew - 1)
            steps.append(("somebody begins the bucket anew", anew._replace(faults=fewer)))

    # The guard

    def _ask(self, state: State, steps: Steps) -> None:
        """Let a guard ask in two steps: whichever it asks first."""
        if state.asked is not None:
            steps.append(("the guard is done", state._replace(asked=None)))
            return
        if state.bucket.marker is not None:
            asked = Asked(state.bucket.marker, state.server, UNKNOWN)
            steps.append(("the guard reads the marker", state._replace(asked=asked)))
        for patient, stored in enumerate(state.bucket.stored):
            if stored.kind == IN:
                asked = Asked(None, state.server, patient)
                steps.append((f"the guard finds that p{patient} is no member", state._replace(asked=asked)))

    def _answers(self, state: State) -> list[tuple[int, int]]:
        """Return (patient, fresh) of each answer ALLOWED that a guard may give now."""
        bucket, asked = state.bucket, state.asked
        marker = bucket.marker if asked is None or asked.marker is None else asked.marker
        if marker is None:
            return []
        server = state.server if asked is None else asked.server
        if self.rules.guard_identity and not scripts.same_server(self.rules, marker.server, server):
            return []
        if asked is not None and asked.patient != UNKNOWN:
            return [(asked.patient, marker.fresh)]
        return [(patient, marker.fresh) for patient, stored in enumerate(bucket.stored) if stored.kind == IN]

    # What must hold

    def broken(self, state: State) -> Harm | None:
        if state.harm is not None:
            return state.harm
        if state.bucket.marker is not None:
            for patient, fresh in self._answers(state):
                if demanded(self.texts, patient, fresh, state.highest[patient]) == OUT:
                    return Harm.ALLOWED
        if self.stops_at_reset and state.bucket.published > state.committed:
            return Harm.ALARM  # check_told would take the group's offsets for reset
        return None

    def finished(self, state: State) -> bool:
        bucket, end = state.bucket, len(state.ledger)
        if bucket.applied != end or state.committed != end or bucket.outbox or not bucket.epoch:
            return False
        return bucket.marker == Marker(state.server, len(self.texts)) and all(
            stored.kind == demanded(self.texts, patient, len(self.texts), (-1, IN))
            for patient, stored in enumerate(bucket.stored)
        )
