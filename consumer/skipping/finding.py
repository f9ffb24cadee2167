"""What stands at places that are to be skipped, and whether they may be: what can be read never is."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer import deployment
from consumer.domain.buckets import bucket_of, is_location
from consumer.domain.events import NO_RECORD, Skip, digest_of, subscription_of
from consumer.kafka import topics
from consumer.kafka.cluster import partitions_by_topic
from consumer.kafka.errors import KafkaGone
from consumer.kafka.inbox import appended_at
from consumer.kafka.probe import Probe
from consumer.ledger import StoppedBucket
from consumer.ops import logs
from consumer.published import Published
from consumer.suppression.view import View

if TYPE_CHECKING:
    from consumer.kafka.inbox import Partition
    from consumer.ledger import Ledger
    from consumer.settings import Settings
    from consumer.skipping.place import Places
    from consumer.suppression.answers import Meta

STANDS_SECONDS = 1.0
"""For how long a bucket must not move to count as standing: one whose worker reads the record moves at once."""


class NotSkipped(Exception):
    """These places may not be skipped, or not now. One sentence."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Places from `offset` to before `end` that are skipped as one: a record, or where no record can be read.

    `what` is for a person, and quotes nothing of it. `subscription` is whose the record is by its key, if by any.
    """

    offset: int
    end: int
    digest: str
    what: str
    subscription: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Find:
    """All that is to be skipped; `told` says that changes from there on were told already."""

    partition: Partition
    topic_id: str
    pieces: tuple[Piece, ...]
    told: bool = False

    def skips(self, *, by: str, reason: str) -> list[Skip]:
        """Return what is to be written."""
        now = time.time_ns() // 1_000_000
        return [
            Skip(
                topic=self.partition.topic,
                topic_id=self.topic_id,
                partition=self.partition.number,
                offset=piece.offset,
                end=piece.end,
                digest=piece.digest,
                by=by,
                reason=reason,
                recorded_at=now,
            )
            for piece in self.pieces
        ]


def in_ledger(settings: Settings, places: Places) -> Find:
    """Return what stands at these places of the ledger.

    Raises NotSkipped where its bucket does not stand at the first, or one of them can be read; KafkaGone, TopicError,
    ViewUnavailable, OtherLedger.
    """
    ledger = deployment.ledger_as_it_is(settings)
    if places.partition.number >= settings.buckets:
        raise NotSkipped(f"{ledger.topic} has {settings.buckets} partitions, 0 to {settings.buckets - 1}")
    view = View(deployment.redis_nodes(settings), buckets=settings.buckets, ledger=ledger.identity)
    _standing(view, places)
    with Probe(deployment.reading_config(settings, ledger.topic)) as probe:
        pieces = _pieces(ledger, places, probe)
    time.sleep(STANDS_SECONDS)
    meta = _standing(view, places)
    told = places.first < _told(settings, ledger, places.partition, meta.published)
    return Find(places.partition, ledger.topic_id, pieces, told)


def in_inbound(settings: Settings, places: Places) -> Find:
    """Return the batches at these places of an inbound topic that nobody can unpack.

    Raises NotSkipped where one of them can be read, and KafkaGone, TopicError.
    """
    topic, number = places.partition
    admin = deployment.admin_client(settings)
    count = partitions_by_topic(admin).get(topic, 0)
    if number >= count:
        raise NotSkipped(f"{topic} has {count} partitions, 0 to {count - 1}")
    pieces: list[Piece] = []
    with Probe(deployment.reading_config(settings, *settings.inbound)) as probe:
        position = places.first
        while position == places.first or (places.last is not None and position <= places.last):
            found = probe.find(places.partition, position)
            if found.unpacked:
                raise NotSkipped(
                    f"{topic} [{number}] can be read from offset {position} on: nothing was skipped; a record that "
                    "nobody understands becomes a dead letter by itself"
                )
            end = probe.batch_end(places.partition, position, found.offset)
            pieces.append(Piece(position, end, NO_RECORD, f"{end - position} texts in a batch that cannot be unpacked"))
            position = end
    return Find(places.partition, topics.topic_id(admin, topic), tuple(pieces))


def _standing(view: View, places: Places) -> Meta:
    """Return what a bucket that stands at the first place says of itself. Raises NotSkipped."""
    bucket = places.partition.number
    meta = view.metas([bucket])[bucket]
    if meta is None:
        raise NotSkipped(
            f"bucket {bucket} is not in Redis, or not whole: its worker begins it; ask again when it stands"
        )
    if meta.applied > places.first:
        raise NotSkipped(
            f"bucket {bucket} is past this place (it is at offset {meta.applied}): what was applied is answered with "
            "an opt-out, not with a skip; see docs/FAILURES.md"
        )
    if meta.applied < places.first:
        raise NotSkipped(
            f"bucket {bucket} has not come to this place (it is at offset {meta.applied}): a skip is written where it "
            "stands"
        )
    return meta


def _told(settings: Settings, ledger: Ledger, partition: Partition, remembered: int) -> int:
    """Return how far the changes of a bucket were told, as Kafka knows it. Raises KafkaGone and LedgerFault."""
    published = Published(
        deployment.asking_config(settings),
        settings.appliers,
        ledger.topic_id,
        settings.subscription_changed_topic,
        logs.logger("skip"),
    )
    with closing(published):
        told, unknown = published.ask({partition: remembered}, deployment.ASKED_WITHIN)
    for problem in unknown.values():
        raise KafkaGone(f"how far changes were told is not known: {problem}")
    return told[partition].offset


def _pieces(ledger: Ledger, places: Places, probe: Probe) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    position = places.first
    while position == places.first or (places.last is not None and position <= places.last):
        piece = _piece(ledger, places, position, probe)
        pieces.append(piece)
        position = piece.end
    return tuple(pieces)


def _piece(ledger: Ledger, places: Places, position: int, probe: Probe) -> Piece:
    """Return what is to be skipped at a position. Raises NotSkipped."""
    found = probe.find(places.partition, position)
    name = f"{places.partition.topic} [{places.partition.number}]"
    if not found.unpacked and found.offset <= position:
        end = probe.batch_end(places.partition, position, found.offset)
        return Piece(position, end, NO_RECORD, f"{end - position} records in a batch that cannot be unpacked")
    if found.offset > position:
        end = found.offset if places.last is None else min(found.offset, places.last + 1)
        return Piece(position, end, NO_RECORD, f"no record can be read: {name} goes on at offset {found.offset}")
    message = found.message
    if message is None:
        raise NotSkipped(f"nothing stands at offset {position}: {name} ends there, or a transaction is open there")
    value = message.value()
    try:
        ledger.entry(value, places.partition.number, position, appended_at(message))
    except StoppedBucket as problem:
        key = message.key()
        subscription = subscription_of(key if isinstance(key, bytes) else None)
        if subscription is not None and not _belongs(subscription[0], ledger, places.partition):
            subscription = None
        return Piece(position, position + 1, digest_of(value), str(problem).partition(";")[0], subscription)
    raise NotSkipped(f"the record at offset {position} of {name} can be read, so it counts: nothing was skipped")


def _belongs(location_id: str, ledger: Ledger, partition: Partition) -> bool:
    return is_location(location_id) and bucket_of(location_id, ledger.buckets) == partition.number
