"""Creating the topics and looking the ledger over, on a real Kafka."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import AdminClient

from consumer.kafka.topics import LIFTED, TopicError, create_missing, ledger_faults, load, topic_configs, topic_id
from consumer.wire.schemas import schemas_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.kafka.topics import TopicSpec
    from tests.parts.kafka import Kafka

pytestmark = pytest.mark.kafka


@pytest.fixture
def admin(replicated_kafka: Kafka) -> AdminClient:
    return AdminClient({"bootstrap.servers": replicated_kafka.bootstrap})


@pytest.fixture
def specs(topic_prefix: str) -> list[TopicSpec]:
    return [replace(spec, name=f"{topic_prefix}{spec.name}") for spec in load(schemas_directory() / "topics.yaml")]


@pytest.fixture
def ledger(specs: list[TopicSpec]) -> TopicSpec:
    return next(spec for spec in specs if spec.is_ledger)


def replicas_by_partition(admin: AdminClient, topic: str) -> dict[int, int]:
    while (found := admin.list_topics(topic, timeout=10).topics[topic]).error:
        time.sleep(0.02)  # a broker that does not know of it yet
    return {number: len(partition.replicas) for number, partition in found.partitions.items()}


def test_everything_is_created_as_stated(admin: AdminClient, specs: list[TopicSpec]) -> None:
    """Every topic is created with its partitions and settings, and the second call finds nothing to do."""
    created = create_missing(admin, specs, unsafe_ledger=True)
    assert sorted(created) == sorted(spec.name for spec in specs)
    brokers = len(admin.list_topics(timeout=10).brokers)
    for spec in specs:
        replicas = min(spec.replication, brokers)
        assert replicas_by_partition(admin, spec.name) == dict.fromkeys(range(spec.partitions), replicas)
        assert topic_configs(admin, spec.name).items() >= spec.creation_configs(replicas).items()
    assert create_missing(admin, specs, unsafe_ledger=True) == []


def test_existing_topic_is_left_alone(admin: AdminClient, specs: list[TopicSpec]) -> None:
    """A topic that is there already, such as upstream's, keeps its partitions and its settings."""
    inbound = specs[0]
    create_missing(admin, [replace(inbound, partitions=3, configs={})], unsafe_ledger=True)
    assert create_missing(admin, [inbound], unsafe_ledger=True) == []
    assert set(replicas_by_partition(admin, inbound.name)) == {0, 1, 2}
    assert topic_configs(admin, inbound.name)["message.timestamp.type"] == "CreateTime"


def test_several_may_create_at_once(replicated_kafka: Kafka, specs: list[TopicSpec]) -> None:
    """Processes that start together all find the topics there, and each topic was created by one of them."""

    def create(_number: int) -> list[str]:
        return create_missing(AdminClient({"bootstrap.servers": replicated_kafka.bootstrap}), specs, unsafe_ledger=True)

    with ThreadPoolExecutor(4) as pool:
        created = [name for names in pool.map(create, range(4)) for name in names]
    assert sorted(created) == sorted(spec.name for spec in specs)


def test_ledger_is_not_created_on_too_few_brokers(admin: AdminClient, specs: list[TopicSpec]) -> None:
    """On fewer brokers than replicas no ledger is created unless that is asked for, nor any other topic before it."""
    brokers = len(admin.list_topics(timeout=10).brokers)
    wanted = [replace(spec, replication=brokers + 1) for spec in specs]
    with pytest.raises(TopicError, match=rf"wants {brokers + 1} brokers and the cluster has {brokers}: add brokers"):
        create_missing(admin, wanted, unsafe_ledger=False)
    assert not admin.list_topics(timeout=10).topics.keys() & {spec.name for spec in specs}


def test_sound_ledger_has_no_faults(admin: AdminClient, ledger: TopicSpec) -> None:
    """A ledger that was created as stated is sound, but for the replicas that its cluster does not have."""
    create_missing(admin, [ledger], unsafe_ledger=True)
    assert ledger_faults(admin, ledger, unsafe_ledger=True) == []
    replicas = min(3, len(admin.list_topics(timeout=10).brokers))
    expected = [] if replicas == 3 else [f"it needs {n} or more, {LIFTED}" for n in (3, 2)][: 1 + (replicas < 2)]
    faults = ledger_faults(admin, ledger, unsafe_ledger=False)
    assert [fault.partition(": ")[2] for fault in faults] == expected


def test_every_fault_of_a_ledger_is_said(admin: AdminClient, ledger: TopicSpec) -> None:
    """Each way in which a ledger can lose records or mix buckets up is a sentence; only few replicas are lifted."""
    settings = {
        "cleanup.policy": "compact",
        "retention.bytes": "1000000",
        "min.insync.replicas": "1",
        "unclean.leader.election.enable": "true",
    }
    poor = replace(ledger, partitions=2, replication=1, retention_days=7, configs=settings)
    create_missing(admin, [poor], unsafe_ledger=True)
    name = f"the ledger {ledger.name}"
    partitions = "2 partitions and 64 buckets are configured: they must be the same, and a ledger's partitions are"
    kept = [
        f"{name} has {partitions} never changed",
        f"{name} has cleanup.policy=compact: it must be delete, or records can be lost",
        f"{name} has retention.ms=604800000: it must be -1, or records can be lost",
        f"{name} has retention.bytes=1000000: it must be -1, or records can be lost",
    ]
    lifted = [
        f"{name} has 1 replicas: it needs 3 or more, {LIFTED}",
        f"{name} has min.insync.replicas=1: it needs 2 or more, {LIFTED}",
        f"{name} has unclean.leader.election.enable=true: it must be false, or records can be lost",
    ]
    assert ledger_faults(admin, ledger, unsafe_ledger=True) == kept
    assert sorted(ledger_faults(admin, ledger, unsafe_ledger=False)) == sorted(kept + lifted)


def test_topic_made_anew_has_another_id(admin: AdminClient, ledger: TopicSpec) -> None:
    """A topic keeps its id for as long as it lives; another one under the same name has another."""
    create_missing(admin, [ledger], unsafe_ledger=True)
    first = topic_id(admin, ledger.name)
    assert re.fullmatch(r"[\w-]{22}", first, re.ASCII)
    assert topic_id(admin, ledger.name) == first
    admin.delete_topics([ledger.name], operation_timeout=15)[ledger.name].result()
    while not create_missing(admin, [ledger], unsafe_ledger=True):
        time.sleep(0.02)  # until every broker knows of the deletion
    while topic_id(admin, ledger.name) == first:
        time.sleep(0.02)  # a broker that does not know of it yet; the test's time limit is the assertion


@pytest.mark.parametrize("ask", [topic_id, topic_configs])
def test_missing_topic_is_said(
    monkeypatch: pytest.MonkeyPatch, admin: AdminClient, topic_prefix: str, ask: Callable[[AdminClient, str], object]
) -> None:
    """A topic that does not exist is named, with the command that creates it."""
    monkeypatch.setattr("consumer.kafka.topics.PROPAGATION_S", 0.1)
    with pytest.raises(TopicError, match=rf"{topic_prefix}nowhere, which does not exist: run `optout topics create`"):
        ask(admin, f"{topic_prefix}nowhere")


def test_refused_topic_is_said(admin: AdminClient, specs: list[TopicSpec]) -> None:
    """What the broker says of a topic that it does not create is passed on, and no traceback."""
    with pytest.raises(TopicError, match=r"did not create the topic .*: INVALID_CONFIG"):
        create_missing(admin, [replace(specs[0], configs={"no.such.setting": "1"})], unsafe_ledger=True)


def test_silent_cluster_is_said(monkeypatch: pytest.MonkeyPatch, specs: list[TopicSpec]) -> None:
    """A cluster that is not there is an error in words, after the time that a call may take."""
    monkeypatch.setattr("consumer.kafka.topics.TIMEOUT_S", 0.5)
    nobody = AdminClient({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    with pytest.raises(TopicError, match="Kafka could not be asked to list its topics"):
        create_missing(nobody, specs, unsafe_ledger=True)
    with pytest.raises(TopicError, match="Kafka could not be asked to describe the topic"):
        topic_id(nobody, "any")
