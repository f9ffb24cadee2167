"""Writes skips down, which is what makes them work, and the opt-outs that an operator asks for with them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from consumer import deployment
from consumer.domain.events import OptOutRequested, Source, subscription_key
from consumer.kafka.cluster import partitions_by_topic
from consumer.kafka.errors import KafkaGone
from consumer.kafka.producers import LedgerProducer, Outgoing
from consumer.kafka.topics import TopicError
from consumer.operators import ACKNOWLEDGED_WITHIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.domain.events import Skip
    from consumer.settings import Settings
    from consumer.skipping.finding import Find


def ask_for_opt_outs(settings: Settings, find: Find) -> int:
    """Ask for the opt-out of each subscription that a record's key names; return how many. Raises KafkaGone."""
    topic, codec = settings.opt_out_requested_topic, deployment.codec(settings)
    records = []
    for piece in find.pieces:
        if piece.subscription is not None:
            location_id, number = piece.subscription
            request = OptOutRequested(
                request_id=f"skip-{find.topic_id}-{find.partition.number}-{piece.offset}",
                location_id=location_id,
                patient_number=number,
                source=Source.IMPORT,
                occurred_at=time.time_ns() // 1_000_000,
            )
            records.append(Outgoing(topic, subscription_key(location_id, number).encode(), codec.encode(request)))
    _write(settings, topic, records)
    return len(records)


def write_skips(settings: Settings, skips: Sequence[Skip]) -> None:
    """Write skips down and return once Kafka has them. Raises KafkaGone and TopicError."""
    topic, codec = settings.skip_topic, deployment.codec(settings)
    # All in one partition, whatever somebody gave the topic: it is read as one list.
    _write(settings, topic, [Outgoing(topic, one.topic.encode(), codec.encode(one), partition=0) for one in skips])


def _write(settings: Settings, topic: str, records: Sequence[Outgoing]) -> None:
    if topic not in partitions_by_topic(deployment.admin_client(settings)):
        raise TopicError(f"there is no topic {topic} to write this into: run `optout topics create`")
    producer = LedgerProducer(deployment.client_config(settings), lambda *_: None)
    for record in records:
        producer.write(record)
    if not producer.flush(ACKNOWLEDGED_WITHIN):
        raise KafkaGone(f"{topic} does not take what was written: look at `optout skip --list` before you ask again")
