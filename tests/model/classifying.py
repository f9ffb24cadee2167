"""Inbound to ledger, and the time that a voucher learns of it from committed offsets alone (L5, and the order of L4).

Each record that comes in is a STOP. Classifiers read, write, commit, die, lose partitions without noticing, and one of
them may write to another ledger than the voucher's. When a voucher has learned a time and read the ledger's end, every
record that had come in by that time must stand below that end: the model of the view takes this for granted.

A record may come in within a transaction that stays open. Nobody is handed it, or what stands behind it, before the
transaction is committed or aborted; then a marker takes an offset, and so does a record that was aborted.

Each inbound partition is a topic of its own, which may be deleted and made anew under its name. Its commits stay.

With `copy` the group's offsets have a copy in a group that nobody joins. A stranger may overwrite either at any time: a
member whom the group let in, a tool, a script.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from consumer.domain.freshness import Bounds, Freshness
from tests.model.explore import Harm
from tests.model.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Mapping

UNKNOWN = -1
NOT_MINE = -1
NOBODY = -1
GONE = -2
"""The partition of records that were deleted with their topic: nobody can read them any more."""
UNNAMED = -1
OURS, OTHER = "ours", "other"

Offsets = tuple[int | None, ...]
Records = frozenset[tuple[int, int]]
"""Records of inbound: (partition, offset)."""
Written = frozenset[tuple[int, int, int]]
"""Records that a classifier wrote: (partition, offset, the mark it was made under), as a place among its marks."""


class Committed(NamedTuple):
    """An offset that the classifiers' group has committed, and the ledger and the topic that it names, if any."""

    offset: int
    note: str
    topic: int


class Sample(NamedTuple):
    """Where the inbound partitions ended at some time; times are numbers of records that had come in."""

    time: int
    ends: tuple[int, ...]


class Mark(NamedTuple):
    """Positions that were noted together, and how many records were made under the mark (0 while nobody counts)."""

    positions: tuple[int, ...]
    made: int = 0


class Classifier(NamedTuple):
    """A running classifier: its positions, what it knows to be committed, and what it wrote that has no answer yet.

    `marks` are those that were noted and not committed yet, the oldest first; the place behind them is that of the open
    one, under which records are made now.
    """

    positions: tuple[int, ...]
    committed: Offsets
    topics: tuple[int, ...]
    """Which one each inbound topic was when it was received."""
    unacknowledged: Written = frozenset()
    marks: tuple[Mark, ...] = ()
    made: int = 0
    """Records that were made under the open mark (counted only without a rule)."""
    expelled: bool = False
    """Whether the group takes it for dead, and it has not noticed."""


class Claim(NamedTuple):
    """What a pass found out about a bucket that had not reached the ledger's end: kept until it has."""

    clock: int
    fresh: int
    ledger: Records


class Voucher(NamedTuple):
    """How far one pass has come, and the samples of the passes before."""

    clock: int = UNKNOWN
    topics: tuple[int, ...] | None = None
    committed: tuple[tuple[Committed | None, ...], ...] | None = None
    """What the group and its copy held of each partition that there was."""
    ends: tuple[int, ...] | None = None
    fresh: int = UNKNOWN
    ledger: Records | None = None
    samples: tuple[Sample, ...] = ()
    claim: Claim | None = None


class Faults(NamedTuple):
    """How often each thing may still go wrong."""

    crashes: int = 0
    rebalances: int = 0
    """A partition is taken from a member that hears of it in time."""
    zombies: int = 0
    """A member is taken for dead and goes on."""
    clocks: int = 0
    """Redis's clock is set back, by more than goes by before the voucher reads it again."""
    recreations: int = 0
    """An inbound topic is deleted and made anew."""
    transactions: int = 0
    """A producer opens a transaction and writes a record in it. One that stays open for ever is among the traces."""
    strangers: int = 0
    """Somebody else commits an offset, in the group or in its copy."""
    expiries: int = 0
    """What both groups have committed of a partition expires."""


class State(NamedTuple):
    """Everything. `classifiers` are None while they do not run."""

    arrivals: tuple[int, ...]
    """The partition of each record that came in, in the order of time."""
    partitions: int
    ledger: Records
    committed: tuple[Committed | None, ...]
    owners: tuple[int, ...]
    classifiers: tuple[Classifier | None, ...]
    voucher: Voucher
    vouched: int
    faults: Faults
    topics: tuple[int, ...]
    """Which one each inbound topic is: a number that is never used again."""
    open: Offsets
    """The offset of the record of each partition whose transaction is open: readers get no further."""
    unreadable: Records
    """Records that take an offset and are handed to nobody: a transaction's marker, and what it aborted."""
    kept: tuple[Committed | None, ...] = ()
    """The copy of what is committed, in a group that nobody joins; empty where it is not looked at."""
    set_back: int = 0
    """How much later it is than Redis's clock says."""
    harm: Harm | None = None

    @property
    def now(self) -> int:
        """What Redis's clock says."""
        return len(self.arrivals) - self.set_back

    def is_ahead_of_clock(self) -> bool:
        """Return whether the clock was set back, and the voucher has not read it since."""
        samples, clock = self.voucher.samples, self.voucher.clock
        return self.now < max(clock, samples[-1].time if samples else UNKNOWN)


Steps = list[tuple[str, State]]


@dataclass(frozen=True)
class Classifying:
    """The model. `inbound` says how many records each partition gets; `ledgers` to which one each classifier writes."""

    inbound: tuple[int, ...]
    faults: Faults
    rules: Rules = field(default_factory=Rules)
    ledgers: tuple[str, ...] = (OURS, OURS)
    controls: Records = frozenset()
    """Records that are a transaction's marker: they take an offset, and no reader is handed them."""
    late_partitions: int = 0
    """How many of the partitions are created only after the start."""
    most_samples: int = 2
    most_marks: int = 0
    """How many marks may wait at once; 0: one is noted and committed in one step, when nothing is outstanding."""
    copy: bool = False
    silences: bool = False
    """Whether the group or its copy may not answer: the other's offsets are then enough where all of them are ours."""
    keeps_claims: bool = False
    """Whether a bucket may reach the ledger's end of a pass only after later ones."""

    def start(self) -> State:
        count = len(self.inbound)
        partitions = count - self.late_partitions
        nobody, firsts = (NOBODY,) * count, (0,) * count
        classifiers = (self._newly_started(), *([None] * (len(self.ledgers) - 1)))
        nothing: Offsets = (None,) * count
        return State(
            (),
            partitions,
            frozenset(),
            (None,) * count,
            nobody,
            classifiers,
            Voucher(),
            UNKNOWN,
            self.faults,
            firsts,
            nothing,
            self.controls,
            (None,) * count if self.copy else (),
        )

    def steps(self, state: State) -> Steps:
        steps: Steps = []
        if not state.is_ahead_of_clock():
            for partition in range(state.partitions):
                self._come_in(state, partition, steps)
        if state.partitions < len(self.inbound):
            steps.append((f"inbound {state.partitions} is created", state._replace(partitions=state.partitions + 1)))
        if state.faults.recreations:
            for partition in range(state.partitions):
                steps.append((f"inbound {partition} is deleted and made anew", _made_anew(state, partition)))
        self._overwrite(state, steps)
        for number, classifier in enumerate(state.classifiers):
            if classifier is None:
                steps.append((f"c{number} starts", _with(state, number, self._newly_started())))
                continue
            self._read(state, number, classifier, steps)
            self._acknowledge(state, number, classifier, steps)
            self._note(state, number, classifier, steps)
            self._commit(state, number, classifier, steps)
            self._write_again(state, number, classifier, steps)
            self._notice(state, number, classifier, steps)
            self._lose(state, number, classifier, steps)
            for partition in range(state.partitions):
                if state.owners[partition] == NOBODY and not classifier.expelled:
                    self._receive(state, number, partition, steps)
        self._vouch(state, steps)
        return steps

    def _newly_started(self) -> Classifier:
        count = len(self.inbound)
        return Classifier((NOT_MINE,) * count, (None,) * count, (0,) * count)

    # Upstream

    def _come_in(self, state: State, partition: int, steps: Steps) -> None:
        offset, faults = state.arrivals.count(partition), state.faults
        arrived = state._replace(arrivals=(*state.arrivals, partition))
        if self._left(state, partition):
            steps.append((f"a record comes into inbound {partition}", arrived))
            if faults.transactions and state.open[partition] is None:
                opened = arrived._replace(
                    open=_put(state.open, partition, offset),
                    faults=faults._replace(transactions=faults.transactions - 1),
                )
                steps.append((f"a record comes into inbound {partition} in a transaction that stays open", opened))
        if (first := state.open[partition]) is not None:
            marked = state.unreadable | {(partition, offset)}
            ended = arrived._replace(open=_put(state.open, partition, None))
            name = f"the open transaction of inbound {partition} is"
            steps.append((f"{name} committed", ended._replace(unreadable=marked)))
            steps.append((f"{name} aborted", ended._replace(unreadable=marked | {(partition, first)})))

    def _left(self, state: State, partition: int) -> int:
        """Return how many records are still to come into a partition: markers are none, what is aborted comes again."""
        none = sum(one == partition for one, _ in state.unreadable - self.controls) if self.faults.transactions else 0
        return self.inbound[partition] - state.arrivals.count(partition) + none

    # The classifier

    def _read(self, state: State, number: int, classifier: Classifier, steps: Steps) -> None:
        for partition, position in enumerate(classifier.positions):
            end = _readable(state, partition)
            if position in (NOT_MINE, end):
                continue
            if position > end:  # of a topic that was longer
                steps.append((f"c{number} finds no offset {position} and ends", self._gone(state, number)))
                continue
            ahead = [offset for offset in range(position, end) if (partition, offset) not in state.unreadable]
            if ahead:
                written = classifier.unacknowledged | {(partition, ahead[0], len(classifier.marks))}
                read = classifier._replace(
                    positions=_put(classifier.positions, partition, ahead[0] + 1),
                    unacknowledged=written,
                    made=0 if self.rules.completes_its_mark else classifier.made + 1,
                )
                name = f"c{number} writes the record {ahead[0]} of inbound {partition}"
                steps.append((name, _with(state, number, read)))
            elif self.rules.commits_at_end:
                read = classifier._replace(positions=_put(classifier.positions, partition, end))
                steps.append((f"c{number} sees the end {end} of inbound {partition}", _with(state, number, read)))

    def _acknowledge(self, state: State, number: int, classifier: Classifier, steps: Steps) -> None:
        for record in sorted(classifier.unacknowledged):
            acknowledged = classifier._replace(unacknowledged=classifier.unacknowledged - {record})
            after = _with(state, number, acknowledged)
            if self.ledgers[number] == OURS and record[0] != GONE:
                after = after._replace(ledger=state.ledger | {record[:2]})
            name = f"c{number}'s record {record[1]} of inbound {record[0]} is in its ledger"
            steps.append((name, after))

    def _note(self, state: State, number: int, classifier: Classifier, steps: Steps) -> None:
        """Note the positions, and open another mark: what is made from now on says nothing of these."""
        last = classifier.marks[-1].positions if classifier.marks else classifier.committed
        if len(classifier.marks) < self.most_marks and last != classifier.positions:
            noted = classifier._replace(
                marks=(*classifier.marks, Mark(classifier.positions, classifier.made)),
                made=0,
            )
            steps.append((f"c{number} notes {classifier.positions}", _with(state, number, noted)))

    def _done(self, classifier: Classifier) -> int | None:
        """Return the place of the newest mark that is done; None where none is."""
        outstanding = [mark for _, _, mark in classifier.unacknowledged]
        made = [*(mark.made for mark in classifier.marks), classifier.made]
        done = None
        for place in range(len(classifier.marks)):
            if not self.rules.completes_its_mark:
                if len(outstanding) > sum(made[place + 1 :]):
                    break
            elif place in outstanding or (self.rules.completes_in_order and any(one < place for one in outstanding)):
                continue
            done = place
        return done

    def _commit(self, state: State, number: int, classifier: Classifier, steps: Steps) -> None:
        if classifier.expelled and self.rules.commits_as_member:
            return  # refused: nothing is changed by it
        done = self._done(classifier)
        noted, rest = classifier.positions, classifier
        if done is not None and self.rules.commits_acknowledged:
            noted, rest = classifier.marks[done].positions, _behind(classifier, done)
        elif self.rules.commits_acknowledged and (self.most_marks or classifier.unacknowledged):
            return
        moved = {one: offset for one, offset in enumerate(noted) if offset not in (NOT_MINE, classifier.committed[one])}
        known = tuple(moved.get(one, offset) for one, offset in enumerate(classifier.committed))
        if moved or rest != classifier:
            after = _with(state, number, rest._replace(committed=known))
            offsets = ", ".join(f"{offset} of inbound {one}" for one, offset in moved.items()) or "nothing new"
            steps.append((f"c{number} commits {offsets}", self._committed(after, number, moved)))

    def _committed(self, state: State, number: int, offsets: dict[int, int]) -> State:
        """Commit these offsets; where owners never write again, the copy is written along with them and never after."""
        named = {one: self._named(state, number, one, offset) for one, offset in offsets.items()}
        after = state._replace(committed=_renewed(state.committed, named))
        if state.kept and not self.rules.writes_again:
            after = after._replace(kept=_renewed(state.kept, named))
        return after

    def _named(self, state: State, number: int, partition: int, offset: int) -> Committed:
        """Return an offset as a classifier commits it."""
        classifier = state.classifiers[number]
        assert classifier is not None
        note = self.ledgers[number] if self.rules.names_ledger else ""
        return Committed(offset, note, classifier.topics[partition] if self.rules.names_topic else UNNAMED)

    def _write_again(self, state: State, number: int, classifier: Classifier, steps: Steps) -> None:
        """Write into the copy, or again into the group, what is not there. Nobody fences a zombie off the copy."""
        if not self.rules.writes_again or not state.kept:
            return
        for partition, offset in enumerate(classifier.committed):
            if offset is None:
                continue
            known = self._named(state, number, partition, offset)
            if state.kept[partition] != known:
                after = state._replace(kept=_renewed(state.kept, {partition: known}))
                steps.append((f"c{number} keeps {offset} of inbound {partition} in the copy", after))
            if state.committed[partition] != known and not classifier.expelled:
                after = state._replace(committed=_renewed(state.committed, {partition: known}))
                steps.append((f"c{number} commits {offset} of inbound {partition} again", after))

    def _overwrite(self, state: State, steps: Steps) -> None:
        """Let a stranger commit the end of a partition, without a note; or let everything expire."""
        faults = state.faults
        for partition in range(state.partitions):
            theirs = {partition: Committed(state.arrivals.count(partition), "", UNNAMED)}
            if faults.strangers:
                fewer = state._replace(faults=faults._replace(strangers=faults.strangers - 1))
                name = f"a stranger commits the end of inbound {partition}"
                steps.append((f"{name} in the group", fewer._replace(committed=_renewed(state.committed, theirs))))
                if state.kept:
                    steps.append((f"{name} in the copy", fewer._replace(kept=_renewed(state.kept, theirs))))
            if faults.expiries:
                fewer = state._replace(faults=faults._replace(expiries=faults.expiries - 1))
                nothing = {partition: None}
                expired = fewer._replace(
                    committed=_renewed(state.committed, nothing),
                    kept=_renewed(state.kept, nothing) if state.kept else (),
                )
                steps.append((f"what is committed of inbound {partition} expires", expired))

    def _notice(self, state: State, number: int, classifier: Classifier, steps: Steps) -> None:
        """End, where an inbound topic is another one than was received."""
        if not self.rules.notices_other_topic:
            return
        for partition, topic in enumerate(classifier.topics):
            if classifier.positions[partition] != NOT_MINE and topic != state.topics[partition]:
                name = f"c{number} finds that inbound {partition} is another and ends"
                steps.append((name, self._gone(state, number)))

    # The group

    def _receive(self, state: State, number: int, partition: int, steps: Steps) -> None:
        for silent, both in self._answers(state, partition):
            if not silent or any(
                self._resumes(one, self.ledgers[number], state.topics[partition]) for one in both if one
            ):
                name, after = self._received(state, number, partition, both)
                steps.append((name + silent, after))

    def _received(
        self, state: State, number: int, partition: int, both: tuple[Committed | None, ...]
    ) -> tuple[str, State]:
        """Return what becomes of it where the group and its copy hold this."""
        classifier, end = state.classifiers[number], state.arrivals.count(partition)
        assert classifier is not None
        found = [one for one in both if one is not None]
        ours = [one.offset for one in found if self._resumes(one, self.ledgers[number], state.topics[partition])]
        others = [one for one in found if one.note not in ("", self.ledgers[number])]
        if others and not ours and self.rules.refuses_other_ledger:
            return f"c{number} refuses inbound {partition} and ends", self._gone(state, number)
        if others and not self.rules.refuses_other_ledger:
            ours += [one.offset for one in others]
        if ours:
            start = max(ours) if self.rules.resumes_at_committed else end
        else:
            start = 0 if self.rules.begins_at_first else end
        before = both[0]
        at_hand = before is not None and (before.offset, before.note) == (start, self.ledgers[number])
        known = start if (at_hand and bool(ours)) or not self.rules.commits_at_takeover else None
        received = classifier._replace(
            positions=_put(classifier.positions, partition, start),
            committed=_put(classifier.committed, partition, known),
            topics=_put(classifier.topics, partition, state.topics[partition]),
        )
        after = _with(state, number, received)._replace(owners=_put(state.owners, partition, number))
        return f"c{number} receives inbound {partition} at {start}", after

    def _answers(self, state: State, partition: int) -> list[tuple[str, tuple[Committed | None, ...]]]:
        """Return what may be heard of the group and its copy: what both hold, or one of them alone."""
        group, *copy = both = self._both(state, partition)
        alone = [(", the copy silent", (group, None)), (", the group silent", (None, *copy))] if self.silences else []
        return [("", both), *alone]

    @staticmethod
    def _both(state: State, partition: int) -> tuple[Committed | None, ...]:
        """Return what the group has committed of a partition, and what its copy holds."""
        return (state.committed[partition], *state.kept[partition : partition + 1])

    def _resumes(self, committed: Committed, ledger: str, topic: int) -> bool:
        """Return whether a classifier may go on at an offset: the greatest of those counts."""
        if not committed.note:
            return not self.rules.resumes_at_noted
        return committed.note == ledger and (committed.topic == topic or not self.rules.rereads_other_topic)

    def _lose(self, state: State, number: int, classifier: Classifier, steps: Steps) -> None:
        faults = state.faults
        if faults.crashes:
            died = self._gone(state, number)._replace(faults=faults._replace(crashes=faults.crashes - 1))
            steps.append((f"c{number} dies", died))
        if classifier.expelled:
            nothing = (NOT_MINE,) * len(self.inbound)
            lost = classifier._replace(positions=nothing, committed=(None,) * len(nothing), expelled=False)
            for partition in range(len(self.inbound)):
                lost = self._without_marks(lost, partition)
            steps.append((f"c{number} hears that it has lost everything", _with(state, number, lost)))
        elif faults.zombies and number in state.owners:
            fewer = state._replace(faults=faults._replace(zombies=faults.zombies - 1))
            expelled = _with(fewer, number, classifier._replace(expelled=True))
            steps.append((f"the group takes c{number} for dead", self._without_owner(expelled, number)))
        if faults.rebalances and not classifier.expelled:
            fewer = state._replace(faults=faults._replace(rebalances=faults.rebalances - 1))
            for partition, position in enumerate(classifier.positions):
                if position != NOT_MINE:
                    self._give_up(fewer, number, classifier, partition, steps)

    def _give_up(self, state: State, number: int, classifier: Classifier, partition: int, steps: Steps) -> None:
        """Commit the newest mark that is done, whose positions may be the last ones, and let the partition go."""
        rest = classifier._replace(
            positions=_put(classifier.positions, partition, NOT_MINE),
            committed=_put(classifier.committed, partition, None),
        )
        given = _with(state, number, self._without_marks(rest, partition))._replace(
            owners=_put(state.owners, partition, NOBODY)
        )
        steps.append((f"c{number} gives inbound {partition} up without a commit", given))
        done = self._done(classifier)
        if not self.rules.commits_acknowledged or not classifier.unacknowledged:
            position = classifier.positions[partition]
        elif done is not None:
            position = classifier.marks[done].positions[partition]
        else:
            return
        if position != NOT_MINE:
            name = f"c{number} gives inbound {partition} up and commits {position}"
            steps.append((name, self._committed(given, number, {partition: position})))

    def _without_marks(self, classifier: Classifier, partition: int) -> Classifier:
        """Take a partition that was given up out of every mark. What was made of it stays outstanding."""
        if not self.rules.leaves_marks:
            return classifier
        marks = tuple(mark._replace(positions=_put(mark.positions, partition, NOT_MINE)) for mark in classifier.marks)
        return classifier._replace(marks=marks)

    def _gone(self, state: State, number: int) -> State:
        return self._without_owner(_with(state, number, None), number)

    @staticmethod
    def _without_owner(state: State, number: int) -> State:
        return state._replace(owners=tuple(NOBODY if owner == number else owner for owner in state.owners))

    # The voucher, in the order of its steps

    def _vouch(self, state: State, steps: Steps) -> None:
        rules, voucher = self.rules, state.voucher
        now = state.now
        if state.faults.clocks and voucher.samples and voucher.samples[-1].time > 0 and not state.is_ahead_of_clock():
            now_set = voucher.samples[-1].time - 1
            fewer = state.faults._replace(clocks=state.faults.clocks - 1)
            later = state._replace(set_back=len(state.arrivals) - now_set, faults=fewer)
            steps.append((f"Redis's clock is set back to {now_set}", later))
        if voucher.claim is not None:
            without = state._replace(voucher=voucher._replace(claim=None))
            steps.append(self._vouched(without, voucher.claim, "the bucket comes to its end, and "))
        if voucher.ledger is None and not rules.time_before_end:
            read = voucher._replace(ledger=state.ledger)
            steps.append(("the voucher reads the ledger's end", state._replace(voucher=read)))
            return
        knows_topics = voucher.topics is not None or not self.faults.recreations
        if not knows_topics and (voucher.clock != UNKNOWN or not rules.clock_before_topics):
            read = voucher._replace(topics=state.topics)
            steps.append(("the voucher reads which topics inbound's are", state._replace(voucher=read)))
            return
        if voucher.committed is None:
            self._ask_committed(state, steps)
        elif voucher.clock == UNKNOWN and (rules.clock_before_sample or voucher.ends is not None):
            outlived = rules.drops_claims and voucher.samples and now < voucher.samples[-1].time
            read = voucher._replace(clock=now, claim=None if outlived else voucher.claim)
            steps.append((f"the voucher reads the clock: {now}", self._learned(state, read)))
        elif voucher.ends is None:
            listed = state.partitions if rules.lists_live else len(self.inbound) - self.late_partitions
            ends = tuple(
                state.arrivals.count(partition) if rules.samples_as_held else _readable(state, partition)
                for partition in range(listed)
            )
            read = voucher._replace(ends=ends)
            steps.append((f"the voucher reads the ends {ends}", self._learned(state, read)))
        elif voucher.ledger is not None and voucher.fresh != UNKNOWN:
            claim = Claim(voucher.clock, voucher.fresh, voucher.ledger)
            done = state._replace(voucher=Voucher(samples=voucher.samples, claim=voucher.claim))
            steps.append(self._vouched(done, claim))
            if self.keeps_claims and not state.is_ahead_of_clock():
                waits = state._replace(voucher=Voucher(samples=voucher.samples, claim=claim))
                steps.append(("the bucket is behind", waits))

    def _ask_committed(self, state: State, steps: Steps) -> None:
        # What it asks behind that at any time, it asks here at once: the ledger only grows.
        voucher = state.voucher
        ledger = state.ledger if voucher.ledger is None else voucher.ledger
        for answers in zip(*(self._answers(state, partition) for partition in range(state.partitions)), strict=True):
            silent, found = answers[0][0], tuple(both for _, both in answers)
            if silent and not all(any(one and one.note == OURS for one in both) for both in found):
                continue
            read = voucher._replace(committed=found, ledger=ledger)
            offsets = [[one and one.offset for one in both] for both in found]
            steps.append((f"the voucher reads the committed offsets {offsets}{silent}", state._replace(voucher=read)))

    def _vouched(self, state: State, claim: Claim, when: str = "") -> tuple[str, State]:
        """Write a time into the bucket, which has reached the ledger's end."""
        if self.rules.refuses_ahead and (state.is_ahead_of_clock() or claim.clock > state.now):
            return f"{when}nobody may vouch by a clock that was set back", state
        claimed = min(claim.fresh, state.now) + state.set_back
        covered = _covered(state.arrivals, claimed)
        harm = None if covered - state.unreadable <= claim.ledger else Harm.ALLOWED
        after = state._replace(vouched=max(state.vouched, claimed), harm=harm)
        return f"{when}the voucher vouches for {claimed - state.set_back}", after

    def _counted(self, state: State, voucher: Voucher) -> Offsets:
        """Return what counts of the committed offsets, of all partitions whose ends are known."""
        assert voucher.committed is not None
        assert voucher.ends is not None
        topics = voucher.topics or state.topics
        counted = []
        for partition in range(len(voucher.ends)):
            both = voucher.committed[partition] if partition < len(voucher.committed) else ()
            found = [one.offset for one in both if one and self._counts(one, topics[partition])]
            counted.append(max(found, default=None))
        return tuple(counted)

    def _counts(self, committed: Committed, topic: int) -> bool:
        """Return whether an offset says up to where everything is in our ledger: the greatest of those counts."""
        if not committed.note:
            return not self.rules.counts_noted
        ours = committed.note == OURS or not self.rules.counts_own_ledger
        return ours and (committed.topic == topic or not self.rules.counts_own_topic)

    def _learned(self, state: State, voucher: Voucher) -> State:
        """Learn the time once clock, offsets and ends are read; where none is reached the pass is over."""
        if voucher.clock == UNKNOWN or voucher.committed is None or voucher.ends is None:
            return state._replace(voucher=voucher)
        committed = self._counted(state, voucher)
        if not self.rules.unread_holds_back:
            committed = tuple(
                end if offset is None else offset for offset, end in zip(committed, voucher.ends, strict=True)
            )
        everywhere = tuple(range(len(committed)))
        ways = [everywhere] if self.rules.every_partition else [(one,) for one in everywhere]
        fresh = UNKNOWN
        samples: tuple[Sample, ...] = ()
        for way in ways:
            reached, samples = _reached(voucher.samples, Sample(voucher.clock, voucher.ends), committed, way)
            fresh = max(fresh, reached)
        samples = samples[-self.most_samples :]
        if fresh == UNKNOWN:
            return state._replace(voucher=Voucher(samples=samples, claim=voucher.claim))
        return state._replace(voucher=voucher._replace(fresh=fresh, samples=samples))

    # What must hold

    def broken(self, state: State) -> Harm | None:
        return state.harm

    def finished(self, state: State) -> bool:
        return (
            state.partitions == len(self.inbound)
            and not any(self._left(state, partition) for partition in range(len(self.inbound)))
            and state.vouched == len(state.arrivals)
            and _covered(state.arrivals, len(state.arrivals)) - state.unreadable <= state.ledger
        )


def _readable(state: State, partition: int) -> int:
    """Return where a reader's way ends: at the record of the transaction that is open, else at the end."""
    first = state.open[partition]
    return state.arrivals.count(partition) if first is None else first


def _put(values: tuple[int | None, ...], which: int, value: int | None) -> tuple:  # type: ignore[type-arg]
    return (*values[:which], value, *values[which + 1 :])


def _behind(classifier: Classifier, done: int) -> Classifier:
    """Return what is left when the marks up to this one are committed."""
    left = frozenset((at, offset, max(0, mark - done - 1)) for at, offset, mark in classifier.unacknowledged)
    return classifier._replace(marks=classifier.marks[done + 1 :], unacknowledged=left)


def _renewed(
    before: tuple[Committed | None, ...], offsets: Mapping[int, Committed | None]
) -> tuple[Committed | None, ...]:
    return tuple(offsets.get(one, committed) for one, committed in enumerate(before))


def _with(state: State, number: int, classifier: Classifier | None) -> State:
    classifiers = (*state.classifiers[:number], classifier, *state.classifiers[number + 1 :])
    return state._replace(classifiers=classifiers)


@cache
def _covered(arrivals: tuple[int, ...], time: int) -> Records:
    """Return the records that had come in by a time, and can still be read."""
    return frozenset(
        (partition, arrivals[:at].count(partition)) for at, partition in enumerate(arrivals[:time]) if partition != GONE
    )


def _made_anew(state: State, partition: int) -> State:
    """Return what is left when a topic takes the place of another: its records are gone, what is known of it stays."""

    def kept(records: Records) -> Records:
        return frozenset(record for record in records if record[0] != partition)

    def lost(classifier: Classifier | None) -> Classifier | None:
        if classifier is None:
            return None
        renamed = frozenset(
            (GONE if at == partition else at, offset, mark) for at, offset, mark in classifier.unacknowledged
        )
        return classifier._replace(unacknowledged=renamed)

    voucher = state.voucher
    claim = voucher.claim and voucher.claim._replace(ledger=kept(voucher.claim.ledger))
    return state._replace(
        arrivals=tuple(GONE if at == partition else at for at in state.arrivals),
        topics=_put(state.topics, partition, state.topics[partition] + 1),
        open=_put(state.open, partition, None),
        unreadable=kept(state.unreadable),
        ledger=kept(state.ledger),
        voucher=voucher._replace(ledger=None if voucher.ledger is None else kept(voucher.ledger), claim=claim),
        classifiers=tuple(lost(classifier) for classifier in state.classifiers),
        faults=state.faults._replace(recreations=state.faults.recreations - 1),
    )


@cache
def _reached(
    samples: tuple[Sample, ...], newest: Sample, committed: Offsets, partitions: tuple[int, ...]
) -> tuple[int, tuple[Sample, ...]]:
    """Ask the product: return the time that is reached (UNKNOWN: none), and what samples are left."""
    freshness: Freshness[int] = Freshness()
    for sample in samples:
        freshness.reached(sample.time, {}, {one: Bounds(0, end) for one, end in enumerate(sample.ends)})
    ends = {partition: Bounds(0, newest.ends[partition]) for partition in partitions}
    fresh = freshness.reached(newest.time, {one: committed[one] for one in partitions}, ends)
    left = dict.fromkeys(Sample(time, tuple(ends.values())) for time, ends in freshness._samples)
    return UNKNOWN if fresh is None else fresh, tuple(left)
