"""Confirmations: each passes a guard once, that of an opt-out although the patient is opted out.

apply.lua grants a pass with each change. The sender of confirmations asks for it by the ledger record's offset (in the
code, by the event id that is made from it), perhaps again and again, for it does not know whether it was killed before
or after it had sent the text.

What is guaranteed: a confirmation passes at most once, whatever becomes of Redis, and never after its window; that of
an opt-in not while the patient is opted out again. The limit: a pass is lost with the bucket, the server or the sender
that held it, and then the confirmation is never sent.

Two rules carry it. A pass is taken in the same step in which it is found. And whoever vouches for a bucket for the
first time under an identity or an epoch drops every pass in it: these are from before a rollback, or were granted once
more by a replay. By L4 the bucket has then read all that the ledger held, so that none is granted a second time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.model import scripts
from tests.model.explore import Harm
from tests.model.rules import Rules
from tests.model.scripts import IN, OUT

if TYPE_CHECKING:
    from tests.model.scripts import Text

UNKNOWN = -1

Offsets = frozenset[int]


class Bucket(NamedTuple):
    """What Redis holds: epoch, position, the server that it was vouched for on, the passes that were granted."""

    epoch: int = 0
    applied: int = 0
    marker: int = UNKNOWN
    passes: Offsets = frozenset()


class Voucher(NamedTuple):
    """What a voucher has read: server, epoch, and the ledger's end."""

    server: int
    epoch: int
    end: int = UNKNOWN


class Faults(NamedTuple):
    """How often each thing may still go wrong."""

    losses: int = 0
    snapshots: int = 0
    rollbacks: int = 0


class State(NamedTuple):
    """Everything. `found` is the pass that a sender has found and not taken, where that takes two steps."""

    end: int
    server: int
    bucket: Bucket
    snapshot: Bucket
    epochs: int
    voucher: Voucher | None
    closed: Offsets
    """Records whose window of five minutes is over."""
    passed: Offsets
    found: tuple[int, ...]
    faults: Faults
    harm: Harm | None = None


Steps = list[tuple[str, State]]


@dataclass(frozen=True)
class Passes:
    """The model. `texts` is the ledger, in order."""

    texts: tuple[Text, ...]
    faults: Faults
    rules: Rules = field(default_factory=Rules)

    def start(self) -> State:
        nothing = frozenset[int]()
        return State(0, 0, Bucket(), Bucket(), 0, None, nothing, nothing, (), self.faults)

    def steps(self, state: State) -> Steps:
        steps: Steps = []
        if state.end < len(self.texts):
            name = f"the ledger receives {scripts.name(self.texts[state.end])}"
            steps.append((name, state._replace(end=state.end + 1)))
        self._apply(state, steps)
        self._vouch(state, steps)
        for offset in sorted(self._changes(state.end)):
            self._ask(state, offset, steps)
            if offset not in state.closed:
                over = state._replace(closed=state.closed | {offset})
                steps.append((f"the window of {offset} is over", over))
        self._harm_redis(state, steps)
        return steps

    def _changes(self, end: int) -> Offsets:
        return frozenset(change.offset for change in scripts.fold(self.texts[:end]))

    def _is_opted_out(self, end: int) -> bool:
        """Whether the one patient is, once so much of the ledger is applied."""
        changes = scripts.fold(self.texts[:end])
        return bool(changes) and changes[-1].kind == OUT

    def _apply(self, state: State, steps: Steps) -> None:
        bucket = state.bucket
        if not bucket.epoch:
            begun = state._replace(bucket=Bucket(state.epochs + 1), epochs=state.epochs + 1)
            steps.append(("the applier begins the bucket", begun))
        elif bucket.applied < state.end:
            granted = frozenset({bucket.applied}) & self._changes(state.end)
            applied = bucket._replace(applied=bucket.applied + 1, passes=bucket.passes | granted)
            steps.append((f"{bucket.applied} is applied", state._replace(bucket=applied)))

    def _vouch(self, state: State, steps: Steps) -> None:
        bucket, voucher = state.bucket, state.voucher
        if voucher is None:
            if bucket.epoch:
                seen = Voucher(state.server, bucket.epoch)
                steps.append(("the voucher reads the identity", state._replace(voucher=seen)))
        elif voucher.end == UNKNOWN:
            read = state._replace(voucher=voucher._replace(end=state.end))
            steps.append((f"the voucher reads the ledger's end {state.end}", read))
        elif voucher == (state.server, bucket.epoch, voucher.end) and bucket.applied >= voucher.end:
            kept = bucket.passes
            if bucket.marker != state.server and self.rules.first_vouching_drops_passes:
                kept = frozenset()
            vouched = bucket._replace(marker=state.server, passes=kept)
            steps.append(("the voucher vouches", state._replace(voucher=None, bucket=vouched)))
        else:
            steps.append(("the voucher may not vouch", state._replace(voucher=None)))

    # The guard of the one who sends confirmations

    def _ask(self, state: State, offset: int, steps: Steps) -> None:
        bucket = state.bucket
        is_open = offset not in state.closed or not self.rules.passes_in_window
        is_vouched = bucket.marker == state.server or not self.rules.passes_when_vouched
        granted = offset if self.rules.passes_by_offset else min(bucket.passes, default=UNKNOWN)
        opted_out = self._is_opted_out(bucket.applied)
        is_welcome = self.texts[offset].kind == OUT or not opted_out or not self.rules.passes_by_kind
        if is_open and is_vouched and is_welcome and granted in bucket.passes:
            if self.rules.passes_at_once:
                taken = state._replace(bucket=bucket._replace(passes=bucket.passes - {granted}))
                name = f"the confirmation of {offset} passes"
                late, unwelcome = offset in state.closed, self.texts[offset].kind == IN and opted_out
                steps.append((name, self._passed(taken, offset, late=late, unwelcome=unwelcome)))
            elif len(state.found) < 2:
                steps.append((f"a sender finds the pass of {offset}", state._replace(found=(*state.found, offset))))
        if state.found and state.found[0] == offset:
            taken = state._replace(bucket=bucket._replace(passes=bucket.passes - {offset}), found=state.found[1:])
            steps.append((f"the confirmation of {offset} passes", self._passed(taken, offset, late=False)))

    @staticmethod
    def _passed(state: State, offset: int, *, late: bool, unwelcome: bool = False) -> State:
        harm = Harm.CONFIRMED_LATE if late else Harm.CONFIRMED_UNWELCOME if unwelcome else None
        harm = Harm.CONFIRMED_TWICE if offset in state.passed else harm
        return state._replace(passed=state.passed | {offset}, harm=harm)

    def _harm_redis(self, state: State, steps: Steps) -> None:
        faults = state.faults
        if faults.losses:
            fewer = faults._replace(losses=faults.losses - 1)
            steps.append(("Redis is flushed", state._replace(bucket=Bucket(), faults=fewer)))
        if faults.snapshots:
            fewer = faults._replace(snapshots=faults.snapshots - 1)
            steps.append(("a snapshot is made", state._replace(snapshot=state.bucket, faults=fewer)))
        if faults.rollbacks:
            fewer = faults._replace(rollbacks=faults.rollbacks - 1)
            back = state._replace(server=state.server + 1, bucket=state.snapshot, faults=fewer)
            steps.append((f"server {back.server} goes on with the snapshot's data", back))

    # What must hold

    def broken(self, state: State) -> Harm | None:
        return state.harm

    def finished(self, state: State) -> bool:
        """Everything is applied and vouched for, and each confirmation has passed in time or its window is over."""
        settled = self._changes(len(self.texts)) <= state.passed | state.closed
        return settled and state.bucket.applied == len(self.texts) and state.bucket.marker == state.server
