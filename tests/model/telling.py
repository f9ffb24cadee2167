"""How far the changes of one bucket are told: the group's offset, its copy, and strangers who overwrite either (L3).

The models of the view and of two buckets take for granted that `published` is what the last transaction committed. Here
it is what it is in Kafka: an offset in the appliers' group, where a stranger may commit whatever it likes, and one in
the group's copy, which nobody joins and where nobody is fenced. Each record of the ledger is a change; some of them no
topic takes, and a dead letter has to tell of these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tests.model.explore import Harm
from tests.model.rules import Rules

UNKNOWN = -1


class Place(NamedTuple):
    """A committed offset, and whether it carries our note."""

    offset: int
    noted: bool = True


class Batch(NamedTuple):
    """A transaction: what it tells, and to which of the two groups its offset was sent."""

    start: int
    up_to: int
    in_copy: bool = False
    in_group: bool = False
    token_holds: bool = True


class Worker(NamedTuple):
    """A running worker: what it knows to be told, and its transaction."""

    known: int = UNKNOWN
    batch: Batch | None = None
    owes: bool = False
    """Whether the offset passed a change of which a dead letter is still to tell."""


class Faults(NamedTuple):
    """How often each thing may still go wrong."""

    crashes: int = 0
    stops: int = 0
    """A worker ends in order: what it told is trimmed."""
    rebalances: int = 0
    """The partition moves, and its owner has not heard."""
    strangers: int = 0
    """Somebody commits any offset in the group."""
    intruders: int = 0
    """Somebody commits any offset in the copy."""
    losses: int = 0
    """Redis is flushed: nobody remembers how far changes were told."""
    expiries: int = 0
    """What both groups committed expires: it was not written again for so long."""
    returns: int = 0
    """All workers are stopped, and those of the version before run for a while."""
    beginners: int = 0
    """A worker that owns other buckets begins the copies at the same time, and writes its 0 late."""


class State(NamedTuple):
    """Everything."""

    told: int
    kept: Place | None
    group: Place | None
    remembered: int
    """`published` in the bucket's meta."""
    owner: int
    workers: tuple[Worker | None, ...]
    faults: Faults
    begun: bool = False
    """Whether whoever tells changes of other buckets has given each bucket its copy."""
    others: bool = False
    """Whether changes of other buckets were told."""
    late: bool = False
    """Whether somebody found no copy of this bucket, and is still to write 0 into it."""
    harm: Harm | None = None

    def never_told(self) -> bool:
        """Whether no change of any bucket was ever told."""
        return self.told == 0 and not self.others

    def has_copy(self) -> bool:
        """Whether the copy holds an offset of ours."""
        return self.kept is not None and self.kept.noted


Steps = list[tuple[str, State]]


@dataclass(frozen=True)
class Telling:
    """The model. `end` is that of the ledger; `upgrade` says how far the version before had told, None for a new one.

    `outside`: a stranger overwrites the group before an upgrade, with an offset that cannot be.
    """

    end: int
    faults: Faults
    rules: Rules = field(default_factory=Rules)
    upgrade: int | None = None
    outside: bool = False
    early: bool = False
    """Whether strangers may commit before the first worker has told anything, while others tell in other buckets."""
    stopped_for_days: bool = False
    """Whether everything may expire while no worker runs."""
    unsendable: frozenset[int] = frozenset()
    """The changes that no topic ever takes."""

    def start(self) -> State:
        told = self.upgrade or 0
        group = None if self.upgrade is None else Place(told, noted=False)
        return State(told, None, group, told, 0, (Worker(), None), self.faults)

    def steps(self, state: State) -> Steps:
        steps: Steps = []
        for number, worker in enumerate(state.workers):
            if worker is not None:
                self._learn(state, number, worker, steps)
                self._take(state, number, worker, steps)
                self._send(state, number, worker, steps)
                if state.remembered < worker.known:
                    steps.append((f"w{number} trims", state._replace(remembered=worker.known)))
                if worker.owes:
                    steps.append((f"w{number} writes the letter", _with(state, number, worker._replace(owes=False))))
                if state.faults.crashes:
                    fewer = state._replace(faults=state.faults._replace(crashes=state.faults.crashes - 1))
                    if worker.owes:
                        fewer = fewer._replace(harm=Harm.LOST)  # nobody ever hears of that change
                    steps.append((f"w{number} dies", _with(fewer, number, None)))
                if state.faults.stops and state.remembered == worker.known and worker.batch is None and not worker.owes:
                    fewer = state._replace(faults=state.faults._replace(stops=state.faults.stops - 1))
                    steps.append((f"w{number} ends", _with(fewer, number, None)))
            self._assign(state, number, worker, steps)
        self._disturb(state, steps)
        return steps

    # The publisher

    def _learn(self, state: State, number: int, worker: Worker, steps: Steps) -> None:
        """Ask for `published`; while a transaction holds an offset of the copy there is no answer."""
        if worker.known != UNKNOWN or worker.batch is not None:
            return
        if state.never_told() and not state.has_copy() and self.rules.begins_copies != "none":
            steps.append((f"w{number} begins the copy of every bucket", state._replace(kept=Place(0), begun=True)))
            return
        batches = [one.batch for one in state.workers if one and one.batch]
        asked_group = not self.rules.published_from_copy
        if any(batch.in_group if asked_group else batch.in_copy for batch in batches) and self.rules.asks_when_settled:
            return
        learned = self._published(state)
        if learned is None:
            harm = Harm.ALARM if not self._disturbed(state) else None
            stopped = _with(state, number, None)._replace(harm=harm)
            steps.append((f"w{number} does not know how far changes were told, and stops", stopped))
        else:
            knows = worker._replace(known=learned)
            steps.append((f"w{number} learns that {learned} is told", _with(state, number, knows)))

    def _published(self, state: State) -> int | None:
        """Return how far changes were told, None where that is not known."""
        rules, kept, group, least = self.rules, state.kept, state.group, state.remembered
        if not rules.published_from_copy:
            return group.offset if group else 0
        if not rules.checks_told:
            least = 0
        noted = [one.offset for one in (kept, group) if one and (one.noted or not rules.notes_told)]
        behind = not noted or max(noted) < least
        if group and not group.noted and self._adopts(kept, group, least, behind=behind):
            return group.offset
        if noted:
            return None if behind else max(noted)
        return 0 if kept is None and group is None and least == 0 else None

    def _adopts(self, kept: Place | None, group: Place, least: int, *, behind: bool) -> bool:
        """Return whether the group's offset is the version before's: there is no copy yet, or it went on meanwhile."""
        if not self.rules.adopts_once:
            return True
        if kept is None:
            return least <= group.offset <= self.end or not self.rules.adopts_in_bounds
        return kept.noted and behind and group.offset == least

    def _disturbed(self, state: State) -> bool:
        return (state.faults.strangers, state.faults.intruders, state.faults.expiries) != (
            self.faults.strangers,
            self.faults.intruders,
            self.faults.expiries,
        )

    def _take(self, state: State, number: int, worker: Worker, steps: Steps) -> None:
        if worker.known == UNKNOWN or worker.batch is not None:
            return
        if worker.known < self.end:
            batch = Batch(worker.known, worker.known + 1)
            steps.append(
                (f"w{number} takes the change {worker.known}", _with(state, number, worker._replace(batch=batch)))
            )
        if {state.kept, state.group} != {Place(worker.known)} and self.rules.writes_again:
            batch = Batch(worker.known, worker.known)
            steps.append((f"w{number} writes {worker.known} again", _with(state, number, worker._replace(batch=batch))))

    def _send(self, state: State, number: int, worker: Worker, steps: Steps) -> None:
        batch = worker.batch
        if batch is None:
            return
        tells = f"{batch.up_to}"
        if batch.start < batch.up_to and batch.start in self.unsendable:
            if not self.rules.puts_aside:
                steps.append((f"{batch.start} is refused", _with(state, number, worker._replace(batch=None))))
                return
            tells += f", with a letter of {batch.start}" if self.rules.letter_with_offset else ""
        if not batch.in_copy and (batch.in_group or self.rules.fenced_last):
            sent = worker._replace(batch=batch._replace(in_copy=True))
            steps.append((f"w{number} sends {batch.up_to} to the copy", _with(state, number, sent)))
        elif not batch.in_group:
            if (state.owner == number and batch.token_holds) or not self.rules.fences_zombies:
                sent = worker._replace(batch=batch._replace(in_group=True))
                steps.append((f"w{number} sends {batch.up_to} to the group", _with(state, number, sent)))
            else:
                steps.append((f"w{number} is refused by the group", _with(state, number, Worker(owes=worker.owes))))
        else:
            passes = batch.start < batch.up_to and batch.start in self.unsendable
            owes = worker.owes or (passes and not self.rules.letter_with_offset)
            known = Worker(batch.up_to if batch.token_holds else UNKNOWN, owes=owes)
            steps.append((f"w{number} commits {tells}", self._told(_with(state, number, known), batch)))

    def _told(self, state: State, batch: Batch) -> State:
        harm = state.harm
        if batch.start < min(batch.up_to, state.told):
            harm = Harm.TWICE
        elif batch.start > state.told:
            harm = Harm.LOST
        place = Place(batch.up_to)
        return state._replace(told=max(state.told, batch.up_to), kept=place, group=place, harm=harm)

    # The group

    def _assign(self, state: State, number: int, worker: Worker | None, steps: Steps) -> None:
        owner_lives = state.workers[state.owner] is not None
        if state.owner == number and owner_lives:
            return
        if owner_lives:
            if not state.faults.rebalances:
                return
            state = state._replace(faults=state.faults._replace(rebalances=state.faults.rebalances - 1))
        batch = worker and worker.batch and worker.batch._replace(token_holds=False)
        received = _with(state, number, Worker(UNKNOWN, batch, owes=bool(worker and worker.owes)))
        steps.append((f"w{number} receives the bucket", received._replace(owner=number)))

    # Everybody else

    def _disturb(self, state: State, steps: Steps) -> None:
        faults = state.faults
        before_all = self.early and state.told == 0
        if faults.strangers and (state.kept is not None or self.outside or before_all):
            fewer = state._replace(faults=faults._replace(strangers=faults.strangers - 1))
            for offset in (state.told - 1, self.end + 1) if self.outside else range(self.end + 1):
                name = f"a stranger commits {offset} in the group"
                steps.append((name, fewer._replace(group=Place(offset, noted=False))))
        if faults.intruders and state.kept is not None:
            fewer = state._replace(faults=faults._replace(intruders=faults.intruders - 1))
            for offset in range(self.end + 1):
                name = f"a stranger commits {offset} in the copy"
                steps.append((name, fewer._replace(kept=Place(offset, noted=False))))
        if faults.losses and state.remembered:
            fewer = state._replace(faults=faults._replace(losses=faults.losses - 1))
            steps.append(("Redis is flushed", fewer._replace(remembered=0)))
        running = any(state.workers)
        if faults.expiries and (not self.rules.renews if running else self.stopped_for_days):
            fewer = state._replace(faults=faults._replace(expiries=faults.expiries - 1))
            steps.append(("what both groups committed expires", fewer._replace(kept=None, group=None, begun=False)))
        self._elsewhere(state, steps)
        if not running:
            self._while_stopped(state, steps)

    def _elsewhere(self, state: State, steps: Steps) -> None:
        """Let workers that own other buckets tell their changes, and begin the copies at the same time as ours."""
        if self.early and not state.others and (state.begun or self.rules.begins_copies != "every"):
            steps.append(("a change of another bucket is told", state._replace(others=True)))
        if state.faults.beginners and state.never_told() and not state.has_copy():
            fewer = state._replace(faults=state.faults._replace(beginners=state.faults.beginners - 1))
            steps.append(("another worker finds no copy of the bucket", fewer._replace(late=True)))
        if state.late:
            written = state._replace(kept=Place(0), begun=True, late=False)
            steps.append(("another worker writes 0 into the copy of the bucket", written))

    def _while_stopped(self, state: State, steps: Steps) -> None:
        """Let an operator set the offsets where nobody knows them, and the version before run for a while."""
        if self._disturbed(state) and self._published(state) is None:
            known = Place(state.told)
            steps.append((f"an operator sets {state.told} in both", state._replace(kept=known, group=known)))
        if state.faults.returns and state.group and state.group.offset == state.told < self.end:
            fewer = state._replace(faults=state.faults._replace(returns=state.faults.returns - 1))
            up_to = state.told + 1
            gone_on = fewer._replace(told=up_to, group=Place(up_to, noted=False), remembered=up_to)
            steps.append((f"the version before tells the change {state.told}", gone_on))

    # What must hold

    def broken(self, state: State) -> Harm | None:
        return state.harm

    def finished(self, state: State) -> bool:
        end = Place(self.end)
        return state.told == self.end and state.kept == end and state.group == end


def _with(state: State, number: int, worker: Worker | None) -> State:
    return state._replace(workers=(*state.workers[:number], worker, *state.workers[number + 1 :]))
