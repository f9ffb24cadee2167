"""`topics.yaml` as the code reads it: roles, names of one's own, partitions of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.kafka.topics import TopicError, load
from consumer.wire.schemas import schemas_directory

if TYPE_CHECKING:
    from consumer.kafka.topics import TopicSpec

FILE = schemas_directory() / "topics.yaml"


def by_role(specs: list[TopicSpec]) -> dict[str, TopicSpec]:
    return {spec.role: spec for spec in specs}


def test_there_are_nine_topics() -> None:
    """Each role has one topic by default, and only the dead letters have no schema."""
    specs = load(FILE)
    assert [spec.name for spec in specs] == [
        "sms.inbound",
        "sms.opt-out-requested",
        "sms.keyword-ledger",
        "sms.subscription-changed",
        "sms.confirmation-requested",
        "sms.review-requested",
        "sms.inbound.dead-letter",
        "sms.operator-action",
        "sms.skip",
    ]
    assert [spec.role for spec in specs if spec.schema is None] == ["dead_letter"]


def test_ledger_is_kept_for_ever() -> None:
    """The ledger is asked for with everything that keeps it whole: replicas, no retention, no unclean election."""
    ledger = by_role(load(FILE))["keyword_ledger"]
    assert (ledger.partitions, ledger.replication, ledger.is_ledger) == (64, 3, True)
    assert (
        ledger.creation_configs(ledger.replication).items()
        >= {
            "cleanup.policy": "delete",
            "retention.ms": "-1",
            "retention.bytes": "-1",
            "min.insync.replicas": "2",
            "unclean.leader.election.enable": "false",
            "message.timestamp.type": "LogAppendTime",
        }.items()
    )


def test_names_and_partitions_are_configuration() -> None:
    """Roles keep their settings under other names, several inbound topics are alike, and other roles are untouched."""
    specs = load(
        FILE,
        {"inbound": ["a.texts", "b.texts"], "keyword_ledger": "optout.ledger"},
        {"keyword_ledger": 16},
    )
    inbound = [spec for spec in specs if spec.role == "inbound"]
    assert [(spec.name, spec.schema, spec.partitions) for spec in inbound] == [
        ("a.texts", "InboundMessage", 12),
        ("b.texts", "InboundMessage", 12),
    ]
    assert (by_role(specs)["keyword_ledger"].name, by_role(specs)["keyword_ledger"].partitions) == ("optout.ledger", 16)
    assert by_role(specs)["dead_letter"].name == "sms.inbound.dead-letter"


def test_retention_is_in_days() -> None:
    """Days become Kafka's milliseconds, for ever becomes -1, and upstream's retention is not touched."""
    specs = by_role(load(FILE))
    retention = {role: spec.creation_configs(3).get("retention.ms") for role, spec in specs.items()}
    assert retention == {
        "inbound": None,
        "opt_out_requested": "604800000",
        "keyword_ledger": "-1",
        "subscription_changed": "-1",
        "confirmation_requested": "86400000",
        "review_requested": "2592000000",
        "dead_letter": "2592000000",
        "operator_action": "-1",
        "skip": "-1",
    }


def test_fewer_replicas_ask_for_fewer_in_sync() -> None:
    """A ledger on one broker can be written: it does not ask for more replicas in sync than there are."""
    assert by_role(load(FILE))["keyword_ledger"].creation_configs(1)["min.insync.replicas"] == "1"


def test_unknown_role_is_refused() -> None:
    """A role that does not exist is named, with those that do."""
    with pytest.raises(TopicError, match="no topic has the role ledger: the roles are inbound, "):
        load(FILE, {"ledger": "x"})


def test_name_that_is_given_twice_is_refused() -> None:
    """Two roles cannot share a topic: each would read the other's records as unreadable."""
    with pytest.raises(TopicError, match="the topic x is configured twice, as inbound and as dead_letter"):
        load(FILE, {"inbound": "x", "dead_letter": "x"})
