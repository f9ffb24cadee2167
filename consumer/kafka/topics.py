"""The topics: what `schemas/topics.yaml` says of them, creating those that are missing, and looking the ledger over."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import yaml
from confluent_kafka import KafkaError, TopicCollection
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined] # public all the same

from consumer.kafka.errors import CLIENT_ERRORS, Triage, error_of, sentence, triage
from consumer.together import together

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from confluent_kafka.admin import AdminClient, ConfigEntry, TopicDescription  # type: ignore[attr-defined] # public all the same

T = TypeVar("T")

TIMEOUT_S = 15.0
"""How long one call of the admin client may take."""

PROPAGATION_S = 10.0
"""How long a broker may say that it does not know a topic which another one has created."""

LEDGER_REPLICATION = 3
LEDGER_MIN_INSYNC = 2
LIFTED = "unless OPTOUT_UNSAFE_LEDGER=1 says that opt-outs may be lost"
_UNKNOWN_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})  # noqa: SLF001
_REFUSED = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED})
_AS_KAFKA_SPELLS = str.maketrans("+/", "-_")
DAY_MS = 24 * 60 * 60 * 1000


class TopicError(Exception):
    """One sentence for a person: what failed, at which topic, and what to do."""


class NoAnswer(TopicError):
    """Kafka did not answer, or cannot for now: whoever can wait asks again."""


class MayNotAsk(TopicError):
    """This user lacks the right to ask Kafka this: it would be refused again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """One topic as `topics.yaml` states it, under its configured name.

    `role` is what the settings call it; several topics can have the role inbound. `schema` is the record's name, None
    for the dead-letter topic; `schema_id` the id of its current version without a registry. `retention_days` is -1 for
    ever and None for the broker's own setting; `configs` are further topic settings by Kafka's names.
    """

    role: str
    name: str
    schema: str | None
    schema_id: int | None
    key: str
    partitions: int
    replication: int
    retention_days: int | None
    configs: Mapping[str, str]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    privacy: str

    @property
    def is_ledger(self) -> bool:
        """Return whether this is the topic that must lose nothing."""
        return self.role == "keyword_ledger"

    def creation_configs(self, replication: int) -> dict[str, str]:
        """Return the settings to create it with on so many replicas, by Kafka's names."""
        configs = dict(self.configs)
        if self.retention_days is not None:
            configs["retention.ms"] = str(-1 if self.retention_days < 0 else self.retention_days * DAY_MS)
        if "min.insync.replicas" in configs:  # more than there are replicas would refuse every record
            configs["min.insync.replicas"] = str(min(int(configs["min.insync.replicas"]), replication))
        return configs


def load(
    path: Path, names: Mapping[str, str | Sequence[str]] | None = None, partitions: Mapping[str, int] | None = None
) -> list[TopicSpec]:
    """Return the topics of `topics.yaml`, with the configured names and numbers of partitions by role.

    Several names for a role make several topics. Raises TopicError for a role that is not known and for a name that is
    given twice.
    """
    table: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text("utf-8"))
    names, partitions = names or {}, partitions or {}
    if unknown := (names.keys() | partitions.keys()) - table.keys():
        raise TopicError(f"no topic has the role {', '.join(sorted(unknown))}: the roles are {', '.join(table)}")
    specs = [
        _spec(role, entry | {"name": name, "partitions": partitions.get(role, entry["partitions"])})
        for role, entry in table.items()
        for name in _several(names.get(role, entry["name"]))
    ]
    taken: dict[str, str] = {}
    for spec in specs:
        if spec.name in taken:
            raise TopicError(f"the topic {spec.name} is configured twice, as {taken[spec.name]} and as {spec.role}")
        taken[spec.name] = spec.role
    return specs


def create_missing(admin: AdminClient, specs: Sequence[TopicSpec], *, unsafe_ledger: bool) -> list[str]:
    """Create the topics that are missing; return their names once they can be described.

    An existing topic is left as it is, also one that another process creates at the same moment. With fewer brokers
    than replicas the number of replicas is lowered, the ledger's only where `unsafe_ledger` says so.
    Raises TopicError; then some topics may have been created, and the same call can be made again.
    """
    cluster = _asked(lambda: admin.list_topics(timeout=TIMEOUT_S), "list its topics")
    missing = [spec for spec in specs if spec.name not in cluster.topics]
    brokers = len(cluster.brokers)
    for spec in missing:
        if spec.is_ledger and brokers < spec.replication and not unsafe_ledger:
            raise TopicError(
                f"the ledger {spec.name} wants {spec.replication} brokers and the cluster has {brokers}: add brokers,"
                " or set OPTOUT_UNSAFE_LEDGER=1 where losing opt-outs is acceptable"
            )
    if not missing:
        return []
    try:
        futures = admin.create_topics(
            [_new_topic(spec, brokers) for spec in missing], operation_timeout=TIMEOUT_S, request_timeout=TIMEOUT_S
        )
    except CLIENT_ERRORS as problem:
        raise TopicError(f"Kafka could not be asked to create topics: {sentence(problem)}") from None
    created = [name for name, future in futures.items() if _created(name, future)]
    for spec in missing:
        _describe(admin, spec.name)
    return created


def ledger_faults(admin: AdminClient, spec: TopicSpec, *, unsafe_ledger: bool) -> list[str]:
    """Return a sentence on everything that is wrong with the existing ledger; an empty list for a sound one.

    `unsafe_ledger` lifts the checks of replication, not those of retention. Raises TopicError where it cannot be asked.
    """
    description, configs = together(lambda: _describe(admin, spec.name), lambda: topic_configs(admin, spec.name))
    ledger = f"the ledger {spec.name}"
    faults = []
    if len(description.partitions) != spec.partitions:
        faults.append(
            f"{ledger} has {len(description.partitions)} partitions and {spec.partitions} buckets are configured: they"
            " must be the same, and a ledger's partitions are never changed"
        )
    required = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    if not unsafe_ledger:
        required["unclean.leader.election.enable"] = "false"
        replicas = min((len(partition.replicas) for partition in description.partitions), default=0)
        if replicas < LEDGER_REPLICATION:
            faults.append(f"{ledger} has {replicas} replicas: it needs {LEDGER_REPLICATION} or more, {LIFTED}")
        in_sync = configs.get("min.insync.replicas", "")
        if not in_sync.isdigit() or int(in_sync) < LEDGER_MIN_INSYNC:
            faults.append(f"{ledger} has min.insync.replicas={in_sync}: it needs {LEDGER_MIN_INSYNC} or more, {LIFTED}")
    faults += [
        f"{ledger} has {key}={configs.get(key, '')}: it must be {value}, or records can be lost"
        for key, value in required.items()
        if configs.get(key) != value
    ]
    return faults


def topic_id(admin: AdminClient, name: str) -> str:
    """Return Kafka's own id of a topic: a topic created anew under its name has another. Raises TopicError.

    22 characters, spelt as Kafka's tools spell it; the client library uses the other alphabet of base64.
    """
    return str(_describe(admin, name).topic_id).translate(_AS_KAFKA_SPELLS)


def topic_ids(admin: AdminClient, names: Sequence[str], timeout: float = 5.0) -> dict[str, str]:
    """Return the ids of these topics, asked once; see `topic_id`. Raises TopicError, also for one that is not there."""
    try:
        futures = admin.describe_topics(TopicCollection(list(names)), request_timeout=timeout)
    except CLIENT_ERRORS as problem:
        raise _unanswered(problem)(f"Kafka could not be asked for the ids of topics: {sentence(problem)}") from None
    found = {}
    for name, future in futures.items():
        try:
            found[name] = str(future.result(timeout + 1).topic_id).translate(_AS_KAFKA_SPELLS)
        except CLIENT_ERRORS as problem:
            raise _unanswered(problem)(f"Kafka could not be asked for the id of {name}: {sentence(problem)}") from None
        except TimeoutError:
            raise NoAnswer(f"Kafka did not tell the id of {name} within {timeout:.0f} s") from None
    return found


def topic_configs(admin: AdminClient, name: str) -> dict[str, str]:
    """Return a topic's settings in force, the broker's defaults included. Raises TopicError, also MayNotAsk."""
    resource = ConfigResource(ResourceType.TOPIC, name)

    def ask() -> dict[str, ConfigEntry]:
        futures = admin.describe_configs([resource], request_timeout=TIMEOUT_S)
        return cast("dict[str, ConfigEntry]", futures[resource].result())

    entries = _asked(ask, f"describe the settings of the topic {name}")
    return {key: entry.value or "" for key, entry in entries.items()}


def _several(names: str | Sequence[str]) -> Sequence[str]:
    return [names] if isinstance(names, str) else names


def _spec(role: str, entry: dict[str, Any]) -> TopicSpec:
    return TopicSpec(
        role=role, **entry | {"producers": tuple(entry["producers"]), "consumers": tuple(entry["consumers"])}
    )


def _new_topic(spec: TopicSpec, brokers: int) -> NewTopic:
    replication = min(spec.replication, brokers)
    return NewTopic(
        spec.name,
        num_partitions=spec.partitions,
        replication_factor=replication,
        config=spec.creation_configs(replication),
    )


def _created(name: str, future: Future[None]) -> bool:
    try:
        future.result()
    except CLIENT_ERRORS as problem:
        error = error_of(problem)
        if error is not None and error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False  # by another process, a moment ago
        raise TopicError(f"Kafka did not create the topic {name}: {sentence(problem)}") from None
    return True


def _describe(admin: AdminClient, name: str) -> TopicDescription:
    def ask() -> TopicDescription:
        futures = admin.describe_topics(TopicCollection([name]), request_timeout=TIMEOUT_S)
        return cast("TopicDescription", futures[name].result())

    return _asked(ask, f"describe the topic {name}")


def _unanswered(problem: BaseException) -> type[TopicError]:
    """Return what to raise for an error of the client: a topic that is unknown is an answer."""
    error = error_of(problem)
    is_away = triage(problem) is Triage.RETRY and error is not None and error.code() not in _UNKNOWN_TOPIC
    return NoAnswer if is_away else TopicError


def _asked(ask: Callable[[], T], what: str) -> T:
    """Return the cluster's answer. Raises TopicError, for an unknown topic only once it had time to be known."""
    deadline = time.monotonic() + PROPAGATION_S
    while True:
        try:
            return ask()
        except CLIENT_ERRORS as problem:
            error = error_of(problem)
            if error is not None and error.code() in _REFUSED:
                raise MayNotAsk(f"Kafka does not let us {what}: {sentence(problem)}") from None
            if error is None or error.code() not in _UNKNOWN_TOPIC:
                raise _unanswered(problem)(f"Kafka could not be asked to {what}: {sentence(problem)}") from None
            if time.monotonic() > deadline:
                raise TopicError(f"could not {what}, which does not exist: run `optout topics create`") from None
        time.sleep(0.05)
