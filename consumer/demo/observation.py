"""What became of the demo's texts: read from Kafka's topics and from Redis, and asked of the guard."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from consumer.domain.events import ConfirmationRequested, InboundMessage, ReviewRequested, SubscriptionChanged
from consumer.kafka.inbox import Partition
from consumer.kafka.reader import Reader
from consumer.wire.codec import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import redis
    from confluent_kafka import Message

    from consumer.demo.expectation import Change, DeadLetter, Subscription
    from consumer.demo.texts import Record
    from consumer.guard import VerdictKind
    from consumer.kafka.topics import TopicSpec
    from consumer.wire.codec import Codec

WATCHED = ("subscription_changed", "confirmation_requested", "review_requested", "dead_letter")


@dataclass(frozen=True, slots=True)
class Observation:
    """What was found. `confirmations` gives each confirmation the version of the change that it confirms, or 0."""

    changes: Mapping[Subscription, tuple[Change, ...]]
    confirmations: Mapping[Subscription, tuple[Change, ...]]
    dead_letters: Counter[DeadLetter]
    reviews: Counter[str]
    members: frozenset[Subscription]
    verdicts: Mapping[Subscription, VerdictKind]


@dataclass(slots=True)
class Seen:
    """What the topics held, each record once: the embedded Kafka may hold one twice, under the same id."""

    changes: dict[str, SubscriptionChanged] = field(default_factory=dict)
    confirmations: dict[str, ConfirmationRequested] = field(default_factory=dict)
    reviews: dict[str, ReviewRequested] = field(default_factory=dict)
    dead_letters: dict[object, DeadLetter] = field(default_factory=dict)

    def take(self, role: str, message: Message, codec: Codec) -> None:
        """Take in one record of the topic with this role."""
        value = _value(message)
        if role == "subscription_changed":
            change = codec.decode(SubscriptionChanged, value)
            self.changes[change.event_id] = change
        elif role == "confirmation_requested":
            confirmation = codec.decode(ConfirmationRequested, value)
            self.confirmations[confirmation.event_id] = confirmation
        elif role == "review_requested":
            review = codec.decode(ReviewRequested, value)
            self.reviews[review.review_id] = review
        else:
            headers: dict[str, Any] = dict(message.headers() or [])
            origin = tuple(headers.get(f"__connect.errors.{name}") for name in ("topic", "partition", "offset"))
            reason = bytes(headers.get("optout.reason", b"")).decode(errors="replace")
            self.dead_letters[origin] = (reason, _record(value, codec))


class Watch:
    """Looks at what the workers write, from the beginning on."""

    def __init__(self, bootstrap: str, specs: Mapping[str, TopicSpec], codec: Codec) -> None:
        self._codec = codec
        self._roles = {specs[role].name: role for role in WATCHED}
        partitions = [Partition(specs[role].name, n) for role in WATCHED for n in range(specs[role].partitions)]
        self._reader = Reader({"bootstrap.servers": bootstrap, "log_level": 0}, partitions)
        self.seen = Seen()
        """All that was seen so far."""

    def look(self) -> Seen:
        """Return what has come since the last look. Raises KafkaGone."""
        new = Seen()
        for message in self._reader.read():
            for seen in (new, self.seen):
                seen.take(self._roles[message.topic() or ""], message, self._codec)
        return new

    def close(self) -> None:
        """Look no more."""
        self._reader.close()


def by_subscription(changes: Iterable[SubscriptionChanged]) -> dict[Subscription, tuple[Change, ...]]:
    """Return the changes of each subscription, in order."""
    grouped: dict[Subscription, tuple[Change, ...]] = {}
    for change in changes:
        who = (change.location_id, change.patient_number)
        grouped[who] = (*grouped.get(who, ()), (change.version, str(change.status)))
    return grouped


def confirmed(
    confirmations: Iterable[ConfirmationRequested], changes: Mapping[str, SubscriptionChanged]
) -> dict[Subscription, tuple[Change, ...]]:
    """Return what was confirmed to each subscription, in order. `changes` by their event ids."""
    grouped: dict[Subscription, tuple[Change, ...]] = {}
    for confirmation in confirmations:
        who = (confirmation.location_id, confirmation.patient_number)
        change = changes.get(confirmation.change_event_id)
        grouped[who] = (*grouped.get(who, ()), (change.version if change else 0, str(confirmation.status)))
    return grouped


def members(client: redis.Redis) -> frozenset[Subscription]:
    """Return everybody in the suppression sets, whatever bucket they stand in."""
    found: set[Subscription] = set()
    for key in client.scan_iter(match="optout:*:set:*", count=1000):
        location = key.decode().partition(":set:")[2]
        digits: Any = client.smembers(key)
        found.update((location, f"+{member.decode()}") for member in digits)
    return frozenset(found)


def sent(bootstrap: str, topic: str) -> Counter[Subscription]:
    """Return how many messages stand on this topic of one partition, by whom they are for. Raises KafkaGone."""
    with Reader({"bootstrap.servers": bootstrap, "log_level": 0}, [Partition(topic, 0)]) as reader:
        messages = [json.loads(_value(message)) for message in reader.read()]
    return Counter((message["location_id"], message["patient_number"]) for message in messages)


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
