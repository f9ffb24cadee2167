"""Ledger to view: poll, decode, apply, go on at `applied`. Opt-outs are in force from here on.

One script call a bucket and batch, all in one round trip. Whatever becomes of a batch, reading goes on where the view
says that it stands: after a crash, a replay, a flush or a restored backup that is the same single line of code.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import TYPE_CHECKING

from consumer.catching_up import CatchingUp
from consumer.continuity import Continuity
from consumer.domain.subscription import Decision
from consumer.kafka.errors import KafkaGone
from consumer.ledger import LedgerFault
from consumer.ops.complaints import Complaints
from consumer.reading import Part, Reading, by_bucket
from consumer.suppression.answers import Batch, Status
from consumer.suppression.scripts import ViewUnavailable
from consumer.suppression.view import MOST_RECORDS
from consumer.wire.errors import SchemaAwaited, UnknownSchema

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from consumer.kafka.inbox import Blocked, Inbox, Partition, Read
    from consumer.ledger import Ledger
    from consumer.ops.health import Health
    from consumer.ops.losses import Losses
    from consumer.ops.metrics import Metrics
    from consumer.passage import Passage
    from consumer.suppression.answers import Applied, Meta, Server
    from consumer.suppression.view import View
    from consumer.wire.lookups import Lookups

PART = "apply"
MOST_WAITING = 100_000
"""Changes in a bucket's outbox above which it is not applied to until the publisher has caught up."""
ASK_AGAIN = 0.5
"""Seconds before Redis is asked again after it could not answer."""
UNKNOWN_AGAIN = 30.0
"""Seconds before a registry is asked again for the schema that a bucket has stopped for: a node may lag for longer than
a record waits for it."""
LOOK_EVERY = 0.2
"""Seconds after which it is looked again who is far behind."""
AWAY = ViewUnavailable("their part of Redis is away")


class Applier:
    """Owns some buckets and keeps their view. A Listener of its inbox."""

    def __init__(
        self,
        *,
        view: View,
        ledger: Ledger,
        published: Callable[[int], int],
        notice_publisher: Callable[[Sequence[int]], None],
        take_doubts: Callable[[], set[int]],
        wake_voucher: Callable[[], None],
        look_at_ledger: Callable[[Mapping[int, int]], None],
        metrics: Metrics,
        health: Health,
        losses: Losses,
        log: FilteringBoundLogger,
        passage: Passage,
        lookups: Lookups | None = None,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._lookups = lookups
        self._view = view
        self._ledger = ledger
        self._published = published
        self._notice_publisher = notice_publisher
        self._take_doubts = take_doubts
        self._wake_voucher = wake_voucher
        self._look_at_ledger = look_at_ledger
        self._metrics = metrics
        self._health = health
        self._losses = losses
        self._passage = passage
        self._tried = passage.changes
        self._most_waiting = most_waiting
        self._log = log
        self._complaints = Complaints(log)
        self._reading: dict[Partition, Reading] = {}
        self._paused: set[Partition] = set()
        self._continuity = Continuity(losses, metrics, log)
        self._told: dict[int, int] = {}
        self._catching_up: CatchingUp[Partition] = CatchingUp(log)
        self._waiting: set[Partition] = set()
        self._looked = -math.inf

    # As the listener of the inbox

    def assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Go on where the view of each bucket stands; at 0 and paused while Redis is away.

        A partition that was added to the ledger is no bucket, and is left out.
        """
        partitions = self._buckets_among(partitions)
        problem, starts, rebuilt = AWAY, {}, set[int]()
        try:
            servers = self._view.servers([partition.number for partition in partitions])
            starts = self._positions(partitions)
            rebuilt = self._view.take_rebuilt(partition.number for partition in starts)
        except ViewUnavailable as found:
            problem, servers = found, {}
        self._reading.update({p: Reading(starts.get(p, 0), unknown=p not in starts) for p in partitions})
        self._leave([partition for partition in partitions if partition not in starts], problem)
        self._continuity.took_over({p.number: start for p, start in starts.items()}, rebuilt)
        self._meet(servers)
        self._paused.difference_update(partitions)
        self._log.info("buckets received", buckets=len(partitions), owned=len(self._reading))
        self._wake_voucher()
        return {partition: self._reading[partition].position for partition in partitions}

    def _buckets_among(self, partitions: Sequence[Partition]) -> list[Partition]:
        """Return those that are buckets, and cry out about the others: nothing that is written there comes in force."""
        added = sorted(p.number for p in partitions if p.number >= self._ledger.buckets)
        if added:
            self._metrics.show_added(added)
            self._log.error(
                "partitions were added to the ledger: they are no buckets, and nobody reads them; workers that run go "
                "on, and the next start refuses: see docs/FAILURES.md",
                topic=self._ledger.topic,
                partitions=added[:10],
                of_partitions=len(added),
                number_of_buckets=self._ledger.buckets,
            )
        return [p for p in partitions if p.number < self._ledger.buckets]

    def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> None:
        """Forget these buckets. Nothing is to be finished: the next owner goes on where the view stands."""
        for partition in partitions:
            self._reading.pop(partition, None)
            self._told.pop(partition.number, None)
        self._paused.difference_update(partitions)
        self._continuity.given_up(partition.number for partition in partitions)
        self._show_held()
        self._log.info("buckets given up", buckets=len(partitions), owned=len(self._reading), lost=lost)

    # The loop

    def await_view(self, buckets: Sequence[int], stop: threading.Event) -> bool:
        """Wait until Redis answers for the first time; False if told to stop meanwhile. Raises OtherLedger.

        A worker that never had a Redis must not take buckets from those that have one.
        """
        while not stop.is_set():
            self._health.beat(PART)
            try:
                self._view.metas(buckets)
            except ViewUnavailable as problem:
                self._health.trouble(PART, "redis", f"it has not met Redis yet: {problem}")
                self._complaints.say("waiting for Redis before taking any bucket", reason=str(problem))
                stop.wait(ASK_AGAIN)
            else:
                self._health.clear(PART, "redis")
                return True
        return False

    def run(self, inbox: Inbox, stop: threading.Event) -> None:
        """Apply until told to stop. Raises OtherLedger, LedgerFault and KafkaGone."""
        asked_at = -math.inf
        while not stop.is_set():
            self._health.beat(PART)
            if time.monotonic() - asked_at > ASK_AGAIN:
                asked_at = time.monotonic()
                self._return([partition for partition, reading in self._reading.items() if reading.away])
                self._look_at_full()
                self._look_at_stopped()
                self._look_at_unknown()
                self._look_at_blocked(inbox)
            self._look_at_awaited()
            self._look_at_ends(inbox)
            self._hold(inbox)
            self._seek(inbox)
            read = self._read(inbox)
            self.step(read)
            self._stop_at(read.blocked)

    def _read(self, inbox: Inbox) -> Read:
        try:
            return inbox.read(MOST_RECORDS, 0.1)
        except KafkaGone:
            try:
                self._look_at_ledger({p.number: reading.position for p, reading in self._reading.items()})
            except LedgerFault as fault:  # says it better, where that is the reason
                self._losses.ledger(fault.loss)
                raise
            raise

    def _look_at_stopped(self) -> None:
        """Have those that stand try again once something was written that could let them pass."""
        stopped = [reading for reading in self._reading.values() if reading.stopped]
        if not stopped:
            return
        self._passage.ask()
        if self._tried != self._passage.changes:
            self._tried = self._passage.changes
            for reading in stopped:
                reading.try_again()

    def _look_at_unknown(self) -> None:
        """Have buckets try again whose record's schema was given up, once the registry has learnt it.

        Until then they stay stopped, in metrics, too, and nothing is read for them.
        """
        for reading in self._reading.values() if self._lookups is not None else ():
            if reading.unknown_id is None or reading.stopped is None or time.monotonic() < reading.ask_at:
                continue
            assert self._lookups is not None
            try:
                self._lookups.by_id(reading.unknown_id)
            except SchemaAwaited:
                continue  # it is being asked for
            except UnknownSchema:
                reading.ask_at = time.monotonic() + UNKNOWN_AGAIN
            else:
                reading.try_again()

    def _stop_at(self, blocked: Mapping[Partition, Blocked]) -> None:
        """Stop in front of what cannot even be unpacked, as in front of a record that cannot be read."""
        for partition, found in blocked.items():
            reading = self._reading.get(partition)
            if reading is None or reading.stopped is not None:
                continue
            if reading.position == found.offset:
                reading.stopped = found.why
            if reading.stopped is not None or not (reading.stands_still or reading.seek):
                self._log.error(self._why(partition, reading, found), bucket=partition.number, offset=reading.position)

    @staticmethod
    def _why(partition: Partition, reading: Reading, found: Blocked) -> str:
        """Return what blocks a bucket, and where it stands if not at the batch's first record.

        It may stand in front of places without a record, or within the batch, if a worker with more memory got there.
        """
        if reading.position == found.offset:
            return found.why
        return f"{found.why}; bucket {partition.number} stands at offset {reading.position}: a skip begins there"

    def _look_at_awaited(self) -> None:
        """Go on with buckets whose record's schema is known now, or is given up: then they stop."""
        waiting = [reading for reading in self._reading.values() if reading.schema_id is not None]
        for reading in waiting:
            if self._lookups is None or not self._lookups.awaits(reading.schema_id or 0):
                reading.schema_id, reading.seek = None, True
        trouble = self._lookups.trouble() if waiting and self._lookups is not None else None
        self._health.tell(PART, "registry", trouble and f"{len(waiting)} buckets wait for a schema: {trouble}")
        if trouble:
            self._complaints.say("applying waits for the schema registry", reason=trouble, buckets=len(waiting))

    def _look_at_blocked(self, inbox: Inbox) -> None:
        """Go on behind what cannot even be unpacked where an operator wrote so, and name what blocks the others."""
        parts, standing = {}, []
        if inbox.blocked:
            self._passage.ask()
        for partition, found in [*inbox.blocked.items()]:
            reading = self._reading.get(partition)
            if reading is None or reading.away:
                continue
            past = self._passage.past(partition, reading.position)
            if past > reading.position and inbox.go_past(partition, past):
                reading.stopped = None
                part = parts[partition] = Part(reading.position)
                part.pass_over(past)
            else:
                standing.append(self._why(partition, reading, found))
        self._health.tell(PART, "unreadable", "; ".join(standing) or None)
        try:
            if parts:
                self._apply(parts)
        except ViewUnavailable as problem:
            self._leave([*parts], problem)

    def _hold(self, inbox: Inbox) -> None:
        """Stop fetching what is not to be applied now, and fetch again what is."""
        held = self._held()
        if held == self._paused:
            return
        if held - self._paused:
            inbox.pause(held - self._paused)
        if self._paused - held:
            inbox.resume(self._paused - held)
            for partition in self._paused - held:
                self._reading[partition].astray = None  # what did not come while nothing was read is not missing
        self._paused = held
        self._show_held()

    def _show_held(self) -> None:
        """Say which buckets stand still for a reason of their own."""
        stopped = sorted(p.number for p, reading in self._reading.items() if reading.stopped)
        full = sum(reading.full for reading in self._reading.values())
        self._metrics.show_stopped(stopped)
        self._metrics.show_buckets(full=full)
        self._health.tell(
            PART,
            "stopped",
            f"{len(stopped)} buckets stopped at a record, the first is {stopped[0]}" if stopped else None,
        )
        self._health.tell(
            PART,
            "outbox",
            f"{full} buckets wait for the publisher, each with more than {self._most_waiting} changes to tell"
            if full
            else None,
        )

    def _held(self) -> set[Partition]:
        stand_still = {partition for partition, reading in self._reading.items() if reading.stands_still}
        return stand_still | (self._waiting & self._reading.keys())

    def _look_at_ends(self, inbox: Inbox) -> None:
        """Find out who is far behind, and who of them has to wait for the others."""
        if time.monotonic() - self._looked < LOOK_EVERY:
            return
        self._looked = time.monotonic()
        left = {}
        for partition, reading in self._reading.items():
            end = inbox.known_end(partition, reading.position)
            if end is not None and not reading.stands_still:
                left[partition] = max(0, end - reading.position)
        self._waiting = self._catching_up.waiting(left)

    def _seek(self, inbox: Inbox) -> None:
        for partition, reading in self._reading.items():
            if reading.seek:
                reading.seek = not inbox.seek(partition, reading.position)

    def step(self, read: Read) -> None:
        """Apply what was read, after looking at the buckets that the voucher doubts."""
        try:
            self._look_at_doubted()
            parts = by_bucket(read, self._reading, self._ledger, self._passage, self._log)
            if parts:
                self._apply(parts)
            there = [p.number for p, reading in self._reading.items() if not reading.away]
            if there and self._continuity.broken:
                self._meet(self._view.servers(there))
        except ViewUnavailable as problem:
            self._leave(list(self._reading), problem)

    def _apply(self, parts: Mapping[Partition, Part]) -> None:
        began = time.monotonic()
        batches = [
            Batch(p.number, part.position, part.end, part.entries, self._published(p.number))
            for p, part in parts.items()
        ]
        results = self._view.apply(batches)
        decided: Counter[Decision] = Counter()
        replayed, noticed = 0, []
        gone: dict[str, tuple[ViewUnavailable, list[Partition]]] = {}
        for (partition, part), applied in zip(parts.items(), results, strict=True):
            if not self._go_on(partition, part.end, applied):
                problem = applied.problem or AWAY
                gone.setdefault(str(problem), (problem, []))[1].append(partition)
            self._catching_up.applied(partition, len(applied.decisions))
            if part.passed and applied.status is Status.OK:
                self._passage.passed(PART, partition, part.passed)
            # What was told already is a replay: nothing new, whatever it decides.
            told = max(self._published(partition.number), self._told.get(partition.number, 0))
            counts = Counter(d.decision for d in applied.decisions if d.offset >= told)
            decided += counts
            replayed += len(applied.decisions) - counts.total()
            if counts[Decision.CHANGED]:
                noticed.append(partition.number)
        for problem, partitions in gone.values():  # one line in the log for all that went with one server
            self._leave(partitions, problem)
        self._metrics.count_applied({decision.value: count for decision, count in decided.items()})
        self._metrics.replayed.inc(replayed)
        if noticed:
            self._notice_publisher(noticed)
        if noticed or decided[Decision.STALE]:
            self._log.info(
                "applied",
                changed=decided[Decision.CHANGED],
                unchanged=decided[Decision.UNCHANGED],
                stale=decided[Decision.STALE],
                buckets=len(parts),
                seconds=round(time.monotonic() - began, 4),
            )

    def _go_on(self, partition: Partition, end: int, applied: Applied) -> bool:
        """Go on where the bucket stands, whatever became of the batch; False if it could not be asked."""
        bucket = partition.number
        position = None if applied.status is Status.AWAY else applied.applied
        if applied.status in (Status.MISSING, Status.DAMAGED):
            epoch = applied.epoch if applied.status is Status.DAMAGED else None
            position = self._begin({bucket: epoch}).get(bucket)
        if position is None:
            return False
        reading = self._reading[partition]
        if applied.status is not Status.OK:
            self._continuity.moved(bucket, reading.position, position)
        reading.position = position
        if position != end:
            reading.seek, self._looked = True, -math.inf
        reading.full = applied.waiting > self._most_waiting
        return True

    def _meet(self, servers: Mapping[int, Server]) -> None:
        """Name what is out of place on these servers, and have the buckets vouched for again."""
        rebuilt = self._view.take_rebuilt(servers) if self._continuity.broken else ()
        standing = {p.number: reading.position for p, reading in self._reading.items()}
        if self._continuity.met(servers, standing, rebuilt):
            self._wake_voucher()

    # Where the view stands

    def _positions(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Return where each bucket stands that can be asked, beginning those that are not there."""
        metas = self._view.metas([partition.number for partition in partitions])
        standing = self._standing(metas)
        return {partition: standing[partition.number] for partition in partitions if partition.number in standing}

    def _standing(self, metas: Mapping[int, Meta | None]) -> dict[int, int]:
        for bucket, meta in metas.items():
            if meta:
                self._told[bucket] = max(meta.published, self._told.get(bucket, 0))
        begun = self._begin({bucket: None for bucket, meta in metas.items() if meta is None})
        return {bucket: meta.applied for bucket, meta in metas.items() if meta} | begun

    def _begin(self, damaged: Mapping[int, str | None]) -> dict[int, int]:
        """Begin these buckets anew, and return where those stand that could be asked."""
        if not damaged:
            return {}
        try:
            # What is there under a bucket's name and is no bucket is damage, too.
            found = self._view.holds(bucket for bucket, epoch in damaged.items() if epoch is None)
            begun = self._view.begin_all(damaged, {bucket: self._published(bucket) for bucket in damaged})
        except ViewUnavailable:
            return {}  # said where it is seen that they are missing
        for bucket, position in begun.items():
            if position == 0:
                self._continuity.begun(bucket, damaged=damaged[bucket] is not None or bucket in found)
        return begun

    def _look_at_doubted(self) -> None:
        doubted = self._take_doubts()
        mine = {p.number: p for p, r in self._reading.items() if p.number in doubted and not r.away}
        if not mine:
            return
        servers = self._view.servers(list(mine))
        standing = self._standing(self._view.metas(list(mine)))
        self._leave([partition for bucket, partition in mine.items() if bucket not in standing], AWAY)
        for bucket, position in standing.items():
            reading = self._reading[mine[bucket]]
            if position != reading.position:
                self._continuity.moved(bucket, reading.position, position)
                reading.go_to(position)
                self._looked = -math.inf  # before they are read all at once
        self._meet(servers)

    def _look_at_full(self) -> None:
        """Go on with buckets whose changes have been told, also where nothing new waits in the ledger."""
        full = {p.number: reading for p, reading in self._reading.items() if reading.full and not reading.away}
        if not full:
            return
        try:
            metas = self._view.metas(full)
        except ViewUnavailable as problem:
            self._leave([p for p in self._reading if p.number in full], problem)
            return
        for bucket, meta in metas.items():
            full[bucket].full = meta is not None and meta.waiting > self._most_waiting

    def _leave(self, partitions: Sequence[Partition], problem: ViewUnavailable) -> None:
        """Pause buckets that could not be asked, until they can."""
        if not partitions:
            return
        self._health.trouble(PART, "redis", f"Redis cannot answer: {problem}")
        if problem.loss is not None:
            self._losses.found(problem.loss, [partition.number for partition in partitions])
        left = [partition for partition in partitions if not self._reading[partition].away]
        if left:
            self._log.error(
                "Redis cannot answer: applying pauses, nothing is dropped",
                reason=str(problem),
                buckets=len(left),
                owned=len(self._reading),
            )
        for partition in left:
            self._reading[partition].away = True
        # A call whose answer is lost may have been carried out: what it changed is to be told all the same.
        self._notice_publisher([partition.number for partition in partitions])

    def _return(self, partitions: Sequence[Partition]) -> None:
        """Go on with those of these buckets that can be asked again, and written to."""
        if not partitions:
            return
        try:
            servers = self._view.servers([partition.number for partition in partitions])
            positions = self._positions(partitions)
            # One that reads is not yet one that writes: a replica, or one whose memory is full.
            writable = self._view.touch(partition.number for partition in positions)
        except ViewUnavailable as problem:
            self._health.trouble(PART, "redis", f"Redis cannot answer: {problem}")
            return
        positions = {p: position for p, position in positions.items() if p.number in writable}
        self._continuity.took_over({p.number: at for p, at in positions.items() if self._reading[p].unknown})
        for partition, position in positions.items():
            reading = self._reading[partition]
            if position != reading.position and not reading.unknown:
                self._continuity.moved(partition.number, reading.position, position)
            reading.go_to(position)
            reading.unknown = reading.away = False
        if not any(reading.away for reading in self._reading.values()):
            self._health.clear(PART, "redis")
        if positions:
            self._looked = -math.inf
            self._meet(servers)
            self._log.info("Redis answers again: applying goes on", buckets=len(positions))
            self._wake_voucher()
