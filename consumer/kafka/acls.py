"""Who may write to a topic, as the cluster's rules have it. What brokers do where there is no rule is not asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka.admin import (  # type: ignore[attr-defined] # public all the same
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from consumer.kafka.errors import CLIENT_ERRORS, sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from confluent_kafka.admin import AclBinding, AdminClient  # type: ignore[attr-defined]

ASKED_WITHIN = 10.0
_WRITING = (AclOperation.WRITE,)
_HARMING = (AclOperation.DELETE, AclOperation.ALTER, AclOperation.ALTER_CONFIGS)
"""Deleting a topic or its records, giving it other partitions, or keeping it for less long."""


class RightsUnknown(Exception):
    """Nobody may ask who has which rights, or nobody answers. Why, in a few words."""


class Holders(NamedTuple):
    """Whom the rules that name a topic let write to it, and whom they let take records away from it."""

    write: frozenset[str]
    harm: frozenset[str]


def holders(admin: AdminClient, topic: str) -> Holders | None:
    """Return who has which rights to a topic; None where no rule names it. Raises RightsUnknown."""
    anybody: Any = None  # which the client's stub does not know
    wanted = AclBindingFilter(
        *(ResourceType.TOPIC, topic, ResourcePatternType.MATCH, anybody, anybody),
        *(AclOperation.ANY, AclPermissionType.ANY),
    )
    try:
        # The client keeps a refusal to itself, and says that there are no rules: so what we may ask is asked first.
        cluster = admin.describe_cluster(include_authorized_operations=True, request_timeout=ASKED_WITHIN)
        if AclOperation.DESCRIBE not in (cluster.result(ASKED_WITHIN + 1).authorized_operations or ()):
            raise RightsUnknown(
                "this user may not ask (Describe on the cluster, which `optout kafka-acl` gives operators)"
            )
        rules = admin.describe_acls(wanted, request_timeout=ASKED_WITHIN).result(ASKED_WITHIN + 1)
    except CLIENT_ERRORS as problem:
        raise RightsUnknown(sentence(problem)) from None
    except TimeoutError:
        raise RightsUnknown("Kafka did not answer in time") from None
    return Holders(_held(rules, _WRITING), _held(rules, _HARMING)) if rules else None


def _held(rules: Sequence[AclBinding], operations: Sequence[AclOperation]) -> frozenset[str]:
    """Return whom rules allow one of these operations, from wherever they come."""
    return frozenset(
        rule.principal for rule in rules for operation in operations if _may(rules, rule.principal, operation)
    )


def _may(rules: Iterable[AclBinding], principal: str, operation: AclOperation) -> bool:
    """Return whether rules allow it. One that denies it everywhere wins; one that denies it to some hosts does not."""
    theirs = [one for one in rules if one.principal == principal and one.operation in {operation, AclOperation.ALL}]
    kinds = {one.permission_type for one in theirs if one.permission_type is AclPermissionType.ALLOW or one.host == "*"}
    return kinds == {AclPermissionType.ALLOW}
