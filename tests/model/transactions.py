"""Two buckets, told in one transaction, while either may be lost, begun anew or given to another worker (L3).

What the view's model shows for one bucket is not shown again: there is no vouching and no guard here, nor anything else
in which two buckets do not meet. They meet in the token, in the transaction and in who owns what.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.model import scripts
from tests.model.explore import Harm
from tests.model.rules import Rules

if TYPE_CHECKING:
    from tests.model.scripts import Bucket, Change, Text

UNKNOWN = -1
NOT_MINE = -2
BOTH = (0, 1)

Pair = tuple[int, int]


class Part(NamedTuple):
    """What a batch holds of one bucket: from where it was taken, the changes, how far they go."""

    bucket: int
    start: int
    changes: tuple[Change, ...]
    up_to: int


class Batch(NamedTuple):
    """What a publisher took of the buckets that it owned."""

    parts: tuple[Part, ...]
    sent: bool = False
    token_holds: bool = True


class Worker(NamedTuple):
    """A running worker: where it goes on in each bucket, as far as it knows, and what it knows to be published."""

    positions: Pair
    known: Pair = (UNKNOWN, UNKNOWN)
    batch: Batch | None = None
    heard: bool = True
    """Whether it has heard of the last rebalance: until then the broker refuses all that it sends."""


class Faults(NamedTuple):
    """How often each thing may still go wrong; see the view's model."""

    crashes: int = 0
    rebalances: int = 0
    losses: int = 0


class State(NamedTuple):
    """Everything. The ledger is complete from the start."""

    committed: Pair
    owners: Pair
    in_doubt: tuple[Part, ...] | None
    buckets: tuple[Bucket, Bucket]
    epochs: int
    workers: tuple[Worker | None, ...]
    faults: Faults
    harm: Harm | None = None


Steps = list[tuple[str, State]]


@dataclass(frozen=True)
class Transactions:
    """The model. `ledgers` are those of the two buckets."""

    ledgers: tuple[tuple[Text, ...], tuple[Text, ...]]
    faults: Faults
    rules: Rules = field(default_factory=Rules)

    def start(self) -> State:
        workers = (Worker((0, 0), (0, 0)), None)
        empty = scripts.empty(1)
        return State((0, 0), (0, 0), None, (empty, empty), 0, workers, self.faults)

    def steps(self, state: State) -> Steps:
        steps: Steps = []
        for number, worker in enumerate(state.workers):
            if worker is not None:
                for bucket in BOTH:
                    self._apply(state, number, worker, bucket, steps)
                    self._learn(state, number, worker, bucket, steps)
                self._take(state, number, worker, steps)
                self._send(state, number, worker, steps)
                if not worker.heard:
                    steps.append((f"w{number} hears of the rebalance", self._heard(state, number, worker)))
                if state.faults.crashes and not (worker.batch and worker.batch.sent):
                    steps.append((f"w{number} dies", _with(_crashed(state), number, None)))
            for bucket in BOTH:
                self._assign(state, number, bucket, steps)
        if state.in_doubt:
            settled = state._replace(in_doubt=None)
            steps.append(("the doubtful transaction is committed", self._told(settled, state.in_doubt)))
            steps.append(("the doubtful transaction is aborted", settled))
        if state.faults.losses:
            fewer = state._replace(faults=state.faults._replace(losses=state.faults.losses - 1))
            steps.append(("Redis is flushed", fewer._replace(buckets=(scripts.empty(1),) * 2)))
            for bucket in BOTH:
                steps.append((f"bucket {bucket} is lost", _stored(fewer, bucket, scripts.empty(1))))
        return steps

    # The applier

    def _apply(self, state: State, number: int, worker: Worker, which: int, steps: Steps) -> None:
        bucket, position = state.buckets[which], worker.positions[which]
        if position == NOT_MINE:
            return
        known = max(worker.known[which], 0)
        if not scripts.is_whole(self.rules, bucket):
            begun = scripts.begin(self.rules, bucket, state.epochs + 1, known)
            after = _stored(state, which, begun)._replace(epochs=state.epochs + 1)
            goes_on = worker._replace(positions=_put(worker.positions, which, 0))
            steps.append((f"w{number} begins bucket {which}", _with(after, number, goes_on)))
        elif position != bucket.applied:
            goes_on = worker._replace(positions=_put(worker.positions, which, bucket.applied))
            steps.append((f"w{number} goes on at {bucket.applied} in bucket {which}", _with(state, number, goes_on)))
        elif position < len(self.ledgers[which]):
            applied = scripts.apply(self.rules, bucket, position, self.ledgers[which][position], known)
            goes_on = worker._replace(positions=_put(worker.positions, which, applied.applied))
            after = _with(_stored(state, which, applied), number, goes_on)
            steps.append((f"w{number} applies {position} in bucket {which}", after))

    # The publisher

    def _learn(self, state: State, number: int, worker: Worker, which: int, steps: Steps) -> None:
        bucket, known = state.buckets[which], worker.known[which]
        mine = worker.positions[which] != NOT_MINE
        settled = not self.rules.asks_when_settled or not _pending(state, which)
        if mine and worker.batch is None and known == UNKNOWN and settled:
            learned = worker._replace(known=_put(worker.known, which, state.committed[which]))
            name = f"w{number} learns that {state.committed[which]} is published of bucket {which}"
            steps.append((name, _with(state, number, learned)))
        if bucket.epoch and (known > bucket.published or (bucket.outbox and bucket.outbox[0].offset < known)):
            trimmed = _stored(state, which, scripts.trim(bucket, known))
            steps.append((f"w{number} trims bucket {which} below {known}", trimmed))

    def _take(self, state: State, number: int, worker: Worker, steps: Steps) -> None:
        """Take what waits in each bucket, or in both; between the two calls of take.lua other things may happen."""
        if worker.batch is not None and (worker.batch.sent or not worker.batch.token_holds):
            return
        parts = worker.batch.parts if worker.batch else ()
        for which in BOTH:
            bucket, known = state.buckets[which], worker.known[which]
            if known == UNKNOWN or worker.positions[which] == NOT_MINE or not scripts.is_whole(self.rules, bucket):
                continue
            if any(part.bucket >= which for part in parts):
                continue
            changes, up_to = scripts.take(self.rules, bucket, known, 100)
            if up_to > known:
                taken = worker._replace(batch=Batch((*parts, Part(which, known, changes, up_to))))
                name = f"w{number} takes {len(changes)} changes of bucket {which} up to {up_to}"
                steps.append((name, _with(state, number, taken)))

    def _send(self, state: State, number: int, worker: Worker, steps: Steps) -> None:
        batch = worker.batch
        if batch is None:
            return
        nothing_known = worker._replace(batch=None, known=(UNKNOWN, UNKNOWN))
        offsets = ", ".join(f"{part.up_to} of bucket {part.bucket}" for part in batch.parts)
        if not batch.sent:
            if (worker.heard and batch.token_holds) or not self.rules.fences_zombies:
                sent = worker._replace(batch=batch._replace(sent=True))
                steps.append((f"w{number} sends {offsets}", _with(state, number, sent)))
            else:
                steps.append((f"w{number} is refused by the broker", _with(state, number, nothing_known)))
            if state.faults.crashes:
                steps.append((f"w{number} aborts", _with(_crashed(state), number, nothing_known)))
            return
        known = list(worker.known)
        for part in batch.parts:
            known[part.bucket] = part.up_to if batch.token_holds else UNKNOWN
        told = worker._replace(batch=None, known=(known[0], known[1]))
        steps.append((f"w{number} commits {offsets}", self._told(_with(state, number, told), batch.parts)))
        if state.faults.crashes and state.in_doubt is None:
            doubtful = _crashed(state)._replace(in_doubt=batch.parts)
            assumed = {
                "ask": nothing_known,
                "taken as aborted": worker._replace(batch=None),
                "taken as done": told,
            }[self.rules.after_doubt]
            steps.append((f"w{number}'s commit is in doubt", _with(doubtful, number, assumed)))
            steps.append((f"w{number} dies, its commit in doubt", _with(doubtful, number, None)))

    def _told(self, state: State, parts: tuple[Part, ...]) -> State:
        """Commit a transaction: of each bucket exactly the changes below its offset must have been told by then."""
        committed, harm = list(state.committed), None
        for part in parts:
            before = committed[part.bucket]
            changes = scripts.fold(self.ledgers[part.bucket])
            expected = tuple(change for change in changes if before <= change.offset < part.up_to)
            if part.changes != expected or part.up_to < before:
                harm = harm or (Harm.LOST if set(expected) - set(part.changes) else Harm.TWICE)
            committed[part.bucket] = part.up_to
        return state._replace(committed=(committed[0], committed[1]), harm=harm)

    # The group

    def _assign(self, state: State, number: int, which: int, steps: Steps) -> None:
        """Give a bucket to a worker. Other buckets stay with whoever has them, under a new generation of the group."""
        owner = state.owners[which]
        owner_lives = state.workers[owner] is not None
        if owner == number and owner_lives:
            return
        if owner_lives:
            if not state.faults.rebalances:
                return
            state = state._replace(faults=state.faults._replace(rebalances=state.faults.rebalances - 1))
        others = tuple(one and one._replace(heard=False) for one in state.workers)
        state = state._replace(owners=_put(state.owners, which, number), workers=others)
        worker = state.workers[number] or Worker((NOT_MINE, NOT_MINE))
        steps.append((f"w{number} receives bucket {which}", self._heard(state, number, worker)))

    def _heard(self, state: State, number: int, worker: Worker) -> State:
        """Give a worker a new token for what is its own now: what was known and taken under the last one is void."""
        positions, known = list(worker.positions), list(worker.known)
        for which in BOTH:
            if state.owners[which] != number:
                positions[which] = NOT_MINE
                known[which] = UNKNOWN
            elif positions[which] == NOT_MINE:
                positions[which] = state.buckets[which].applied
                known[which] = UNKNOWN
        batch = worker.batch
        if self.rules.one_token:
            known = [UNKNOWN, UNKNOWN]
            batch = batch and batch._replace(token_holds=False)
        heard = Worker((positions[0], positions[1]), (known[0], known[1]), batch, heard=True)
        return _with(state, number, heard)

    # What must hold

    def broken(self, state: State) -> Harm | None:
        if state.harm is not None:
            return state.harm
        for bucket, committed in zip(state.buckets, state.committed, strict=True):
            if bucket.published > committed:
                return Harm.ALARM  # check_told would take the group's offsets for reset
        return None

    def finished(self, state: State) -> bool:
        return all(
            bucket.epoch and bucket.applied == committed == len(ledger) and not bucket.outbox
            for bucket, committed, ledger in zip(state.buckets, state.committed, self.ledgers, strict=True)
        )


def _put(pair: Pair, which: int, value: int) -> Pair:
    return (value, pair[1]) if which == 0 else (pair[0], value)


def _stored(state: State, which: int, bucket: Bucket) -> State:
    return state._replace(buckets=(bucket, state.buckets[1]) if which == 0 else (state.buckets[0], bucket))


def _with(state: State, number: int, worker: Worker | None) -> State:
    return state._replace(workers=(*state.workers[:number], worker, *state.workers[number + 1 :]))


def _crashed(state: State) -> State:
    return state._replace(faults=state.faults._replace(crashes=state.faults.crashes - 1))


def _pending(state: State, which: int) -> bool:
    """Return whether a pending transaction holds an offset of the bucket: each bucket is asked about on its own."""
    pending = [one.batch.parts for one in state.workers if one and one.batch and one.batch.sent]
    return any(part.bucket == which for parts in [*pending, state.in_doubt or ()] for part in parts)
