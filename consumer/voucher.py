"""Vouches for the buckets that are ours: writes into each that it holds everything that inbound held at some time.

Only what is vouched for is answered from. The order of the steps is the protocol: the server's identity and the
buckets' epochs; then the time, from inbound's committed offsets; then the ledger's ends; then the script that checks
that the identity still holds and that the bucket has reached its end. A thread beside the applier.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

from consumer.domain.freshness import Bounds, Freshness
from consumer.domain.losses import SENTENCES, Loss
from consumer.kafka.inbox import Partition
from consumer.kafka.offsets import OffsetsUnavailable
from consumer.kafka.topics import TopicError
from consumer.ledger import LedgerFault, check_ledger
from consumer.open_transactions import INBOUND, LEDGER, OpenTransactions
from consumer.ops.complaints import Complaints
from consumer.ops.losses import Fall
from consumer.suppression.answers import Status
from consumer.suppression.scripts import ViewUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from consumer.inbound import Inbound
    from consumer.kafka.inbox import Inbox
    from consumer.kafka.offsets import Offsets
    from consumer.ledger import Ledger
    from consumer.ops.health import Health
    from consumer.ops.losses import Losses
    from consumer.ops.metrics import Metrics
    from consumer.suppression.answers import Audit, Meta, Server
    from consumer.suppression.view import View

PART = "vouch"
VOUCH_EVERY = 1.0
SOON, SOON_FOR = 0.25, 30.0
"""Seconds between two passes while a bucket is not vouched for, and how long after the last change they come so often.

Its locations are UNKNOWN meanwhile, and what it waits for can come at any moment: the applier's look, a commit of the
classifiers. Under a new server the time begins anew, so that a first pass can only sample it and a second one vouch:
a second apart, they were most of the two to three seconds that a restart of Redis cost.
"""
AUDIT_EVERY = 60.0
"""Seconds after which a bucket's content is counted again; it is counted at once under a new identity."""
IDENTIFY_EVERY = 30.0
"""Seconds after which Kafka is asked again whether the ledger is the topic that it was, and safe."""
NOT_JOINED = "its group has not let it in, or it lost its place there"
LATE_MS = 30_000
"""How old the time that is vouched for may be before a line in the log names what holds it back."""


class Voucher:
    """Vouches once a second, and whenever it is woken."""

    def __init__(
        self,
        *,
        view: View,
        inbox: Inbox,
        offsets: Offsets,
        ledger: Ledger,
        inbound: Inbound,
        published: Callable[[int], int],
        topic_id: Callable[[], str] | None,
        unsafe: Callable[[], Sequence[str]],
        metrics: Metrics,
        health: Health,
        losses: Losses,
        log: FilteringBoundLogger,
    ) -> None:
        self._view = view
        self._inbox = inbox
        self._offsets = offsets
        self._ledger = ledger
        self._topic_id = topic_id
        self._unsafe = unsafe
        self._found_unsafe: frozenset[str] = frozenset()
        self._metrics = metrics
        self._health = health
        self._losses = losses
        self._topic_checked = -math.inf
        self._inbound = inbound
        self._published = published
        self._doubted: set[int] = set()
        self._lock = threading.Lock()
        self._log = log
        self._freshness: dict[tuple[str, str], Freshness[Partition]] = {}  # its times are of one server's clock
        self._serving: dict[int, tuple[str, str]] = {}
        self._audited: dict[int, tuple[str, float]] = {}
        self._complaints = Complaints(log)
        self._open_on_inbound = OpenTransactions(INBOUND, offsets, metrics, log)
        self._open_on_ledger = OpenTransactions(LEDGER, offsets, metrics, log)
        self._whole = False
        self._changed_at = time.monotonic()
        self._wake = threading.Event()

    def wake(self) -> None:
        """Ask for a pass now: something changed. May be called by any thread."""
        self._changed_at = time.monotonic()
        self._wake.set()

    def take_doubts(self) -> set[int]:
        """Return the buckets that do not stand where they should, once: their owner is to look. For any thread."""
        with self._lock:
            doubted, self._doubted = self._doubted, set()
        return doubted

    def run(self, stop: threading.Event) -> None:
        """Vouch until told to stop. Raises LedgerFault and OtherLedger."""
        self._health.trouble(PART, "unvouched", "nothing is vouched for yet")
        while not stop.is_set():
            self._health.beat(PART)
            try:
                self.vouch()
            except ViewUnavailable as problem:
                self._pause("redis", f"not vouching: Redis cannot answer: {problem}")
                self._away(problem, [partition.number for partition in self._inbox.owned])
            except OffsetsUnavailable as problem:
                self._pause("kafka", f"not vouching: Kafka cannot answer: {problem}")
                self._complaints.say("not vouching: Kafka cannot answer", reason=str(problem))
            except LedgerFault as fault:
                self._losses.ledger(fault.loss)
                raise
            else:
                self._health.clear(PART, "redis", "kafka")
            self._wake.wait(self._until_next())
            self._wake.clear()

    def _until_next(self) -> float:
        hurried = not self._whole and time.monotonic() - self._changed_at < SOON_FOR
        return min(SOON, VOUCH_EVERY) if hurried else VOUCH_EVERY

    def vouch(self) -> dict[int, Status]:
        """Make one pass over the buckets that are ours, and return what became of each that was tried."""
        self._health.tell(PART, "group", None if self._inbox.joined else NOT_JOINED)
        buckets = sorted(partition.number for partition in self._inbox.owned)
        if not buckets:
            self._show_none()
            return {}
        servers = self._view.servers(buckets)
        self._note(buckets, servers)
        metas = self._view.metas(list(servers))
        self._metrics.show_waiting(meta.waiting for meta in metas.values() if meta)
        told = {bucket: self._published(bucket) for bucket in buckets}
        whole = self._audit({bucket: meta for bucket, meta in metas.items() if meta}, servers)
        times = self._times(servers.values())
        ends = self._ends(whole, told)
        self._metrics.left.set(sum(max(0, end - whole[bucket].applied) for bucket, end in ends.items()))
        statuses: dict[int, Status] = {}
        for server, fresh in times.items():
            theirs = {b: (whole[b].epoch, end) for b, end in ends.items() if servers[b] == server}
            statuses |= self._vouch(server, fresh, theirs)
        self._losses.vouched({b: ends[b] for b, status in statuses.items() if status is Status.OK})
        if times:
            self._metrics.show_fresh(max(server.time - fresh for server, fresh in times.items()) / 1000)
        self._report(statuses, [bucket for bucket in buckets if bucket not in statuses])
        return statuses

    def _note(self, owned: Iterable[int], servers: Mapping[int, Server]) -> None:
        """Forget, where a bucket is served by another server, what was counted and sampled under the last one.

        Of a server that is away nothing is forgotten: if it is the same when it comes back, its clock is, too.
        """
        last = {bucket: self._serving[bucket] for bucket in owned if bucket in self._serving}
        new = {bucket: server.identity for bucket, server in servers.items()}
        for bucket, identity in new.items():
            if last.get(bucket) != identity:
                self._audited.pop(bucket, None)
        # The applier knows how far each bucket had read: it names what that cost.
        self._doubt([bucket for bucket in last.keys() & new.keys() if last[bucket] != new[bucket]])
        self._serving = last | new
        known = set(self._serving.values())
        self._freshness = {identity: self._freshness.get(identity, Freshness()) for identity in known}

    def _vouch(self, server: Server, fresh: int, ends: Mapping[int, tuple[str, int]]) -> dict[int, Status]:
        try:
            return self._view.vouch(server, fresh, ends)
        except ViewUnavailable as problem:  # this server went away meanwhile; others may be there
            self._away(problem, ends)
            return {}

    def _away(self, problem: ViewUnavailable, buckets: Iterable[int]) -> None:
        self._complaints.say("not vouching: Redis cannot answer", reason=str(problem))
        if problem.loss is not None:
            self._losses.found(problem.loss, buckets)

    def _audit(self, metas: Mapping[int, Meta], servers: Mapping[int, Server]) -> dict[int, Meta]:
        """Count the buckets that are due, begin those anew that lost something, and return the rest."""
        whole = {}
        gone: set[Server] = set()
        for bucket, meta in metas.items():
            if servers[bucket] in gone:
                continue
            try:
                if self._is_whole(bucket, meta):
                    whole[bucket] = meta
            except ViewUnavailable as problem:
                gone.add(servers[bucket])
                self._away(problem, [bucket])
        return whole

    def _is_whole(self, bucket: int, meta: Meta) -> bool:
        """Count a bucket if it is due, and begin it anew if it lost something; False for one not to be vouched for."""
        epoch, when = self._audited.get(bucket, ("", -math.inf))
        if epoch == meta.epoch and time.monotonic() - when <= AUDIT_EVERY:
            return True
        audit = self._view.audit(bucket, meta.epoch)
        if audit.status is Status.CHANGED:
            return epoch == meta.epoch  # never counted in this epoch: not to be vouched for before it is
        if audit.status is Status.DAMAGED:
            self._begin_anew(bucket, meta, audit)
            return False
        self._audited[bucket] = (meta.epoch, time.monotonic())
        return True

    def _begin_anew(self, bucket: int, meta: Meta, audit: Audit) -> None:
        self._losses.explain(bucket)  # before the applier can see that the bucket is begun
        self._view.begin(bucket, damaged=meta.epoch, published=self._published(bucket))
        self._losses.fell(
            Loss.VIEW_DAMAGED,
            {bucket: Fall(meta.applied, 0)},
            members=audit.members,
            members_expected=audit.members_expected,
            records=audit.states,
            records_expected=audit.states_expected,
        )

    def _times(self, servers: Iterable[Server]) -> dict[Server, int]:
        """Return the time up to which everything inbound held is in the ledger, by the clock of each server."""
        partitions = self._offsets.partitions(self._inbound.topics)
        # Asked behind the servers' clocks: what a topic holds that is made anew after this is of a later time.
        committed = self._offsets.classified(partitions, self._notes())
        starts, ends = self._offsets.starts(partitions), self._offsets.ends(partitions)
        bounds = {partition: Bounds(starts[partition], ends[partition]) for partition in partitions}
        in_transaction = self._open_on_inbound.look(committed, ends)
        times = {}
        for server in set(servers):
            freshness = self._freshness[server.identity]
            fresh = freshness.reached(server.time, committed, bounds)
            if fresh is not None:
                times[server] = fresh
            unread = freshness.holding - in_transaction
            if unread and (fresh is None or server.time - fresh > LATE_MS):
                held_by = [f"{topic} [{number}]" for topic, number in sorted(unread)[:5]]
                self._complaints.say(
                    "freshness is held back by inbound that is not in the ledger yet", partitions=held_by
                )
        return times

    def _notes(self) -> Mapping[str, str]:
        try:
            return self._inbound.notes()
        except TopicError as problem:
            raise OffsetsUnavailable(str(problem)) from None

    def _ends(self, metas: Mapping[int, Meta], published: Mapping[int, int]) -> dict[int, int]:
        """Return the ledger's end of each bucket, after checking that the ledger is what it was (L1)."""
        self._check_topic_id()
        partitions = [Partition(self._ledger.topic, bucket) for bucket in metas]
        starts, ends = self._offsets.starts(partitions), self._offsets.ends(partitions)
        for partition in partitions:
            bucket = partition.number
            check_ledger(partition, starts[partition], ends[partition], max(metas[bucket].applied, published[bucket]))
        self._open_on_ledger.look({partition: metas[partition.number].applied for partition in partitions}, ends)
        return {partition.number: end for partition, end in ends.items()}

    def _check_topic_id(self) -> None:
        if self._topic_id is None or time.monotonic() - self._topic_checked < IDENTIFY_EVERY:
            return
        try:
            found = self._topic_id()
        except TopicError as problem:
            raise OffsetsUnavailable(str(problem)) from None
        if found != self._ledger.topic_id:
            raise LedgerFault(
                f"{self._ledger.topic} is another topic (id {found} instead of {self._ledger.topic_id}): it "
                "was deleted and made anew; restore the old one, which holds the opt-outs",
                Loss.LEDGER_RECREATED,
            )
        self._check_settings()
        self._topic_checked = time.monotonic()

    def _check_settings(self) -> None:
        """Cry out where the ledger's settings were changed so that it can lose records.

        No reason to stop: nothing is lost yet, and a worker that stands still keeps no opt-out either. Who reads the
        log can set them back; the next start refuses.
        """
        try:
            unsafe = frozenset(self._unsafe())
        except TopicError as problem:
            raise OffsetsUnavailable(str(problem)) from None
        if unsafe - self._found_unsafe:
            self._losses.ledger(Loss.LEDGER_UNSAFE)
            self._log.error(SENTENCES[Loss.LEDGER_UNSAFE], loss=Loss.LEDGER_UNSAFE.value, settings=sorted(unsafe))
        elif self._found_unsafe and not unsafe:
            self._log.info("the ledger's settings are safe again", loss=Loss.LEDGER_UNSAFE.value)
        self._found_unsafe = unsafe
        self._metrics.unsafe.set(len(unsafe))

    def _report(self, statuses: Mapping[int, Status], missing: Sequence[int]) -> None:
        self._losses.found(Loss.EVICTING, [b for b, status in statuses.items() if status is Status.EVICTS])
        moved = [bucket for bucket, status in statuses.items() if status in (Status.BEHIND, Status.CHANGED)]
        self._doubt([*moved, *missing])
        self._tell(len(statuses) + len(missing), [*missing, *(b for b, s in statuses.items() if s is not Status.OK)])

    def _tell(self, owned: int, without: Sequence[int]) -> None:
        """Say when buckets begin or cease to be vouched for: what is not, answers UNKNOWN, soon or at once."""
        self._metrics.show_buckets(owned=owned, vouched=owned - len(without), replaying=self._losses.replaying)
        self._health.tell(
            PART, "unvouched", f"{len(without)} of {owned} buckets are not vouched for" if without else None
        )
        if bool(without) is self._whole:
            self._see(whole=not without)
            if without:
                self._log.info("some buckets are not vouched for now", buckets=sorted(without)[:10], owned=owned)
            else:
                self._log.info("every bucket of ours is vouched for", owned=owned)

    def _see(self, *, whole: bool) -> None:
        if self._whole and not whole:
            self._changed_at = time.monotonic()
        self._whole = whole

    def _pause(self, kind: str, reason: str) -> None:
        self._see(whole=False)
        self._health.trouble(PART, kind, reason)
        self._metrics.show_buckets(vouched=0)

    def _show_none(self) -> None:
        """Show that no bucket is ours: a spare that the group has let in is ready."""
        self._metrics.show_buckets(owned=0, vouched=0, replaying=0)
        self._metrics.show_waiting(())
        self._metrics.left.set(0)
        for transactions in (self._open_on_inbound, self._open_on_ledger):
            transactions.look({}, {})
        self._metrics.show_fresh(None)
        if self._inbox.joined:
            self._health.clear(PART, "unvouched")

    def _doubt(self, buckets: Sequence[int]) -> None:
        with self._lock:
            self._doubted.update(buckets)
