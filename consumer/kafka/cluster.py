"""The cluster itself: to be met before anything else, and asked which topics it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka.admin import AdminClient

from consumer.kafka.errors import CLIENT_ERRORS, REFUSED, KafkaGone, or_gone, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NO_GROUP", "AdminClient", "connect", "partitions_by_topic"]

CONNECT_SECONDS = 10.0

CONSUMERS_ONLY = ("session.", "heartbeat.", "max.poll.", "group.", "fetch.", "queued.", "auto.offset.", "check.crcs")
PRODUCERS_ONLY = ("linger.", "batch.", "queue.", "compression.", "message.timeout.", "retries", "delivery.")
"""What the names of properties begin with that the other kind of client complains about at its start."""
NO_GROUP = "optout-reader"
"""The group of consumers that join none: the client wants a name, and asks who coordinates that group."""


def without(config: Mapping[str, Any], prefixes: tuple[str, ...]) -> dict[str, Any]:
    """Return the properties whose names begin with none of these."""
    return {name: value for name, value in config.items() if not name.startswith(prefixes)}


def connect(config: Mapping[str, Any]) -> AdminClient:
    """Return an admin client that has met the cluster. Raises KafkaGone, in a sentence, where it cannot."""
    with or_gone(REFUSED):  # a property that does not exist, or a value that it cannot have
        # Asking for a topic by name must not make one where brokers allow that.
        admin = AdminClient({**without(config, CONSUMERS_ONLY), "allow.auto.create.topics": False})
    partitions_by_topic(admin, config.get("bootstrap.servers", ""))
    return admin


def partitions_by_topic(admin: AdminClient, where: str = "") -> dict[str, int]:
    """Return how many partitions each topic of the cluster has. Raises KafkaGone."""
    try:
        topics = admin.list_topics(timeout=CONNECT_SECONDS).topics
    except CLIENT_ERRORS as problem:
        raise KafkaGone(
            f"Kafka {f'at {where} ' if where else ''}cannot be reached ({sentence(problem)}): is it running, and is "
            "OPTOUT_KAFKA_BOOTSTRAP_SERVERS right?"
        ) from None
    return {name: len(topic.partitions) for name, topic in topics.items()}
