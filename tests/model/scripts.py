"""A bucket in Redis, and what each Lua script of `consumer/suppression/` does to it in one atomic step.

The state rules are not written down again: `decide` is the product's own.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from consumer.domain.events import Action, Status
from consumer.domain.subscription import Decision, Subscription
from consumer.domain.subscription import decide as decided_by_product

if TYPE_CHECKING:
    from tests.model.rules import Rules

IN, OUT = 0, 1
"""The two kinds of text. Compared as pairs (time, kind), the greater one wins: at the same time the opt-out."""


class Text(NamedTuple):
    """One keyword: whose, when it was sent, which."""

    patient: int
    time: int
    kind: int


class Identity(NamedTuple):
    """Which server answers."""

    run: int
    replication: int


class Marker(NamedTuple):
    """What was vouched for: on which server, and how many of the texts that came in."""

    server: Identity
    fresh: int


class Stored(NamedTuple):
    """What the view holds of one patient, each in a location of its own, so that each carries its own epoch.

    The patient is a member of the suppression set if `kind` is OUT: apply.lua writes both in one step.
    """

    epoch: int
    time: int
    kind: int
    version: int


class Change(NamedTuple):
    """A decision CHANGED: the offset of its ledger record, whose it is, and the version."""

    offset: int
    patient: int
    kind: int
    version: int


class Bucket(NamedTuple):
    """What Redis holds of one bucket. Without an epoch there is no meta, whatever else may be left."""

    epoch: int
    applied: int
    published: int
    waiting: int
    marker: Marker | None
    outbox: tuple[Change, ...]
    stored: tuple[Stored, ...]


NOTHING = Stored(0, -1, IN, 0)
ACTIONS = {IN: Action.OPT_IN, OUT: Action.OPT_OUT}
STATUSES = {IN: Status.OPTED_IN, OUT: Status.OPTED_OUT}


def name(text: Text) -> str:
    """Return how a trace calls a text."""
    return f"p{text.patient}'s {'STOP' if text.kind == OUT else 'START'} of {text.time}"


def empty(patients: int) -> Bucket:
    """Return what a Redis holds that never held anything."""
    return Bucket(0, 0, 0, 0, None, (), (NOTHING,) * patients)


@cache
def decide(stored: Stored, text: Text, epoch: int) -> tuple[bool, Stored]:
    """Return whether a text is a change, and what is stored after it. NOTHING stands for what was never touched."""
    known = None
    if stored.epoch:
        known = Subscription(STATUSES[stored.kind], stored.time, stored.version, stored.time, "")
    decision, after = decided_by_product(known, ACTIONS[text.kind], text.time, "")
    kind = OUT if after.status is Status.OPTED_OUT else IN
    return decision is Decision.CHANGED, Stored(epoch, after.event_time, kind, after.version)


@cache
def fold(ledger: tuple[Text, ...]) -> tuple[Change, ...]:
    """Return the changes that a whole ledger partition leads to."""
    stored: dict[int, Stored] = {}
    changes = []
    for offset, text in enumerate(ledger):
        changed, stored[text.patient] = decide(stored.get(text.patient, NOTHING), text, 1)
        if changed:
            changes.append(Change(offset, text.patient, text.kind, stored[text.patient].version))
    return tuple(changes)


def is_whole(rules: Rules, bucket: Bucket) -> bool:
    """Return whether a bucket is there, and its outbox as long as its meta says: else MISSING or DAMAGED."""
    return bucket.epoch > 0 and (len(bucket.outbox) == bucket.waiting or not rules.counts_outbox)


def apply(rules: Rules, bucket: Bucket, position: int, text: Text, published: int) -> Bucket:
    """Return a whole bucket after it applied the text at `position`, which is where it stands."""
    stored = bucket.stored[text.patient]
    if stored.epoch != bucket.epoch and rules.drops_other_epochs:
        stored = NOTHING
    changed, stored = decide(stored, text, bucket.epoch)
    published = max(published, bucket.published)
    outbox = bucket.outbox
    if changed and position >= published and rules.keeps_changes:
        outbox = _added(outbox, Change(position, text.patient, text.kind, stored.version))
    return Bucket(
        bucket.epoch,
        position + 1,
        published,
        bucket.waiting + len(outbox) - len(bucket.outbox),
        bucket.marker,
        outbox,
        (*bucket.stored[: text.patient], stored, *bucket.stored[text.patient + 1 :]),
    )


def _added(outbox: tuple[Change, ...], change: Change) -> tuple[Change, ...]:
    """Return the outbox with one more change: sorted by offset, each once, as Redis keeps it."""
    if outbox and outbox[-1].offset >= change.offset:
        return tuple(sorted({*outbox, change}))
    return (*outbox, change)


def begin(rules: Rules, bucket: Bucket, epoch: int, published: int) -> Bucket:
    """Return a bucket that is missing or damaged, begun at offset 0. What was stored stays until it is touched."""
    outbox = () if rules.begins_empty else bucket.outbox
    return Bucket(epoch, 0, max(published, bucket.published), len(outbox), None, outbox, bucket.stored)


def take(rules: Rules, bucket: Bucket, published: int, limit: int) -> tuple[tuple[Change, ...], int]:
    """Return the changes that wait from `published` on, and the offset that tells how far they go."""
    start = published if rules.starts_at_published else 0
    changes = tuple(change for change in bucket.outbox if change.offset >= start)[:limit]
    if len(changes) == limit and rules.up_to_last_taken:
        return changes, changes[-1].offset + 1
    return changes, bucket.applied


def trim(bucket: Bucket, below: int) -> Bucket:
    """Return the bucket without the changes below an offset."""
    outbox = tuple(change for change in bucket.outbox if change.offset >= below)
    return bucket._replace(
        published=max(bucket.published, below),
        waiting=bucket.waiting - len(bucket.outbox) + len(outbox),
        outbox=outbox,
    )


def same_server(rules: Rules, one: Identity, other: Identity) -> bool:
    """Return whether two identities name one server."""
    return one == other if rules.replication_counts else one.run == other.run


class Seen(NamedTuple):
    """What a voucher read first: the identity of server and bucket."""

    server: Identity
    epoch: int


def vouch(rules: Rules, bucket: Bucket, now_on: Identity, seen: Seen, reached: tuple[int, int]) -> Bucket | None:
    """Return the bucket vouched for, `reached` being the time and the ledger's end; None where that may not be."""
    fresh, end = reached
    if not bucket.epoch or (rules.vouches_for_epoch and seen.epoch != bucket.epoch):
        return None
    if rules.vouches_for_run and not same_server(rules, seen.server, now_on):
        return None
    if rules.vouches_at_end and bucket.applied < end:
        return None
    marker = bucket.marker
    if marker is not None and same_server(rules, marker.server, now_on):
        fresh = max(fresh, marker.fresh)
    return bucket._replace(marker=Marker(now_on, fresh))
