"""How large a record each topic takes, and what follows from it for the clients: their limits are never the narrower.

A broker measures whole batches. So a batch must not be larger than the narrowest topic that a producer writes to takes,
or many small records are refused together, for ever; and one record may be as large as the widest takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumer.kafka.topics import topic_configs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from consumer.kafka.cluster import AdminClient

LIMIT = "max.message.bytes"
LARGEST_BATCH = 1_000_000
"""The client's own batch.size and message.max.bytes."""
LARGEST_ANSWER = 100_000_000
"""The client's own receive.message.max.bytes."""
FETCHED_AT_ONCE = 52_428_800
"""The client's own fetch.max.bytes."""
LARGEST_MESSAGE = 1_000_000_000
"""The highest message.max.bytes that the client knows."""
ROOM = 1024
"""Bytes to spare for what stands around records."""


def limits(admin: AdminClient, topics: Iterable[str]) -> dict[str, int]:
    """Return how many bytes a batch of each topic may have. Raises TopicError."""
    return {name: int(topic_configs(admin, name)[LIMIT]) for name in topics}


def producing(config: Mapping[str, Any], takes: Mapping[str, int]) -> dict[str, Any]:
    """Return a producer's properties with limits that fit the topics that it writes to."""
    if not takes:
        return dict(config)
    largest = max(int(config.get("message.max.bytes", LARGEST_BATCH)), *takes.values())
    batch = min(int(config.get("batch.size", LARGEST_BATCH)), *(limit - ROOM for limit in takes.values()))
    return {**config, "message.max.bytes": min(largest, LARGEST_MESSAGE), "batch.size": max(1, batch)}


def consuming(config: Mapping[str, Any], holds: Mapping[str, int]) -> dict[str, Any]:
    """Return a consumer's properties with limits that fit the topics that it reads."""
    if not holds:
        return dict(config)
    return {**config, "receive.message.max.bytes": largest_answer(config, holds)}


def largest_answer(config: Mapping[str, Any], holds: Mapping[str, int]) -> int:
    """Return the receive.message.max.bytes that a fetch of these topics can need, or the configured one if larger."""
    at_once = int(config.get("fetch.max.bytes", FETCHED_AT_ONCE))
    needed = max(at_once, *holds.values()) + 1024 * ROOM
    return max(int(config.get("receive.message.max.bytes", LARGEST_ANSWER)), needed)
