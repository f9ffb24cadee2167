"""Every metric that a worker exports. Counted once a batch or a pass, never for each message.

No label ever holds a location, a number or a text. A partition's number is a label only where somebody has to look at
that very one: a bucket that stopped, a transaction that stays open.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from consumer.domain.losses import Loss

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEAD_LETTER = "dead_letter_"
"""What Intake's counts put before the reason of a dead letter."""
REASONS_KNOWN = ("unattributable_opt_out", "unattributable_opt_in")
"""Reasons that alerts are written for: they are exported as 0 before the first."""
SCRIPT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
TRANSACTION_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one worker, in a registry of their own. Safe to be used by several threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._fresh = math.nan
        self._rows = threading.Lock()
        self._classifying()
        self._applying()
        self._skipping()
        self._publishing()
        self._standing()

    def _classifying(self) -> None:
        self._inbound = Counter("optout_inbound_records", "Inbound records read.", registry=self.registry)
        self._outcomes = Counter(
            "optout_inbound_outcomes",
            "What inbound records became: opt_out, opt_in, review, dead_lettered; implausible_time beside those.",
            ["outcome"],
            registry=self.registry,
        )
        self._dead_letters = Counter(
            "optout_dead_letters", "Inbound records in the dead-letter topic.", ["reason"], registry=self.registry
        )
        for reason in REASONS_KNOWN:
            self._dead_letters.labels(reason)
        self.reduced = Counter(
            "optout_dead_letters_in_part",
            "Dead letters that hold only the beginning of a record, for it was too large.",
            registry=self.registry,
        )
        self.unacknowledged = Gauge(
            "optout_unacknowledged_records",
            "Records written by the classifier that Kafka has not acknowledged.",
            registry=self.registry,
        )
        self.held_back = Gauge(
            "optout_inbound_partitions_held_back",
            "Inbound partitions whose next record waits for its schema.",
            registry=self.registry,
        )

    def _applying(self) -> None:
        self._applied = Counter(
            "optout_ledger_records_applied",
            "Ledger records applied to the view for the first time, by what they did.",
            ["decision"],
            registry=self.registry,
        )
        self.replayed = Counter(
            "optout_ledger_records_replayed",
            "Ledger records applied again, because the view had lost them: what they did was told already.",
            registry=self.registry,
        )
        self.rewinds = Counter(
            "optout_rewinds", "Times that a bucket was read again from an earlier record.", registry=self.registry
        )
        self._scripts = Histogram(
            "optout_redis_script_seconds",
            "Round trips of script calls, several buckets in one.",
            ["script"],
            buckets=SCRIPT_SECONDS,
            registry=self.registry,
        )
        self._losses = Counter("optout_losses", "Losses noticed.", ["kind"], registry=self.registry)
        for kind in set(Loss) - {Loss.REBUILT}:
            self._losses.labels(kind.value)
        self.healed = Counter("optout_losses_healed", "Losses that healed.", registry=self.registry)

    def _skipping(self) -> None:
        self.passed_over = Counter(
            "optout_places_passed_over",
            "Places that nobody can read and that were passed over because an operator wrote so; in replays again.",
            ["stage"],
            registry=self.registry,
        )
        for stage in ("classify", "apply"):
            self.passed_over.labels(stage)
        self.void_skips = Counter(
            "optout_void_skips", "Records of the topic of skips that allow nothing.", registry=self.registry
        )

    def _publishing(self) -> None:
        self._changes = Counter("optout_changes_published", "Changes told to Kafka.", registry=self.registry)
        self.put_aside = Counter(
            "optout_changes_put_aside",
            "Changes that no topic takes: in force, and told to nobody but by a dead letter.",
            registry=self.registry,
        )
        self.confirmations_put_aside = Counter(
            "optout_confirmations_put_aside",
            "Confirmations that no topic takes: the change is in force and told, and nobody answers the patient.",
            registry=self.registry,
        )
        self._transactions = Histogram(
            "optout_publish_seconds",
            "Transactions, or where there are none writes with their offsets, by how they ended.",
            ["result"],
            buckets=TRANSACTION_SECONDS,
            registry=self.registry,
        )
        self._outbox = Gauge("optout_outbox_changes", "Changes that wait to be told.", registry=self.registry)
        self._outbox_most = Gauge(
            "optout_outbox_changes_max", "Changes that wait in the bucket where most do.", registry=self.registry
        )

    def _standing(self) -> None:
        self._buckets = Gauge(
            "optout_buckets",
            "Buckets of this worker: owned; vouched for; stopped at a record; held by a full outbox; replaying a loss.",
            ["state"],
            registry=self.registry,
        )
        self._stopped = Gauge(
            "optout_bucket_stopped", "1 for a bucket that stopped at a record.", ["bucket"], registry=self.registry
        )
        self._added = Gauge(
            "optout_ledger_added_partition",
            "1 for a partition of the ledger that is no bucket, on a worker that the group has given it to.",
            ["partition"],
            registry=self.registry,
        )
        self.unsafe = Gauge(
            "optout_ledger_unsafe_settings",
            "Settings of the ledger that allow that records are lost.",
            registry=self.registry,
        )
        self.faults = Gauge(
            "optout_standing_faults",
            "What is wrong with topics and with Redis, looked at each minute: missing topics, inbound, clocks, skips, "
            "sizes, redis.",
            ["about"],
            registry=self.registry,
        )
        self._open_transactions = Gauge(
            "optout_open_transaction_seconds",
            "For how long an open transaction has kept this partition, of inbound or the ledger, from being read.",
            ["topic", "partition"],
            registry=self.registry,
        )
        self.left = Gauge(
            "optout_ledger_records_left",
            "Ledger records that this worker's buckets have not applied yet.",
            registry=self.registry,
        )
        Gauge(
            "optout_fresh_age_seconds",
            "Age of what is vouched for, of the oldest bucket; NaN while there is none.",
            registry=self.registry,
        ).set_function(lambda: time.monotonic() - self._fresh)
        self.strangers = Gauge(
            "optout_group_strangers",
            "Members of our consumer groups, and of their copies, that are no workers of ours.",
            ["group"],
            registry=self.registry,
        )
        self._trouble = Gauge(
            "optout_trouble",
            "1 while a part cannot do its work for this reason.",
            ["part", "kind"],
            registry=self.registry,
        )

    def count_intake(self, counts: Mapping[str, int]) -> None:
        """Count what became of inbound records, by the names that Intake has for it."""
        for name, count in counts.items():
            if name == "inbound":
                self._inbound.inc(count)
            elif name.startswith(DEAD_LETTER):
                self._dead_letters.labels(name.removeprefix(DEAD_LETTER)).inc(count)
            else:
                self._outcomes.labels(name).inc(count)

    def count_applied(self, decided: Mapping[str, int]) -> None:
        """Count ledger records by decision."""
        for decision, count in decided.items():
            self._applied.labels(decision.lower()).inc(count)

    def time_script(self, script: str, seconds: float) -> None:
        """Note how long a round trip of script calls took."""
        self._scripts.labels(script).observe(seconds)

    def count_published(self, changes: int, seconds: float) -> None:
        """Count what was published in one go."""
        self._changes.inc(changes)
        self._transactions.labels("published").observe(seconds)

    def count_unpublished(self, seconds: float) -> None:
        """Count a transaction that did not happen, or of which nobody knows."""
        self._transactions.labels("failed").observe(seconds)

    def count_loss(self, kind: Loss) -> None:
        """Count a loss that was noticed."""
        self._losses.labels(kind.value).inc()

    def show_waiting(self, waiting: Iterable[int]) -> None:
        """Show how many changes wait to be told in each bucket."""
        counts = list(waiting)
        self._outbox.set(sum(counts))
        self._outbox_most.set(max(counts, default=0))

    def show_buckets(self, **states: int) -> None:
        """Show how many buckets are in each of these states."""
        for state, count in states.items():
            self._buckets.labels(state).set(count)

    def show_stopped(self, buckets: Iterable[int]) -> None:
        """Show which buckets stopped."""
        stopped = sorted(buckets)
        self._buckets.labels("stopped").set(len(stopped))
        with self._rows:
            self._stopped.clear()
            for bucket in stopped:
                self._stopped.labels(str(bucket)).set(1)

    def show_added(self, partitions: Iterable[int]) -> None:
        """Show partitions that were added to the ledger. They cannot be taken away again."""
        for partition in partitions:
            self._added.labels(str(partition)).set(1)

    def show_open_transaction(self, topic: str, partition: int, seconds: float | None) -> None:
        """Show for how long an open transaction has kept a partition from being read; None: none does."""
        labels = topic, str(partition)
        if seconds is not None:
            self._open_transactions.labels(*labels).set(seconds)
            return
        with suppress(KeyError):  # it was never shown
            self._open_transactions.remove(*labels)

    def show_fresh(self, age: float | None) -> None:
        """Show how old what is vouched for is, in seconds; it ages by itself until the next time. None: nothing is."""
        self._fresh = math.nan if age is None else time.monotonic() - age

    def show_trouble(self, part: str, kind: str, *, there: bool) -> None:
        """Show whether a part is in trouble of that kind."""
        self._trouble.labels(part, kind).set(int(there))
