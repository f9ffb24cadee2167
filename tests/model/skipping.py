"""Skips: an operator lets a bucket pass a record that nobody can read, or a place where no record is.

The ledger holds what readers of our version read, what they do not (a newer version's STOP, a stranger's bytes), and
gaps. Whoever meets one of these stands before it, so that nothing is vouched for. An operator looks, and writes a skip.
Others may write into that topic by mistake, or may have skipped the same place of another ledger of that name.

What is guaranteed: nobody is ALLOWED against a STOP that was ever applied, or that stands in the ledger below what is
vouched for, unless an operator let that very record pass; what is told is the fold of the ledger without those records,
each once, whatever is lost and replayed; and with an operator at hand no bucket stands for ever.

Two workers can own the bucket: one of our version, and one of another that reads what ours does not. Where an operator
let a record pass, the other version is not used any more: what it reads counts again from the next replay on, which
is a limit and stands in docs/FAILURES.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from tests.model import scripts
from tests.model.explore import Harm
from tests.model.rules import Rules
from tests.model.scripts import IN, NOTHING, OUT, Text

if TYPE_CHECKING:
    from tests.model.scripts import Change, Stored

OURS, OTHER = 0, 1
"""The version of a worker, and of the ledger a skip was written for: ours, or another."""
NONE = -1
"""The digest of no record."""


class Place(NamedTuple):
    """One offset of the ledger: `text` is None where no record is, `readable` for a reader of our version."""

    text: Text | None
    readable: bool = True


class Skip(NamedTuple):
    """What stands in the topic of skips: the digest is the number of the record that it was made of, or NONE."""

    offset: int
    digest: int
    ledger: int = OURS


class Faults(NamedTuple):
    """How often each thing may still go wrong."""

    losses: int = 0
    moves: int = 0
    mistakes: int = 0
    """Skips that say what they must not."""


class State(NamedTuple):
    """Everything. `written` is the topic of skips, `known` those that the owner has read, `passed` those it used."""

    end: int = 0
    owner: int = OURS
    applied: int = 0
    stored: Stored = NOTHING
    outbox: tuple[Change, ...] = ()
    vouched: int = -1
    told: tuple[Change, ...] = ()
    published: int = 0
    written: frozenset[Skip] = frozenset()
    known: frozenset[Skip] = frozenset()
    passed: frozenset[Skip] = frozenset()
    accepted: frozenset[int] = frozenset()
    """The places that an operator let pass, having looked."""
    highest: frozenset[int] = frozenset()
    """The places of all records that were ever applied."""
    faults: Faults = Faults()
    harm: Harm | None = None


Steps = list[tuple[str, State]]


@dataclass(frozen=True)
class Skipping:
    """The model. `places` is the ledger, in order; all is of one patient."""

    places: tuple[Place, ...]
    faults: Faults
    rules: Rules = field(default_factory=Rules)
    looks_at_changes: bool = True
    """Whether what is told counts, too."""

    def start(self) -> State:
        return State(faults=self.faults)

    def steps(self, state: State) -> Steps:
        steps: Steps = []
        if state.end < len(self.places):
            steps.append((f"the ledger receives {self._name(state.end)}", state._replace(end=state.end + 1)))
        self._apply(state, steps)
        self._publish(state, steps)
        if state.applied == state.end:
            steps.append((f"vouched for up to {state.end}", state._replace(vouched=state.end)))
        self._operate(state, steps)
        self._mistake(state, steps)
        self._fail(state, steps)
        return steps

    def _name(self, offset: int) -> str:
        place = self.places[offset]
        if place.text is None:
            return "a gap"
        return f"{scripts.name(place.text)}{'' if place.readable else ', which only the other version reads'}"

    def _reads(self, owner: int, offset: int) -> Text | None:
        """Return the record that a worker reads at a place, None where it reads none."""
        place = self.places[offset]
        return place.text if place.readable or owner == OTHER else None

    # The applier

    def _apply(self, state: State, steps: Steps) -> None:
        offset = state.applied
        if offset >= state.end:
            return
        text = self._reads(state.owner, offset)
        skip = self._allowed(state, offset)
        ignores = text is None or not self.rules.skips_unreadable_only or (skip is not None and skip.digest == NONE)
        if skip is not None and ignores:
            over = state._replace(applied=offset + 1, passed=state.passed | {skip})
            steps.append((f"the owner passes over {offset}", over))
        elif text is not None:
            steps.append((f"the owner applies {offset}", self._applied(state, offset, text)))
        if self.rules.skips_asked_again and state.known != state.written:
            steps.append(("the owner reads the skips again", state._replace(known=state.written)))

    def _allowed(self, state: State, offset: int) -> Skip | None:
        """Return the skip under which the owner may pass over a place that it does not read."""
        rules = self.rules
        is_gap = self.places[offset].text is None
        for skip in sorted(state.known):
            if skip.offset != offset or (skip in state.passed and not rules.skips_kept):
                continue
            if skip.ledger != OURS and rules.skips_name_ledger:
                continue
            if skip.digest == NONE:  # what the client hands out next may be what it had fetched before a seek
                if is_gap or not rules.skips_proven_gaps:
                    return skip
            elif not is_gap and (skip.digest == offset or not rules.skips_name_digest):
                return skip
        return None

    def _applied(self, state: State, offset: int, text: Text) -> State:
        changed, stored = scripts.decide(state.stored, text, 1)
        outbox = state.outbox
        if changed and offset >= state.published:
            outbox = (*outbox, scripts.Change(offset, 0, stored.kind, stored.version))
        return state._replace(applied=offset + 1, stored=stored, outbox=outbox, highest=state.highest | {offset})

    # The publisher

    def _publish(self, state: State, steps: Steps) -> None:
        if state.published >= state.applied or not self.looks_at_changes:
            return
        told, up_to = (*state.told, *state.outbox), state.applied
        harm = None
        if told != _fold(self.places[:up_to], state.accepted):
            harm = Harm.LOST  # or something is told that the fold does not have
        done = state._replace(told=told, published=up_to, outbox=(), harm=harm)
        steps.append((f"changes are told up to {up_to}", done))

    # The operator

    def _operate(self, state: State, steps: Steps) -> None:
        """Let an operator who has the tools of our version look at a place, and write a skip."""
        for offset in range(state.end):
            if offset in state.accepted or self._reads(OURS, offset) is not None:
                continue
            if self.rules.skips_need_stand and (state.applied, state.owner) != (offset, OURS):
                continue
            if self.rules.skips_untold_only and offset < state.published:
                continue
            digest = NONE if self.places[offset].text is None else offset
            written = state.written | {Skip(offset, digest)}
            done = state._replace(written=written, accepted=state.accepted | {offset})
            steps.append((f"an operator has {offset} skipped", done))

    def _mistake(self, state: State, steps: Steps) -> None:
        """Let somebody write a skip that says what it must not: of anything but an unreadable record as it is."""
        if not state.faults.mistakes:
            return
        faults = state.faults._replace(mistakes=state.faults.mistakes - 1)
        for offset, place in enumerate(self.places):
            for skip in (Skip(offset, NONE), Skip(offset, offset), Skip(offset, offset, OTHER), Skip(offset, 99)):
                is_permission = skip == Skip(offset, offset) and not place.readable
                if not is_permission and skip not in state.written:
                    name = f"{offset} with digest {skip.digest} of ledger {skip.ledger}"
                    wrong = state._replace(written=state.written | {skip}, faults=faults)
                    steps.append((f"somebody writes a skip of {name}", wrong))

    # What fails

    def _fail(self, state: State, steps: Steps) -> None:
        faults = state.faults
        if faults.losses:
            lost = state._replace(applied=0, stored=NOTHING, outbox=(), vouched=-1)
            steps.append(("Redis is flushed", lost._replace(faults=faults._replace(losses=faults.losses - 1))))
        passed_by = any(self.places[offset].text is not None for offset in state.accepted)
        if faults.moves and not (state.owner == OURS and passed_by):
            owner = OTHER if state.owner == OURS else OURS
            moved = state._replace(owner=owner, known=state.written, faults=faults._replace(moves=faults.moves - 1))
            steps.append((f"the bucket moves to {'the other' if owner else 'our'} version", moved))

    # What must hold

    def broken(self, state: State) -> Harm | None:
        if state.harm is not None:
            return state.harm
        if state.vouched < 0 or state.stored.kind == OUT:
            return None
        counts = state.highest | frozenset(range(state.vouched))
        came = [
            (place.text.time, place.text.kind)
            for offset, place in enumerate(self.places)
            if place.text is not None and offset in counts and offset not in state.accepted
        ]
        return Harm.ALLOWED if came and max(came)[1] == OUT else None

    def finished(self, state: State) -> bool:
        done = state.published == len(self.places) or not self.looks_at_changes
        return done and state.vouched == state.applied == len(self.places)


@cache
def _fold(places: tuple[Place, ...], accepted: frozenset[int]) -> tuple[Change, ...]:
    """Return the changes that the ledger leads to without the records that an operator let pass."""
    changes, stored = [], NOTHING
    for offset, place in enumerate(places):
        if place.text is None or offset in accepted:
            continue
        changed, stored = scripts.decide(stored, place.text, 1)
        if changed:
            changes.append(scripts.Change(offset, 0, stored.kind, stored.version))
    return tuple(changes)


STOP, START, STOP_AGAIN = Place(Text(0, 1, OUT)), Place(Text(0, 2, IN)), Place(Text(0, 3, OUT))
UNREADABLE, GAP = Place(Text(0, 1, OUT), readable=False), Place(None)
