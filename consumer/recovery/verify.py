"""Holds Redis against a fold of the ledger and names every difference. Changes nothing; workers may run meanwhile.

Bucket by bucket: what Redis holds, then the ledger up to where the bucket stands. What moved in between, and all that
looks wrong, is looked at once more, in one step with the bucket's position: only what is wrong then is a difference.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from consumer import deployment
from consumer.domain.event_time import BROKER_SKEW_MS, CLOCK_SKEW_MS
from consumer.domain.events import Action, Status
from consumer.domain.subscription import Decision, decide
from consumer.domain.words import printable
from consumer.kafka.committed import Partition
from consumer.kafka.inbox import appended_at
from consumer.kafka.reader import OpenTransaction, Reader
from consumer.ledger import LedgerFault
from consumer.ledger_records import LedgerRecords
from consumer.ops import logs
from consumer.published import Published
from consumer.suppression.contents import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from consumer.domain.bucket import Entry
    from consumer.domain.subscription import Subscription as State
    from consumer.kafka.inbox import Message
    from consumer.ledger import Ledger
    from consumer.settings import Settings
    from consumer.suppression.contents import Contents, Seen, Standing, Subscription

ATTEMPTS = 3
"""How often a bucket is read that is begun anew meanwhile."""
AT_ONCE = 300
"""Subscriptions that are looked at again in one step: Redis serves nobody else during it."""
COMMITTED_SECONDS = 30.0
"""For how long a transaction may keep us from knowing how far a bucket's changes are published."""


class Kind(StrEnum):
    """What is different, the most serious first."""

    MEMBER_MISSING = "member missing"
    MEMBER_EXTRA = "member too many"
    STATE_MISSING = "state missing"
    STATE_OTHER = "state differs"
    STATE_EXTRA = "state too many"
    CHANGE_MISSING = "change missing"
    CHANGE_OTHER = "change differs"
    CHANGE_EXTRA = "change too many"
    LOCATION = "location"
    COUNT = "count"
    KEY = "key"
    BUCKET = "bucket"
    LEDGER = "ledger"
    AHEAD = "opt-in dated ahead"
    ORIGIN = "opt-in without a text"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which Redis is not what the ledger leads to; `what` quotes neither a number nor a location."""

    bucket: int
    kind: Kind
    what: str
    location_id: str | None = None
    digits: str | None = field(default=None, repr=False)


class CannotCompare(Exception):
    """The comparison could not be made. One sentence."""


class _Moved(Exception):
    """The bucket was begun anew while it was read."""


def compare(
    settings: Settings, buckets: Sequence[int], progress: Callable[[int, int], None] = lambda _done, _all: None
) -> Iterator[Difference]:
    """Give every difference in these buckets. `progress` is told how many ledger records were read, and of how many.

    Raises CannotCompare, KafkaGone, TopicError, ViewUnavailable.
    """
    ledger, config = deployment.ledger_as_it_is(settings), deployment.client_config(settings)
    reading_config = deployment.reading_config(settings, ledger.topic)
    reading = Reading(deployment.redis_nodes(settings), buckets=settings.buckets)
    allowed = deployment.allowed(settings, ledger)
    standings = [reading.standing(bucket) for bucket in buckets]
    expected, read = sum(standing.applied for standing in standings if standing), 0
    committed = Published(
        config, settings.appliers, ledger.topic_id, settings.subscription_changed_topic, logs.logger("verify")
    )
    try:
        for bucket in buckets:
            partition = Partition(ledger.topic, bucket)
            records = LedgerRecords(ledger, allowed, partition, deployment.probing(reading_config))
            with Reader(reading_config, [partition]) as reader:
                moved = partial(lambda before, done: progress(before + done, expected), read)
                fold = _Fold(records, partition, reader, moved)
                found = _Comparison(reading, ledger, fold, committed).differences()
            yield from sorted(found, key=lambda difference: list(Kind).index(difference.kind))
            read += fold.end
    finally:
        committed.close()


class _Fold:
    """What one ledger partition leads to, read as far as it is asked for."""

    def __init__(
        self, records: LedgerRecords, partition: Partition, reader: Reader, progress: Callable[[int], None]
    ) -> None:
        self._records = records
        self._reader = reader
        self._progress = progress
        self.partition = partition
        self.bounds = reader.bounds(self.partition)
        self._taken = records.read(reader)
        self.held: str | None = None
        """A sentence on the open transaction that nothing can be read behind."""
        self.states: dict[Subscription, State] = {}
        self.changes: dict[int, tuple[str, bytes]] = {}
        self.touched: set[Subscription] = set()
        self.ahead: dict[Subscription, tuple[int, int]] = {}
        """Offset and time of each subscription's newest opt-in that is later than its writer's own clock said."""

    @property
    def end(self) -> int:
        """Return the offset after all that was read."""
        return self._records.end

    @property
    def stopped(self) -> str | None:
        """Return a sentence on what nobody can read, or not yet; what is behind it is not in force."""
        return self._records.stopped or self.held

    def advance(
        self, end: int, *, touched_from: int | None = None, wanted: Callable[[int], bool] | None = None
    ) -> None:
        """Read on up to this offset, noting who is touched from an offset on, and the changes at wanted offsets.

        It may end below, at a record that cannot be read or where the ledger ends.
        """
        while self.end < end and self.stopped is None:
            try:
                for taken in self._taken:
                    if taken is not None:
                        self._decide(*taken, touched_from, wanted)
                    if self.end >= end:
                        break
                else:
                    if self._reader.bounds(self.partition)[1] <= self.end:
                        return
                    self._taken = self._records.read(self._reader)
            except OpenTransaction as held:
                self.held = str(held)
        self._progress(self.end)

    def _decide(
        self, message: Message, entry: Entry, touched_from: int | None, wanted: Callable[[int], bool] | None
    ) -> None:
        offset, key = entry.offset, (entry.location_id, entry.digits)
        decision, state = decide(self.states.get(key), entry.action, entry.event_time, entry.keyword)
        self.states[key] = state
        self._note_date(entry, message)
        if touched_from is not None and offset >= touched_from:
            self.touched.add(key)
        if decision is Decision.CHANGED and wanted is not None and wanted(offset):
            self.changes[offset] = (str(state.version), entry.raw)
        if offset % 1000 == 0:
            self._progress(offset)

    def _note_date(self, entry: Entry, message: Message) -> None:
        skew = CLOCK_SKEW_MS if appended_at(message) is None else BROKER_SKEW_MS
        if entry.action is Action.OPT_IN and entry.event_time > message.timestamp()[1] + skew:
            self.ahead[entry.location_id, entry.digits] = (entry.offset, entry.event_time)

    def members(self) -> set[Subscription]:
        """Return who is opted out."""
        return {key for key, state in self.states.items() if state.status is Status.OPTED_OUT}


class _Comparison:
    """One bucket, held against its fold."""

    def __init__(self, reading: Reading, ledger: Ledger, fold: _Fold, committed: Published) -> None:
        self._reading = reading
        self._ledger = ledger
        self._fold = fold
        self._committed = committed
        self._bucket = fold.partition.number

    def differences(self) -> list[Difference]:
        """Return all that is different. Raises CannotCompare for a bucket that is begun anew again and again."""
        if self._fold.bounds[0] > 0:
            return [self._whole(Kind.LEDGER, f"the ledger begins at offset {self._fold.bounds[0]}: records are gone")]
        for _ in range(ATTEMPTS):
            try:
                return self._compared()
            except _Moved:
                continue
        raise CannotCompare(f"bucket {self._bucket} is begun anew again and again: see what the workers log")

    def _whole(self, kind: Kind, what: str) -> Difference:
        return Difference(self._bucket, kind, what)

    def _compared(self) -> list[Difference]:
        before = self._reading.standing(self._bucket)
        if before is None:
            return [self._whole(Kind.BUCKET, "missing, or not whole: its locations answer UNKNOWN or wrongly")]
        if before.log != self._ledger.identity:
            return [self._whole(Kind.BUCKET, f"made from another ledger ({before.log}, not {self._ledger.identity})")]
        contents = self._reading.contents(self._bucket)
        after = self._same(before, self._reading.standing(self._bucket))
        fold = self._fold
        fold.advance(
            after.applied,
            touched_from=before.applied,
            wanted=lambda offset: offset >= before.published or offset in contents.outbox,
        )
        found = self._of_ledger(after)
        if fold.end < after.applied:
            return found
        if not after.vouched:
            found.append(self._whole(Kind.BUCKET, "not vouched for on this server: its locations answer UNKNOWN"))
        found += [
            self._whole(Kind.KEY, f"{key.partition('}:')[2].partition(':')[0]}: a key of another type")
            for key in contents.of_other_types
        ]
        found += self._of_counts(after)
        found += self._of_outbox(before, after, contents)
        listed = {location for location, _ in fold.states}
        found += self._of_locations(before, contents, listed)
        found += self._of_subscriptions(before, contents)
        found += self._of_dates()
        fold.advance(fold.end + 1)
        if fold.stopped:
            found.append(self._whole(Kind.LEDGER, fold.stopped))
        return found

    def _same(self, before: Standing, now: Standing | None) -> Standing:
        if now is None or now.epoch != before.epoch:
            raise _Moved
        return now

    def _of_ledger(self, after: Standing) -> list[Difference]:
        fold = self._fold
        if fold.end >= after.applied:
            return []
        why = fold.stopped or f"the ledger ends at offset {fold.end}"
        return [self._whole(Kind.LEDGER, f"{after.applied} records were applied, but {why}")]

    def _of_counts(self, after: Standing) -> Iterator[Difference]:
        states = self._fold.states
        counts = {
            "members": (after.members, len(self._fold.members())),
            "records": (after.states, len(states)),
            "locations": (after.touched, len({location for location, _ in states})),
            "waiting changes": (after.waiting, after.waiting_counted),
            "listed locations": (after.touched, after.touched_counted),
        }
        for name, (kept, counted) in counts.items():
            if kept != counted:
                yield self._whole(Kind.COUNT, f"its count of {name} is {kept}, and there should be {counted}")

    def _of_outbox(self, before: Standing, after: Standing, contents: Contents) -> Iterator[Difference]:
        changes = self._fold.changes
        missing = [
            offset for offset in changes if after.published <= offset < before.applied and offset not in contents.outbox
        ]
        told = self._published(missing, after.published)
        for offset in missing:
            if offset >= told:
                yield self._whole(
                    Kind.CHANGE_MISSING, f"the change at offset {offset} is not published and not waiting"
                )
        for offset, waiting in contents.outbox.items():
            if offset not in changes:
                yield self._whole(Kind.CHANGE_EXTRA, f"one waits at offset {offset}, where the ledger makes none")
            elif waiting != changes[offset]:
                yield self._whole(Kind.CHANGE_OTHER, f"what waits at offset {offset} is not what the ledger makes")

    def _published(self, missing: Sequence[int], remembered: int) -> int:
        """Return how far changes are published; asked only where one seems to be missing."""
        deadline = time.monotonic() + COMMITTED_SECONDS
        while missing:
            try:
                told, unknown = self._committed.ask({self._fold.partition: remembered}, timeout=5.0)
            except LedgerFault as fault:
                raise CannotCompare(str(fault)) from None
            if told:
                return told[self._fold.partition].offset
            if time.monotonic() > deadline:
                raise CannotCompare(f"how far changes are published is not known: {unknown[self._fold.partition]}")
        return 0

    def _of_locations(self, before: Standing, contents: Contents, due: set[str]) -> Iterator[Difference]:
        for location, epoch in contents.epochs.items():
            if location not in due:
                yield Difference(self._bucket, Kind.LOCATION, "listed, and not in the ledger", location)
            elif epoch != before.epoch:
                yield Difference(self._bucket, Kind.LOCATION, "its records are not of this epoch", location)

    def _of_subscriptions(self, before: Standing, contents: Contents) -> Iterator[Difference]:
        fold = self._fold
        suspects = fold.touched | (fold.members() ^ contents.members) | (contents.records.keys() - fold.states.keys())
        suspects |= {key for key, state in fold.states.items() if contents.records.get(key) != packed(state)}
        left, unlisted = sorted(suspects), set()
        while left:
            some, left = left[:AT_ONCE], left[AT_ONCE:]
            standing, seen = self._reading.look_again(self._bucket, some)
            fold.advance(self._same(before, standing).applied)
            for key in some:
                if not seen[key].listed and key in fold.states:
                    unlisted.add(key[0])
                yield from self._of_subscription(key, fold.states.get(key), seen[key])
        for location in sorted(unlisted):
            yield Difference(self._bucket, Kind.LOCATION, "not listed", location)

    def _of_dates(self) -> Iterator[Difference]:
        """Give each opt-in in force that beats the STOPs up to a date that its own record lies before."""
        for key, (offset, at) in sorted(self._fold.ahead.items()):
            state = self._fold.states[key]
            if state.status is Status.OPTED_IN and state.event_time == at:
                what = f"the one at offset {offset} is of a later time than its record, and no STOP up to it counts"
                yield Difference(self._bucket, Kind.AHEAD, what, *key)

    def _of_subscription(self, key: Subscription, state: State | None, seen: Seen) -> Iterator[Difference]:
        def difference(kind: Kind, what: str) -> Difference:
            return Difference(self._bucket, kind, what, *key)

        due = state is not None and state.status is Status.OPTED_OUT
        if due and not seen.member:
            yield difference(Kind.MEMBER_MISSING, "opted out by the ledger, and not in the set: reads ALLOWED")
        if seen.member and not due:
            yield difference(Kind.MEMBER_EXTRA, "in the set, and not opted out by the ledger: reads SUPPRESSED")
        if state is not None and seen.record is None:
            yield difference(Kind.STATE_MISSING, "there is no record")
        elif state is not None and seen.record != packed(state):
            yield difference(
                Kind.STATE_OTHER, f"other than by the ledger: {_differing(packed(state), seen.record or '')}"
            )
        elif state is None and seen.record is not None:
            yield difference(Kind.STATE_EXTRA, "there is a record, and nothing in the ledger")


_FIELDS = ("status", "version", "event time", "since", "keyword")


def packed(state: State) -> str:
    """Return a state as Redis keeps it; apply.lua writes the same."""
    status = "O" if state.status is Status.OPTED_OUT else "I"
    return f"{status}:{state.version}:{state.event_time}:{state.since}:{state.keyword}"


def _differing(expected: str, found: str) -> str:
    """Name the fields that differ; no value is quoted, for a keyword of an import can be anything."""
    one, other = expected.split(":", 4), found.split(":", 4)
    if len(other) != len(one):
        return "it is none that we wrote"
    return ", ".join(name for name, a, b in zip(_FIELDS, one, other, strict=True) if a != b)


class Differences:
    """Counts differences and says them; patients by the last four digits unless `numbers`."""

    def __init__(self, *, numbers: bool) -> None:
        self._numbers = numbers
        self.found: Counter[Kind] = Counter()

    def add(self, difference: Difference) -> int:
        """Count one; return how many there are now."""
        self.found[difference.kind] += 1
        return self.found.total()

    def as_dict(self, difference: Difference) -> dict[str, Any]:
        """Return a difference as JSON has it."""
        return {
            "bucket": difference.bucket,
            "kind": difference.kind,
            "location_id": difference.location_id,
            "patient_number": self._patient(difference.digits),
            "what": difference.what,
        }

    def in_words(self, difference: Difference) -> str:
        """Return a difference as a line for a person."""
        location = printable(difference.location_id or "")
        who = " ".join(filter(None, (difference.kind, location, self._patient(difference.digits))))
        return f"[{difference.bucket}] {who}: {difference.what}"

    def summary(self, buckets: Sequence[int], limit: int) -> str:
        """Return the last line."""
        compared = f"{len(buckets)} bucket{'s' * (len(buckets) != 1)} compared"
        total = self.found.total()
        if not total:
            return f"{compared}: Redis holds what the ledger says"
        kinds = ", ".join(f"{count} x {kind}" for kind, count in sorted(self.found.items(), key=_seriousness))
        return f"{compared}: {kinds}{f' ({limit} shown)' if total > limit else ''}"

    def _patient(self, digits: str | None) -> str | None:
        if digits is None:
            return None
        return f"+{digits}" if self._numbers else f"…{digits[-4:]}"


def _seriousness(counted: tuple[Kind, int]) -> int:
    return list(Kind).index(counted[0])
