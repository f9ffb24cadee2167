"""Who is in a consumer group: for naming those who must not be."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from consumer.kafka.committed import Partition
from consumer.kafka.errors import CLIENT_ERRORS, sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka.admin import AdminClient


class GroupMember(NamedTuple):
    """A member of a group, as the broker knows it."""

    group: str
    client_id: str
    host: str
    partitions: frozenset[Partition]


def members(admin: AdminClient, groups: Sequence[str], timeout: float) -> list[GroupMember]:
    """Return everybody who is in these groups. Raises TimeoutError where Kafka does not say.

    The question is safe while a coordinator moves: a canary test holds that.
    """
    found = []
    for group, future in admin.describe_consumer_groups(list(groups), request_timeout=timeout).items():
        try:
            described = future.result(timeout + 1)
        except CLIENT_ERRORS as problem:
            raise TimeoutError(sentence(problem)) from None
        for member in described.members:
            owned = frozenset(Partition(p.topic, p.partition) for p in member.assignment.topic_partitions)
            found.append(GroupMember(group, member.client_id, member.host, owned))
    return found
