"""The records that tell one change: SubscriptionChanged, and the confirmation where confirmations are ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.domain.confirmation import confirmation_of
from consumer.domain.events import STATUS_OF, Status, SubscriptionChanged, subscription_key
from consumer.domain.evidence import LONGEST_WORD, bounded, cut
from consumer.kafka.producers import Outgoing
from consumer.letter import Place

if TYPE_CHECKING:
    from consumer.domain.bucket import Waiting
    from consumer.kafka.inbox import Partition
    from consumer.ledger import Ledger
    from consumer.wire.codec import Codec

_OTHER = {Status.OPTED_OUT: Status.OPTED_IN, Status.OPTED_IN: Status.OPTED_OUT}


class Changes:
    """Makes the records of changes. Without a topic for confirmations there are none: the provider sends its own."""

    def __init__(self, ledger: Ledger, codec: Codec, *, changed: str, confirmations: str | None) -> None:
        self._ledger = ledger
        self._codec = codec
        self._changed = changed
        self._confirmations = confirmations

    def records(self, partition: Partition, waiting: Waiting) -> list[Outgoing]:
        """Return what tells this change. The same change gives the same records, whoever makes them and whenever."""
        record = self._ledger.decode(waiting.raw)
        position = self._ledger.position(partition.number, waiting.offset)
        status = STATUS_OF[record.cause.action]
        change = SubscriptionChanged(
            event_id=position.event_id("SubscriptionChanged"),
            location_id=record.location_id,
            patient_number=record.patient_number,
            status=status,
            previous_status=_OTHER[status],
            version=waiting.version,
            keyword=cut(record.cause.keyword, LONGEST_WORD),
            source=record.cause.source,
            occurred_at=record.event_time,
            recorded_at=record.recorded_at,
            ledger=position,
            origin=bounded(record.origin),
        )
        key = subscription_key(change.location_id, change.patient_number).encode()
        source = Place(self._ledger.topic, partition.number, waiting.offset)
        records = [Outgoing(self._changed, key, self._codec.encode(change), source=source)]
        confirmation = confirmation_of(change, record) if self._confirmations else None
        if confirmation and self._confirmations:
            records.append(Outgoing(self._confirmations, key, self._codec.encode(confirmation), source=source))
        return records
