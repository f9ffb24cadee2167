"""Vouches for the buckets that are ours: writes into each that it holds everything that inbound held at some time.

Only what is vouched for is answered from. The order of the steps is the protocol: the server's identity and the
buckets' epochs; then inbound's committed offsets, which tell the time; then the ledger's ends; then the script that
checks that the identity still holds and that the bucket has reached its end. A thread beside the applier.

Each second a pass begins. Where Kafka is far away answers would be older by as long as that takes: so passes begin more
often while earlier ones wait for it. They read the clocks and are finished in the order in which they began.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from consumer.domain.freshness import Freshness
from consumer.domain.losses import Loss
from consumer.kafka.offsets import OffsetsUnavailable
from consumer.ledger import LedgerFault, check_ledger
from consumer.ledger_watch import LedgerWatch
from consumer.open_transactions import INBOUND, LEDGER, OpenTransactions
from consumer.ops.complaints import Complaints
from consumer.ops.losses import Fall
from consumer.questions import Questions
from consumer.suppression.answers import Status
from consumer.suppression.scripts import ViewUnavailable
from consumer.together import beside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from structlog.typing import FilteringBoundLogger

    from consumer.inbound import Inbound
    from consumer.kafka.inbox import Inbox, Partition
    from consumer.kafka.offsets import Offsets
    from consumer.ledger import Ledger
    from consumer.ops.health import Health
    from consumer.ops.losses import Losses
    from consumer.ops.metrics import Metrics
    from consumer.questions import Answers
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
OVERLAP = 0.2
"""Seconds between two passes while an earlier one waits for Kafka."""
MOST_ASKING = 5
"""Passes that wait for what is committed at the same time: each takes two clients."""
MOST_PASSES = 16
"""Passes that wait for Kafka at the same time."""
MOST_BEHIND = 50
"""Passes that wait for buckets of one server to reach the ledger's end as it was then: those of ten seconds."""
LOOK_EVERY = 0.1
"""Seconds after which it is looked whether they have."""
BEHIND_SECONDS = 3.0
"""For how long after it was vouched for a bucket that has not reached its end again is no trouble yet."""
NOT_JOINED = "its group has not let it in, or it lost its place there"
LATE_MS = 30_000
"""How old the time that is vouched for may be before a line in the log names what holds it back."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass read before Kafka was asked."""

    buckets: Sequence[int]
    servers: Mapping[int, Server]
    told: Mapping[int, int]
    whole: Mapping[int, Meta]
    """The buckets whose content was counted, and what their meta said."""
    before: threading.Event | None
    """That of the pass before, if that one waits for Kafka."""
    answered: threading.Event
    """Set when Kafka has said what is committed of inbound, and the clocks were read."""


class Claim(NamedTuple):
    """What a pass found out about buckets of one server: it may be written once they reach these ends."""

    server: Server
    fresh: int
    ends: Mapping[int, tuple[str, int]]
    """The epoch and the ledger end of each."""


class Voucher:
    """Vouches once a second, more often where Kafka is far away, and whenever it is woken."""

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
        self._metrics = metrics
        self._health = health
        self._losses = losses
        self._questions = Questions(offsets, inbound, ledger.topic, view.servers)
        self._watch = LedgerWatch(ledger, topic_id, unsafe, metrics=metrics, losses=losses, log=log)
        self._published = published
        self._doubted: set[int] = set()
        self._lock = threading.Lock()
        self._log = log
        self._freshness: dict[tuple[str, str], Freshness[Partition]] = {}  # its times are of one server's clock
        self._serving: dict[int, tuple[str, str]] = {}
        self._audited: dict[int, tuple[str, float]] = {}
        self._complaints = Complaints(log)
        self._open_on_inbound = OpenTransactions(INBOUND, metrics, log)
        self._open_on_ledger = OpenTransactions(LEDGER, metrics, log)
        self._whole = False
        self._vouched_at: dict[int, float] = {}
        self._passes: deque[tuple[Pass, Future[Answers]]] = deque()
        self._behind: dict[tuple[str, str], deque[Claim]] = {}
        self._clocks: dict[tuple[str, str], int] = {}
        self._changed_at = time.monotonic()
        self._begun_at = -math.inf
        self._wake = threading.Event()

    def wake(self) -> None:
        """Ask for a pass now: something changed. May be called by any thread."""
        self._changed_at = time.monotonic()
        self._begun_at = -math.inf
        self._wake.set()

    def take_doubts(self) -> set[int]:
        """Return the buckets that do not stand where they should, once: their owner is to look. For any thread."""
        with self._lock:
            doubted, self._doubted = self._doubted, set()
        return doubted

    def look_at_ledger(self, positions: Mapping[int, int]) -> None:
        """Look now whether the ledger is what was read of it up to these positions, where somebody cannot read on.

        For any thread. Raises LedgerFault; nothing where Kafka does not say.
        """
        with suppress(OffsetsUnavailable):
            self._watch.look_now()
            for partition, (start, end) in self._questions.ledger_bounds(positions).items():
                check_ledger(partition, start, end, positions[partition.number])

    def run(self, stop: threading.Event) -> None:
        """Vouch until told to stop. Raises LedgerFault and OtherLedger."""
        self._health.trouble(PART, "unvouched", "nothing is vouched for yet")
        while not stop.is_set():
            self._health.beat(PART)
            try:
                self._go_on()
            except ViewUnavailable as problem:
                self._pause("redis", f"not vouching: Redis cannot answer: {problem}")
                self._away(problem, [partition.number for partition in self._inbox.owned])
            except OffsetsUnavailable as problem:
                self._pause("kafka", f"not vouching: Kafka cannot answer: {problem}")
                self._complaints.say("not vouching: Kafka cannot answer", reason=str(problem))
            except LedgerFault as fault:
                self._losses.ledger(fault.loss)
                raise
            self._wake.wait(self._pause_seconds())
            self._wake.clear()

    def _until_next(self) -> float:
        """Return in how many seconds the next pass is due."""
        hurried = not self._whole and time.monotonic() - self._changed_at < SOON_FOR
        every = SOON if hurried else OVERLAP if self._passes else VOUCH_EVERY
        return max(0.0, self._begun_at + min(every, VOUCH_EVERY) - time.monotonic())

    def _may_begin(self) -> bool:
        """Whether no more passes wait for Kafka than may."""
        asking = sum(not begun.answered.is_set() for begun, _ in self._passes)
        return len(self._passes) < MOST_PASSES and asking < MOST_ASKING

    def _pause_seconds(self) -> float:
        """Return for how long nothing is to be done unless Kafka answers, or somebody wakes us."""
        if any(self._behind.values()):
            return LOOK_EVERY
        if not self._may_begin():
            return VOUCH_EVERY
        return self._until_next()

    def _go_on(self) -> None:
        """Begin a pass if one is due, and finish those that Kafka has answered."""
        if self._until_next() == 0 and self._may_begin():
            self._begun_at = time.monotonic()
            if begun := self._begin():
                answers = beside(partial(self._ask, begun))
                answers.add_done_callback(lambda _: self._wake.set())
                self._passes.append((begun, answers))
        while self._passes and self._passes[0][1].done():
            begun, answers = self._passes.popleft()
            self._finish(begun, answers.result())
            self._health.clear(PART, "redis", "kafka")
        self._catch_up()

    def vouch(self) -> dict[int, Status]:
        """Make one pass over the buckets that are ours, and return what became of each that was tried."""
        begun = self._begin()
        return self._finish(begun, self._ask(begun)) if begun else {}

    def _begin(self) -> Pass | None:
        """Read what a pass must know before Kafka is asked; None where no bucket is ours."""
        self._health.tell(PART, "group", None if self._inbox.joined else NOT_JOINED)
        buckets = sorted(partition.number for partition in self._inbox.owned)
        if not buckets:
            self._show_none()
            return None
        servers = self._view.servers(buckets)
        self._note(buckets, servers)
        self._read_clocks(set(servers.values()))
        metas = self._view.metas(list(servers))
        self._metrics.show_waiting(meta.waiting for meta in metas.values() if meta)
        told = {bucket: self._published(bucket) for bucket in buckets}
        whole = self._audit({bucket: meta for bucket, meta in metas.items() if meta}, servers)
        before = self._passes[-1][0].answered if self._passes else None
        return Pass(buckets, servers, told, whole, before, threading.Event())

    def _ask(self, begun: Pass) -> Answers:
        @contextmanager
        def in_turn() -> Iterator[None]:
            if begun.before is not None:
                begun.before.wait()
            yield
            begun.answered.set()
            self._wake.set()

        try:
            return self._questions.ask([*begun.servers], [*begun.whole], in_turn(), self._watch.look)
        finally:
            begun.answered.set()  # the next one waits for us

    def _finish(self, begun: Pass, answers: Answers) -> dict[int, Status]:
        """Vouch for what has reached its end, and remember what has not."""
        whole, servers = begun.whole, begun.servers
        times = self._times(set(servers.values()), answers)
        ends = self._ends(begun, answers)
        self._metrics.left.set(sum(max(0, end - whole[bucket].applied) for bucket, end in ends.items()))
        statuses: dict[int, Status] = {}
        for server, fresh in times.items():
            theirs = {b: (whole[b].epoch, end) for b, end in ends.items() if servers[b] == server}
            found = self._vouch(server, fresh, theirs)
            statuses |= found
            if behind := {b: theirs[b] for b, status in found.items() if status is Status.BEHIND}:
                claims = self._behind.setdefault(server.identity, deque(maxlen=MOST_BEHIND))
                claims.append(Claim(server, fresh, behind))
        if times:
            self._metrics.show_fresh(max(answers.clocks[s.identity] - fresh for s, fresh in times.items()) / 1000)
        self._report(statuses, [bucket for bucket in begun.buckets if bucket not in statuses])
        return statuses

    def _catch_up(self) -> None:
        """Vouch for the buckets that have come meanwhile to the end that they had not reached in an earlier pass.

        Under steady traffic the ledger's end is always a little ahead: the next pass meets them behind it again. To it
        is left as well what is not ours any more, or cannot be asked.
        """
        waiting = {bucket for claims in self._behind.values() for claim in claims for bucket in claim.ends}
        waiting &= {partition.number for partition in self._inbox.owned}
        metas: dict[int, Meta | None] = {}
        with suppress(ViewUnavailable):  # of all that wait; others may be there
            metas = self._view.metas(sorted(waiting)) if waiting else {}
        for claims in self._behind.values():
            left = [still for claim in claims if (still := self._reached(claim, metas)).ends]
            claims.clear()
            claims.extend(left)

    def _reached(self, claim: Claim, metas: Mapping[int, Meta | None]) -> Claim:
        """Vouch for those buckets that have reached their end, and return what is left of the claim.

        A bucket that was begun anew never reaches it: the claim is of another epoch.
        """
        reached: dict[int, tuple[str, int]] = {}
        left: dict[int, tuple[str, int]] = {}
        for bucket, (epoch, end) in claim.ends.items():
            meta = metas.get(bucket)
            if meta is not None and meta.epoch == epoch:
                (reached if meta.applied >= end else left)[bucket] = (epoch, end)
        if reached:
            self._vouch(claim.server, claim.fresh, reached)
        return claim._replace(ends=left)

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

    def _read_clocks(self, servers: Iterable[Server]) -> None:
        """Drop what waits for the ledger's end by a clock that was set back: it would look new once that caught up."""
        back = {one.identity for one in servers if one.time < self._clocks.get(one.identity, one.time)}
        self._behind = {
            identity: claims
            for identity, claims in self._behind.items()
            if identity not in back and identity in self._freshness
        }
        read = self._clocks | {one.identity: one.time for one in servers}
        self._clocks = {identity: time for identity, time in read.items() if identity in self._freshness}

    def _vouch(self, server: Server, fresh: int, ends: Mapping[int, tuple[str, int]]) -> dict[int, Status]:
        newest = replace(server, time=max(server.time, self._clocks.get(server.identity, 0)))
        try:
            statuses = self._view.vouch(newest, fresh, ends)
        except ViewUnavailable as problem:  # this server went away meanwhile; others may be there
            self._away(problem, ends)
            return {}
        vouched = {bucket: end for bucket, (_, end) in ends.items() if statuses.get(bucket) is Status.OK}
        self._vouched_at |= dict.fromkeys(vouched, time.monotonic())
        self._losses.vouched(vouched)
        return statuses

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

    def _times(self, servers: Iterable[Server], answers: Answers) -> dict[Server, int]:
        """Return the time up to which everything inbound held is in the ledger, by the clock of each server."""
        committed, bounds = answers.committed, answers.inbound
        ends = {partition: bound.end for partition, bound in bounds.items()}
        in_transaction = self._open_on_inbound.look(committed, ends, answers.stable)
        times = {}
        for server in servers:
            now, freshness = answers.clocks.get(server.identity), self._freshness.get(server.identity)
            if now is None or freshness is None:
                continue  # another one serves by now
            fresh = freshness.reached(now, committed, bounds)
            if fresh is not None:
                times[server] = fresh
            unread = freshness.holding - in_transaction
            if unread and (fresh is None or now - fresh > LATE_MS):
                held_by = [f"{topic} [{number}]" for topic, number in sorted(unread)[:5]]
                self._complaints.say(
                    "freshness is held back by inbound that is not in the ledger yet", partitions=held_by
                )
        return times

    def _ends(self, begun: Pass, answers: Answers) -> dict[int, int]:
        """Return the ledger's end of each bucket, after checking that the ledger holds what it held (L1)."""
        for partition, (start, end) in answers.ledger.items():
            bucket = partition.number
            check_ledger(partition, start, end, max(begun.whole[bucket].applied, begun.told[bucket]))
        applied = {partition: begun.whole[partition.number].applied for partition in answers.ledger}
        ends = {partition: bound.end for partition, bound in answers.ledger.items()}
        self._open_on_ledger.look(applied, ends, answers.stable)
        return {partition.number: end for partition, end in ends.items()}

    def _report(self, statuses: Mapping[int, Status], missing: Sequence[int]) -> None:
        self._losses.found(Loss.EVICTING, [b for b, status in statuses.items() if status is Status.EVICTS])
        moved = [bucket for bucket, status in statuses.items() if status in (Status.BEHIND, Status.CHANGED)]
        self._doubt([*moved, *missing])
        soon = {bucket for bucket, at in self._vouched_at.items() if time.monotonic() - at < BEHIND_SECONDS}
        without = [b for b, s in statuses.items() if s is not Status.OK and not (s is Status.BEHIND and b in soon)]
        self._tell(len(statuses) + len(missing), [*missing, *without])

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
            transactions.look({}, {}, {})
        self._metrics.show_fresh(None)
        if self._inbox.joined:
            self._health.clear(PART, "unvouched")

    def _doubt(self, buckets: Sequence[int]) -> None:
        with self._lock:
            self._doubted.update(buckets)
