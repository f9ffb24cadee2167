"""Tells what the outbox holds: SubscriptionChanged, the confirmation and the offset together, beside the applier.

`published`, how far a bucket's changes have been told, is the offset that is committed for its ledger partition
in the applier's group and in that group's copy (`published.py`). It is known only while no transaction is pending, and
only for as long as an assignment lasts. A stranger may overwrite either: so both are looked at, and written again.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from consumer.domain.bucket import Waiting
from consumer.domain.losses import Loss
from consumer.kafka.inbox import NO_TOKEN, Partition
from consumer.kafka.producers import NotPublished, Outgoing
from consumer.ledger import LedgerFault
from consumer.ops.complaints import Complaints
from consumer.ops.losses import Fall
from consumer.suppression.answers import Status
from consumer.suppression.scripts import ViewUnavailable
from consumer.wire.errors import SchemaAwaited, Unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from consumer.kafka.inbox import Inbox, Token
    from consumer.kafka.producers import Publishing
    from consumer.ops.health import Health
    from consumer.ops.losses import Losses
    from consumer.ops.metrics import Metrics
    from consumer.published import Published, Told
    from consumer.suppression.answers import Taken
    from consumer.suppression.view import View

PART = "publish"
MOST_CHANGES = 2000
"""Changes in one transaction, over all buckets."""
LEARN_SECONDS = 3.0
"""For how long an answer about committed offsets is waited for: Kafka may be a second away."""
OFFSETS_EVERY = 30.0
"""Seconds after which every bucket is looked at: positions that brought no change are committed for what a lag shows,
and a notice that was lost is made good."""
LOOK_EVERY = 10.0
"""Seconds after which it is looked whether what is known to be told stands in the group and in its copy."""
WRITE_EVERY = 3600.0
"""Seconds after which it is written again even if it stands there: offsets that nobody writes expire."""
ASK_AGAIN = 0.5
"""Seconds before Kafka or Redis is asked again after it could not answer."""
UNKNOWN_AGAIN = 2.0
"""Seconds before it is asked again how far a bucket was told of which Kafka could not say it."""

Render = Callable[[Partition, Waiting], Sequence[Outgoing]]
"""Makes the records that tell one change."""


class Publisher:
    """Publishes for the buckets that `inbox` owns. `notice` and `published` may be called by other threads."""

    def __init__(
        self,
        *,
        view: View,
        inbox: Inbox,
        committed: Published,
        outbox: Publishing,
        render: Render,
        ledger: str,
        metrics: Metrics,
        health: Health,
        losses: Losses,
        log: FilteringBoundLogger,
    ) -> None:
        self._view = view
        self._inbox = inbox
        self._committed = committed
        self._outbox = outbox
        self._render = render
        self._ledger = ledger
        self._metrics = metrics
        self._health = health
        self._losses = losses
        self._log = log
        self._token: Token = NO_TOKEN
        self._known: dict[int, int] = {}
        self._noticed: set[int] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._swept = self._looked = self._written = -math.inf
        self._unwritten: set[int] = set()
        self._ask_at: dict[int, float] = {}
        self._begun = False
        self._awaited: set[int] = set()
        self._complaints = Complaints(log)

    def notice(self, buckets: Sequence[int]) -> None:
        """Say that these buckets have changes to tell."""
        with self._lock:
            self._noticed.update(buckets)
        self._wake.set()

    def published(self, bucket: int) -> int:
        """Return the highest offset that is known to be published of a bucket; 0 if none is."""
        return self._known.get(bucket, 0)

    def run(self, stop: threading.Event) -> None:
        """Publish until told to stop, and once more then. Raises LedgerFault and KafkaGone."""
        try:
            while not stop.is_set():
                self._health.beat(PART)
                self._wake.wait(0.1)
                self._wake.clear()
                if not self.publish_waiting():
                    stop.wait(ASK_AGAIN)
            self._swept = -math.inf
            self.publish_waiting()
        except LedgerFault as fault:
            self._losses.ledger(fault.loss)
            raise
        finally:
            self._outbox.close()
            self._committed.close()

    def publish_waiting(self) -> bool:
        """Publish what waits in the buckets that are ours and noticed; False when Kafka or Redis could not."""
        token = self._inbox.token
        if token is not self._token:  # another assignment: nothing that was known or taken under the last one counts
            self._token, self._known, self._ask_at, self._swept = token, {}, {}, -math.inf
            self._unwritten = set()
        owned = {partition.number for partition in token.partitions}
        if time.monotonic() - self._swept > OFFSETS_EVERY:
            self._swept = time.monotonic()
            self.notice(sorted(owned))
        self._look()
        with self._lock:
            due, self._noticed = self._noticed & owned, set()
        if not due:
            return True
        self._awaited = set()
        try:
            self._outbox.settle()
            known = due & self._known.keys()
            left, away = self._publish(known, token)
            more, gone = self._publish(self._learn(due - known), token)
        except (ViewUnavailable, NotPublished) as problem:
            self._complaints.say("publishing waits", reason=str(problem))
            kind = "redis" if isinstance(problem, ViewUnavailable) else "kafka"
            self._health.trouble(PART, kind, f"publishing waits: {problem}")
            if isinstance(problem, NotPublished):
                self._known = {}
            self.notice(sorted(due))
            return False
        unknown = due - self._known.keys()
        kept_back, awaited = away | gone, self._awaited
        self._health.clear(PART, "kafka")
        self._health.tell(PART, "redis", f"Redis keeps {len(kept_back)} buckets back" if kept_back else None)
        self._health.tell(
            PART, "offsets", f"of {len(unknown)} buckets it is not known how far they were told" if unknown else None
        )
        self._health.tell(
            PART, "registry", f"{len(awaited)} buckets wait for a schema of the registry" if awaited else None
        )
        waits = unknown | kept_back | awaited
        if waits or left or more:
            self.notice(sorted(waits | left | more))
        return not waits

    def _look(self) -> None:
        """Notice the buckets of which the group or its copy holds something else than is known to be told."""
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY or not self._known:
            return
        self._looked = now
        if now - self._written > WRITE_EVERY:
            self._written = now
            amiss = set(self._known)
        else:
            told = {Partition(self._ledger, bucket): offset for bucket, offset in self._known.items()}
            try:
                amiss = {partition.number for partition in self._committed.amiss(told, LEARN_SECONDS)}
            except TimeoutError:
                return  # asked again
        self._unwritten |= amiss
        if amiss:
            self.notice(sorted(amiss))

    def _learn(self, buckets: set[int]) -> set[int]:
        """Learn `published` of these buckets; return those that Kafka could tell.

        A bucket with a pending transaction is asked about again later, and does not hold up the others.
        """
        now = time.monotonic()
        asked = sorted(bucket for bucket in buckets if self._ask_at.get(bucket, now) <= now)
        # meta first: what it holds is committed already, so a committed offset below it was reset by somebody
        metas = self._view.metas(asked) if asked else {}
        remembered = {Partition(self._ledger, b): meta.published if meta else 0 for b, meta in metas.items()}
        told, unknown = self._ask(remembered) if remembered else ({}, {})
        for partition, problem in unknown.items():
            bucket = partition.number
            self._complaints.say("published offsets are not known yet", bucket=bucket, reason=str(problem))
            self._ask_at[bucket] = time.monotonic() + UNKNOWN_AGAIN
        learned = {partition.number: found.offset for partition, found in told.items()}
        self._committed.go_on(told)
        self._known.update(learned)
        self._unwritten |= {partition.number for partition, found in told.items() if not found.stands}
        self._losses.learned(learned)
        if learned:  # a view that fell back and was replayed may hold changes that were told long ago
            self._view.trim(learned)
        return set(learned)

    def _ask(self, remembered: Mapping[Partition, int]) -> tuple[dict[Partition, Told], dict[Partition, TimeoutError]]:
        """Ask how far these were told. Where no change ever was, every bucket's copy says so first."""
        try:
            self._begun = self._begun or self._begin_copies()
        except TimeoutError as problem:
            return {}, dict.fromkeys(remembered, problem)
        return self._committed.ask(remembered, LEARN_SECONDS)

    def _begin_copies(self) -> bool:
        every = range(self._view.buckets)
        if any(meta.published for meta in self._view.metas(every).values() if meta is not None):
            return True
        return self._committed.begin_copies([Partition(self._ledger, bucket) for bucket in every], LEARN_SECONDS)

    def _publish(self, buckets: set[int], token: Token) -> tuple[set[int], set[int]]:
        """Publish what waits in these buckets; return those that have more waiting, and those that Redis kept back."""
        starts = {bucket: self._known[bucket] for bucket in buckets}
        limit = max(1, MOST_CHANGES // max(1, len(starts)))
        taken = self._take(starts, limit)
        # A view that fell back under us, and was replayed, may hold again what was told long ago.
        old = {b: starts[b] for b, one in taken.items() if one.status is Status.OK and one.published < starts[b]}
        if old:
            self._view.trim(old)
        offsets = {bucket: _up_to(one, limit) for bucket, one in taken.items() if one.status is Status.OK}
        offsets = {b: max(to, starts[b]) for b, to in offsets.items() if to > starts[b] or b in self._unwritten}
        began = time.monotonic()
        rendered = self._rendered({bucket: taken[bucket] for bucket in offsets})
        offsets = {bucket: offset for bucket, offset in offsets.items() if bucket in rendered}
        if offsets and self._inbox.token is token:
            changes = sum(len(taken[bucket].changes) for bucket in offsets)
            records = [record for bucket in offsets for record in rendered[bucket]]
            positions = {Partition(self._ledger, bucket): offset for bucket, offset in offsets.items()}
            try:
                self._outbox.publish(records, positions, token, self._committed.note)
            except NotPublished:
                self._metrics.count_unpublished(time.monotonic() - began)
                raise
            self._metrics.count_published(changes, time.monotonic() - began)
            self._known.update(offsets)
            self._unwritten -= offsets.keys()
            self._view.trim(offsets)
            if changes:
                seconds = round(time.monotonic() - began, 3)
                self._log.info("published", changes=changes, buckets=len(offsets), seconds=seconds)
        return {bucket for bucket in offsets if len(taken[bucket].changes) == limit}, buckets - taken.keys()

    def _rendered(self, taken: Mapping[int, Taken]) -> dict[int, list[Outgoing]]:
        """Return the records that tell what waits in each bucket, but for one that is damaged or waits for a schema."""
        rendered: dict[int, list[Outgoing]] = {}
        for bucket, one in taken.items():
            partition = Partition(self._ledger, bucket)
            try:
                rendered[bucket] = [record for change in one.changes for record in self._render(partition, change)]
            except SchemaAwaited:
                self._awaited.add(bucket)
            except Unreadable as problem:
                self._begin_anew(bucket, one, problem)
        return rendered

    def _begin_anew(self, bucket: int, taken: Taken, problem: Unreadable) -> None:
        """Have a bucket replayed whose outbox holds what is no ledger record: the ledger has what was there.

        Where a newer version had applied what we cannot read, its applier here stops in front of it, in words.
        """
        self._losses.explain(bucket)  # before the applier can see that the bucket is begun
        self._view.begin(bucket, damaged="", published=self._known[bucket])
        self._losses.fell(
            Loss.VIEW_DAMAGED,
            {bucket: Fall(taken.applied, 0)},
            found=f"a waiting change that cannot be read ({problem})",
        )

    def _take(self, starts: Mapping[int, int], limit: int) -> dict[int, Taken]:
        """Take what waits in each bucket that can be asked. None of these may be one; there may be others."""
        try:
            return self._view.take(starts, limit) if starts else {}
        except ViewUnavailable as problem:
            self._complaints.say("publishing waits", reason=str(problem))
            return {}


def _up_to(taken: Taken, limit: int) -> int:
    """Return the offset that tells how far these changes go: `applied`, unless more may be waiting."""
    if len(taken.changes) == limit:
        return taken.changes[-1].offset + 1
    return taken.applied
