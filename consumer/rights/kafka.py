"""The users of Kafka, and what each may do there: no more than its part needs.

Who reads and writes which topic stands in `topics.yaml`; what a part needs besides stands here. Whoever may write to
the ledger can opt anybody in, and whoever may write to the topic of skips can have a record passed over that nobody can
read. So workers alone write the one, and operators alone the other. Nobody may change a topic's settings, or delete it.
"""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from consumer import deployment
from consumer.kafka.cluster import NO_GROUP
from consumer.kafka.committed import copy_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from consumer.kafka.topics import TopicSpec
    from consumer.settings import Settings

CLUSTER = "kafka-cluster"
"""What Kafka calls the cluster where it is something that rights are given to."""


class Operation(StrEnum):
    """What may be done, as `kafka-acls.sh` spells it. Who may read or write something may describe it as well."""

    READ = "Read"
    WRITE = "Write"
    CREATE = "Create"
    DESCRIBE = "Describe"
    DESCRIBE_CONFIGS = "DescribeConfigs"


class Kind(StrEnum):
    """What something may be done to, as `kafka-acls.sh` names it."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_ID = "transactional-id"
    CLUSTER = "cluster"


class Right(NamedTuple):
    """One thing that a user may do. `prefixed`: to everything whose name begins so."""

    operation: Operation
    kind: Kind
    name: str
    prefixed: bool = False


class KafkaUser(NamedTuple):
    """A user: its name, who it is for, and which of those that `topics.yaml` names as producers and consumers it is."""

    name: str
    purpose: str
    parts: frozenset[str]

    @property
    def is_worker(self) -> bool:
        """Return whether this is the user of the workers."""
        return "classifier" in self.parts

    @property
    def is_ours(self) -> bool:
        """Return whether this user runs our programs, whose clients follow how the topics are set."""
        return self.is_worker or self.is_operator or "auditors" in self.parts

    @property
    def is_operator(self) -> bool:
        """Return whether this is the user of the operators."""
        return "operators" in self.parts


def _user(name: str, purpose: str, *parts: str) -> KafkaUser:
    return KafkaUser(name, purpose, frozenset(parts))


USERS = (
    _user("optout-worker", "workers", "classifier", "applier", "publisher"),
    _user("optout-upstream", "who writes the texts of patients", "upstream"),
    _user("optout-imports", "who asks for opt-outs made elsewhere", "imports", "provider integrations"),
    _user("optout-guard", "outbound producers and `optout serve`: they ask Redis, and need nothing of ours in Kafka"),
    _user("optout-confirmations", "the sender of confirmations", "confirmation sender"),
    _user("optout-downstream", "who follows the changes", "downstream"),
    _user("optout-reviews", "who shows staff the texts to be read", "staff's inbox"),
    _user("optout-operator", "operators, for every command", "operators"),
    _user("optout-auditor", "auditors, and `optout history`", "auditors"),
)


def rights(settings: Settings, user: KafkaUser) -> list[Right]:
    """Return what a user may do under these settings, in the order of the topics."""
    specs = deployment.topic_specs(settings)
    found = [right for spec in specs for right in _of_topic(settings, user, spec)]
    found += _of_groups(settings, user)
    if user.is_worker and settings.publish == "transactions":
        found.append(Right(Operation.WRITE, Kind.TRANSACTIONAL_ID, settings.transactional_ids, prefixed=True))
    if user.is_operator:  # who may write where: `optout check-config` says it
        found.append(Right(Operation.DESCRIBE, Kind.CLUSTER, CLUSTER))
    return found


def _of_topic(settings: Settings, user: KafkaUser, spec: TopicSpec) -> Iterator[Right]:
    asked_for = spec.role != "confirmation_requested" or settings.confirmations != "provider"
    reads = asked_for and not user.parts.isdisjoint(spec.consumers)
    writes = asked_for and not user.parts.isdisjoint(spec.producers)
    looks = user.is_worker or user.is_operator  # at whether it is there, and how it is set
    wanted = {
        Operation.READ: reads,
        Operation.WRITE: writes,
        Operation.CREATE: user.is_operator,
        Operation.DESCRIBE: looks and not reads and not writes,
        Operation.DESCRIBE_CONFIGS: user.is_operator or (user.is_ours and (reads or writes)),
    }
    for operation in (operation for operation, is_wanted in wanted.items() if is_wanted):
        yield Right(operation, Kind.TOPIC, spec.name)


def _of_groups(settings: Settings, user: KafkaUser) -> Iterator[Right]:
    """Give the rights to groups: to read one is to join it, and to commit to it."""
    if user.is_worker or user.is_operator:  # of these, for `optout offsets set`
        for group in (settings.classifiers, settings.appliers):
            yield Right(Operation.READ, Kind.GROUP, group)
            yield Right(Operation.READ, Kind.GROUP, copy_of(group))
    else:
        readers = {part for spec in deployment.topic_specs(settings) for part in spec.consumers}
        if not user.parts.isdisjoint(readers):  # with groups of its own
            yield Right(Operation.READ, Kind.GROUP, user.name, prefixed=True)
    if user.is_ours:
        yield Right(Operation.DESCRIBE, Kind.GROUP, NO_GROUP)


class Rule(NamedTuple):
    """Rights that one call of `kafka-acls.sh` gives: the same operations on everything of these names."""

    operations: tuple[Operation, ...]
    kind: Kind
    names: tuple[str, ...]
    prefixed: bool


def rules(given: Iterable[Right]) -> list[Rule]:
    """Return the fewest rules that give these rights and no others."""
    operations: dict[tuple[Kind, str, bool], tuple[Operation, ...]] = {}
    for operation, kind, name, prefixed in given:
        thing = kind, name, prefixed
        operations[thing] = (*operations.get(thing, ()), operation)
    names: dict[tuple[tuple[Operation, ...], Kind, bool], tuple[str, ...]] = {}
    for (kind, name, prefixed), allowed in operations.items():
        rule = allowed, kind, prefixed
        names[rule] = (*names.get(rule, ()), name)
    return [Rule(allowed, kind, called, prefixed) for (allowed, kind, prefixed), called in names.items()]


def command(rule: Rule, principal: str) -> str:
    """Return the line of a shell script that gives a principal what a rule says."""
    words = ["--add", "--allow-principal", principal]
    words += [word for operation in rule.operations for word in ("--operation", operation)]
    if rule.prefixed:
        words += ["--resource-pattern-type", "prefixed"]
    if rule.kind is Kind.CLUSTER:
        words.append("--cluster")
    else:
        words += [word for name in rule.names for word in (f"--{rule.kind}", name)]
    return f'${{KAFKA_ACLS:-kafka-acls.sh}} "$@" {shlex.join(words)}'


def principals(given: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return Kafka's name of each user: as it was given, else User: and the name."""
    return {user.name: f"User:{user.name}" for user in USERS} | dict(given)
