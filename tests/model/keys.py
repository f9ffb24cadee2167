"""The keys of one location: set, state and `locations` are lost one by one, and counting finds it (L2, L4).

The view's model takes what a bucket stores for one thing, written in one step and lost in one step. Here it is what it
is in Redis: several keys, and patients' entries in them. There is one worker, whose publisher tells a change as soon as
it is decided, and whose voucher counts.

What is guaranteed: a wrong ALLOWED needs a loss that happened under the identity that is served from, and lasts until
the next count. `excused` says that there is such a loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.model import scripts
from tests.model.explore import Harm
from tests.model.rules import Rules
from tests.model.scripts import NOTHING, OUT, Stored

if TYPE_CHECKING:
    from tests.model.scripts import Text

UNKNOWN = -1

Members = frozenset[int]
Records = tuple[tuple[int, Stored], ...]
"""The fields of the state's hash: (patient, what is stored), sorted."""


class Location(NamedTuple):
    """The keys of the one location. An `epoch` of 0 says that the state's hash is not there."""

    members: Members = frozenset()
    epoch: int = 0
    records: Records = ()
    touched: bool = False
    """Whether the bucket's `locations` names it."""


class Meta(NamedTuple):
    """The bucket's meta: epoch, position, counts, and what was vouched for: (server, fresh)."""

    epoch: int
    applied: int = 0
    members: int = 0
    records: int = 0
    locations: int = 0
    marker: tuple[int, int] | None = None


class Voucher(NamedTuple):
    """How far one pass has come; `counted` stays from pass to pass: under which (server, epoch) was counted last."""

    seen: tuple[int, int] | None = None
    end: int = UNKNOWN
    counted: tuple[int, int] | None = None


class Faults(NamedTuple):
    """How often each thing may still go wrong."""

    keys: int = 0
    """A key is lost."""
    entries: int = 0
    """A member or a record is deleted."""
    restarts: int = 0
    """Another server, with another identity, goes on with the same data."""


class State(NamedTuple):
    """Everything."""

    end: int
    told: int
    """How far changes were told: what was ever applied, too."""
    server: int
    meta: Meta | None
    location: Location
    epochs: int
    voucher: Voucher
    faults: Faults
    excused: bool = False
    harm: Harm | None = None


Steps = list[tuple[str, State]]


@dataclass(frozen=True)
class Keys:
    """The model. `texts` is the ledger, in order; without `looks_at_changes` only the guard's answers matter."""

    texts: tuple[Text, ...]
    faults: Faults
    rules: Rules = field(default_factory=Rules)
    looks_at_changes: bool = True

    def start(self) -> State:
        return State(0, 0, 0, None, Location(), 0, Voucher(), self.faults)

    def steps(self, state: State) -> Steps:
        steps: Steps = []
        if state.end < len(self.texts):
            steps.append(
                (f"the ledger receives {scripts.name(self.texts[state.end])}", state._replace(end=state.end + 1))
            )
        self._apply(state, steps)
        self._vouch(state, steps)
        self._lose(state, steps)
        return steps

    # The applier

    def _apply(self, state: State, steps: Steps) -> None:
        meta, location = state.meta, state.location
        if meta is None:
            steps.append(("the applier begins the bucket", _begun(state)))
            return
        if meta.applied == state.end:
            return
        if self._is_damaged(meta, location):
            steps.append(("the applier finds damage and begins the bucket anew", _begun(state)))
            return
        text = self.texts[meta.applied]
        records = dict(location.records) if location.touched else {}
        members = location.members if location.touched else frozenset()
        before = records.get(text.patient)
        changed, after = scripts.decide(before or NOTHING, text, meta.epoch)
        records[text.patient] = after
        was_out, is_out = before is not None and before.kind == OUT, after.kind == OUT
        applied = meta._replace(
            applied=meta.applied + 1,
            members=meta.members + is_out - was_out,
            records=meta.records + (before is None),
            locations=meta.locations + (not location.touched),
        )
        written = Location(
            members | {text.patient} if is_out else members - {text.patient},
            meta.epoch if not location.touched else location.epoch,
            tuple(sorted(records.items())),
            touched=True,
        )
        told = self._told(state, meta.applied, after.version if changed else None)
        steps.append((f"{meta.applied} is applied", told._replace(meta=applied, location=written)))

    def _is_damaged(self, meta: Meta, location: Location) -> bool:
        if self.rules.counts_locations and meta.locations != location.touched:
            return True
        return self.rules.state_names_epoch and location.touched and location.epoch != meta.epoch

    def _told(self, state: State, offset: int, version: int | None) -> State:
        """Tell what was decided, unless that was told before; it must be what the whole ledger leads to."""
        if offset < state.told:
            return state
        expected = {change.offset: change.version for change in scripts.fold(self.texts)}.get(offset)
        harm = None
        if self.looks_at_changes and version != expected:
            harm = Harm.TWICE if expected is None else Harm.LOST
        return state._replace(told=offset + 1, harm=harm)

    # The voucher

    def _vouch(self, state: State, steps: Steps) -> None:
        meta, voucher = state.meta, state.voucher
        if voucher.seen is None:
            if meta is not None:
                seen = voucher._replace(seen=(state.server, meta.epoch))
                steps.append(("the voucher reads the identity", state._replace(voucher=seen)))
            return
        if voucher.end == UNKNOWN:
            due = voucher.counted != voucher.seen
            if (due and self.rules.counts_first) or (not due and self.rules.counts_again):
                self._count(state, steps)
            if not due or not self.rules.counts_first:
                read = voucher._replace(end=state.end)
                steps.append((f"the voucher reads the ledger's end {state.end}", state._replace(voucher=read)))
            return
        holds = meta is not None and voucher.seen == (state.server, meta.epoch) and meta.applied >= voucher.end
        after = state._replace(voucher=Voucher(counted=voucher.counted))
        if holds and meta is not None:
            vouched = meta._replace(marker=(state.server, voucher.end))
            steps.append((f"the voucher vouches for {voucher.end}", after._replace(meta=vouched)))
        else:
            steps.append(("the voucher may not vouch", after))

    def _count(self, state: State, steps: Steps) -> None:
        """Count, in one step, and begin the bucket anew where it lost something."""
        meta, location, voucher = state.meta, state.location, state.voucher
        if meta is None or voucher.seen is None or voucher.seen[1] != meta.epoch:
            steps.append(("the bucket changed before it was counted", state._replace(voucher=Voucher())))
            return
        counted = location if location.touched else Location()
        missing = (
            (self.rules.counts_members and len(counted.members) != meta.members)
            or (self.rules.counts_records and len(counted.records) != meta.records)
            or (self.rules.counts_locations and location.touched != meta.locations)
        )
        if missing:
            anew = _begun(state)._replace(voucher=Voucher(), excused=False)
            steps.append(("the voucher counts, and begins the bucket anew", anew))
        else:
            whole = voucher._replace(counted=voucher.seen)
            steps.append(("the voucher counts, and finds it whole", state._replace(voucher=whole, excused=False)))

    # Redis

    def _lose(self, state: State, steps: Steps) -> None:
        location, faults = state.location, state.faults
        if faults.restarts:
            fewer = faults._replace(restarts=faults.restarts - 1)
            other = state._replace(server=state.server + 1, faults=fewer, excused=False)
            steps.append((f"server {other.server} goes on with the same data", other))
        if faults.keys:
            lost = state._replace(faults=faults._replace(keys=faults.keys - 1), excused=True)
            if location.members:
                steps.append(("the set is lost", lost._replace(location=location._replace(members=frozenset()))))
            if location.epoch:
                steps.append(("the state is lost", lost._replace(location=location._replace(epoch=0, records=()))))
            if location.touched:
                steps.append(("`locations` is lost", lost._replace(location=location._replace(touched=False))))
        if faults.entries:
            lost = state._replace(faults=faults._replace(entries=faults.entries - 1), excused=True)
            for member in location.members:
                rest = location._replace(members=location.members - {member})
                steps.append((f"p{member} is removed from the set", lost._replace(location=rest)))
            for record in location.records:
                left = tuple(one for one in location.records if one != record)
                name = f"p{record[0]}'s record is deleted"
                steps.append((name, lost._replace(location=location._replace(records=left))))

    # What must hold

    def broken(self, state: State) -> Harm | None:
        if state.harm is not None:
            return state.harm
        if state.excused or state.meta is None or state.meta.marker is None:
            return None
        server, fresh = state.meta.marker
        if server == state.server and self._opted_out(max(fresh, state.told)) - state.location.members:
            return Harm.ALLOWED
        return None

    def _opted_out(self, fresh: int) -> Members:
        newest: dict[int, Text] = {}
        for text in sorted(self.texts[:fresh], key=lambda text: (text.time, text.kind)):
            newest[text.patient] = text
        return frozenset(patient for patient, text in newest.items() if text.kind == OUT)

    def finished(self, state: State) -> bool:
        meta, end = state.meta, len(self.texts)
        return (
            meta is not None
            and state.end == meta.applied == state.told == end
            and meta.marker == (state.server, end)
            and state.location.members == self._opted_out(end)
        )


def _begun(state: State) -> State:
    """Begin the bucket at offset 0: what the location holds stays, and is dropped when it is first touched."""
    location = state.location._replace(touched=False)
    return state._replace(meta=Meta(state.epochs + 1), epochs=state.epochs + 1, location=location)
