"""What became of the demo's texts: read from Kafka's topics and from Redis, and asked of the guard."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from consumer.domain.events import ConfirmationRequested, InboundMessage, SubscriptionChanged
from consumer.kafka.errors import sentence
from consumer.wire.codec import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import redis
    from confluent_kafka import Message

    from consumer.demo.expectation import Change, DeadLetter, Subscription
    from consumer.demo.texts import Record
    from consumer.guard import VerdictKind
    from consumer.wire.codec import Codec

READ_WITHIN_S = 10.0


class NotRead(Exception):
    """One sentence: which topic could not be read to its end."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What was found. `confirmations` gives each confirmation the version of the change that it confirms, or 0."""

    changes: Mapping[Subscription, tuple[Change, ...]]
    confirmations: Mapping[Subscription, tuple[Change, ...]]
    dead_letters: Counter[DeadLetter]
    members: frozenset[Subscription]
    verdicts: Mapping[Subscription, VerdictKind]


def read_to_end(bootstrap: str, topic: str, partitions: int) -> list[Message]:
    """Return all that a topic holds, each partition in its order. Raises NotRead."""
    reader = Consumer(
        {"bootstrap.servers": bootstrap, "log_level": 0, "group.id": "optout-demo", "enable.partition.eof": True}
    )
    reader.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
    messages: list[Message] = []
    ended: set[int | None] = set()
    try:
        while len(ended) < partitions:
            batch = reader.consume(1, READ_WITHIN_S)
            if not batch:
                raise NotRead(f"the topic {topic} could not be read to its end within {READ_WITHIN_S:.0f} s")
            error = batch[0].error()
            if error is None:
                messages += batch
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the client's own codes have an underscore
                ended.add(batch[0].partition())
            else:
                raise NotRead(f"the topic {topic} could not be read: {sentence(error)}")
    finally:
        reader.close()
    return messages


def changes_of(messages: Iterable[Message], codec: Codec) -> list[SubscriptionChanged]:
    """Return the changes in order, each once: the embedded Kafka may hold one twice, under the same event id."""
    changes = [codec.decode(SubscriptionChanged, _value(message)) for message in messages]
    return list({change.event_id: change for change in changes}.values())


def confirmations_of(messages: Iterable[Message], codec: Codec) -> list[ConfirmationRequested]:
    """Return the confirmations in order, each once."""
    confirmations = [codec.decode(ConfirmationRequested, _value(message)) for message in messages]
    return list({confirmation.event_id: confirmation for confirmation in confirmations}.values())


def dead_letters_of(messages: Iterable[Message], codec: Codec) -> Counter[DeadLetter]:
    """Return the dead letters, each once by where it stood on the inbound topic."""
    origins = {}
    for message in messages:
        headers: dict[str, Any] = dict(message.headers() or [])
        origin = tuple(headers.get(f"__connect.errors.{name}") for name in ("topic", "partition", "offset"))
        reason = bytes(headers.get("optout.reason", b"")).decode(errors="replace")
        origins[origin] = (reason, _record(_value(message), codec))
    return Counter(origins.values())


def by_subscription(changes: Iterable[SubscriptionChanged]) -> dict[Subscription, tuple[Change, ...]]:
    """Return the changes of each subscription, in order."""
    grouped: dict[Subscription, tuple[Change, ...]] = {}
    for change in changes:
        who = (change.location_id, change.patient_number)
        grouped[who] = (*grouped.get(who, ()), (change.version, str(change.status)))
    return grouped


def confirmed(
    confirmations: Iterable[ConfirmationRequested], changes: Iterable[SubscriptionChanged]
) -> dict[Subscription, tuple[Change, ...]]:
    """Return what was confirmed to each subscription, in order."""
    versions = {change.event_id: change.version for change in changes}
    grouped: dict[Subscription, tuple[Change, ...]] = {}
    for confirmation in confirmations:
        who = (confirmation.location_id, confirmation.patient_number)
        version = versions.get(confirmation.change_event_id, 0)
        grouped[who] = (*grouped.get(who, ()), (version, str(confirmation.status)))
    return grouped


def members(client: redis.Redis) -> frozenset[Subscription]:
    """Return everybody in the suppression sets, whatever bucket they stand in."""
    found: set[Subscription] = set()
    for key in client.scan_iter(match="optout:*:set:*", count=1000):
        location = key.decode().partition(":set:")[2]
        digits: Any = client.smembers(key)
        found.update((location, f"+{member.decode()}") for member in digits)
    return frozenset(found)


def outboxes_are_empty(client: redis.Redis) -> bool:
    """Whether every change that Redis holds has been told to Kafka."""
    return next(client.scan_iter(match="optout:*:outbox", count=1000), None) is None


def _record(value: bytes, codec: Codec) -> Record:
    try:
        return codec.decode(InboundMessage, value)
    except Unreadable:
        return value


def _value(message: Message) -> bytes:
    value: Any = message.value()  # the client promises text as well, which no raw consumer returns
    return bytes(value or b"")
