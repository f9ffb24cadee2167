"""The rights that `optout kafka-acl` prints: each user does its part on a Kafka that allows nothing else to anybody."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # public all the same
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

from consumer.domain.events import OptOutRequested, Source
from consumer.rights.kafka import USERS
from tests.parts import available
from tests.parts.locked_kafka import LockedKafka
from tests.parts.system import System, inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

HERE, PATIENT, OTHER, THIRD = "loc-1", "+12025550143", "+12025550144", "+12025550145"
WORKER, UPSTREAM, IMPORTS, GUARD, CONFIRMATIONS, DOWNSTREAM, REVIEWS, OPERATOR, AUDITOR = (one.name for one in USERS)
ROLES = ("inbound", "ledger", "changed", "confirmations", "reviews", "dead", "requests", "actions", "skips")
WRITES = {
    WORKER: {"ledger", "changed", "confirmations", "reviews", "dead"},
    UPSTREAM: {"inbound"},
    IMPORTS: {"requests"},
    OPERATOR: {"inbound", "requests", "actions", "skips"},
}
READS = {
    WORKER: {"inbound", "requests", "ledger", "skips"},
    CONFIRMATIONS: {"confirmations"},
    DOWNSTREAM: {"changed"},
    REVIEWS: {"reviews"},
    OPERATOR: {"inbound", "requests", "ledger", "dead", "actions", "skips"},
    AUDITOR: {"ledger", "actions", "skips"},
}
MOVES_WORKERS = {WORKER, OPERATOR}
"""Who may commit to the groups of the workers, and to their copies: operators, for `optout offsets set`."""
REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError._NOENT,  # records of a topic that one may not even see
}
WITHIN = 15.0
SILENT = logging.getLogger("tests.e2e.test_kafka_rights")
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False


@pytest.fixture(scope="module")
def locked_kafka() -> Iterator[LockedKafka]:
    """A broker of our own that refuses what no rule allows, with the users of `optout kafka-acl`."""
    with LockedKafka(available.kafka_parts().installation, [user.name for user in USERS]) as broker:
        yield broker


def as_user(kafka: LockedKafka, user: str) -> dict[str, str]:
    """Return the settings with which a command is this user."""
    return {f"OPTOUT_KAFKA_{name.upper().replace('.', '_')}": value for name, value in kafka.login(user).items()}


def give(admin: AdminClient, rights: Sequence[Mapping[str, str]]) -> None:
    """Give rights as `--json` prints them."""
    bindings = [
        AclBinding(
            # What Kafka calls the cluster, the client calls a broker.
            ResourceType[{"CLUSTER": "BROKER"}.get(right["resource_type"], right["resource_type"])],
            right["resource_name"],
            ResourcePatternType[right["pattern_type"]],
            right["principal"],
            right["host"],
            AclOperation[right["operation"]],
            AclPermissionType[right["permission"]],
        )
        for right in rights
    ]
    for done in admin.create_acls(bindings).values():
        done.result(WITHIN)


@pytest.fixture
def system(locked_kafka: LockedKafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """A deployment whose topics an operator has created, with no right but the printed ones; workers are WORKER."""
    with System(locked_kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=2) as deployment:
        printed = deployment.run("kafka-acl", "--json")
        assert printed.returncode == 0, printed.stderr
        give(deployment.admin, [json.loads(line) for line in printed.stdout.splitlines()])
        created = deployment.run("topics", "create", **as_user(locked_kafka, OPERATOR))
        assert created.returncode == 0, created.stderr
        deployment.environment |= as_user(locked_kafka, WORKER)
        yield deployment


def write(kafka: LockedKafka, user: str, topic: str, *values: bytes) -> set[int]:
    """Write as this user, and return the errors."""
    errors: set[int] = set()

    def delivered(error: KafkaError | None, _message: Any) -> None:
        if error is not None:
            errors.add(error.code())

    producer = Producer({**kafka.login(user), "message.timeout.ms": int(WITHIN * 1000), "log_level": 0})
    for value in values:
        producer.produce(topic, value, on_delivery=delivered)
    assert producer.flush(WITHIN + 5) == 0
    return errors


def read(kafka: LockedKafka, user: str, topic: str) -> list[bytes]:
    """Read a topic as this user, in a group of its own. Raises KafkaException for a refusal."""
    consumer = Consumer(
        {**kafka.login(user), "group.id": f"{user}-{os.urandom(4).hex()}", "auto.offset.reset": "earliest"}
    )
    found: list[bytes] = []
    try:
        consumer.subscribe([topic])
        while (message := consumer.poll(WITHIN if not found else 1.0)) is not None:
            if message.error():
                raise KafkaException(message.error())
            found.append(message.value() or b"")
        consumer.commit(asynchronous=False)
    finally:
        consumer.close()
    return found


def test_everybody_does_their_part(locked_kafka: LockedKafka, system: System) -> None:
    """With the printed rights alone texts come in, are in force, told and confirmed, and operators look after it."""
    operator, auditor = as_user(locked_kafka, OPERATOR), as_user(locked_kafka, AUDITOR)
    worker = system.start_worker()
    texts = [inbound(HERE, PATIENT, "STOP"), inbound(HERE, PATIENT, "Stop."), inbound("", OTHER, "STOP")]
    assert write(locked_kafka, UPSTREAM, system.topics["inbound"], *map(system.text, texts)) == set()
    request = OptOutRequested(
        request_id="r",
        location_id=HERE,
        patient_number=THIRD,
        source=Source.IMPORT,
        occurred_at=texts[0]["received_at"],
    )
    assert write(locked_kafka, IMPORTS, system.topics["requests"], system.codec.encode(request)) == set()
    wait_for("opted out", lambda: system.members() == {(HERE, PATIENT), (HERE, THIRD)})
    wait_for("told", system.settled)
    assert len(read(locked_kafka, DOWNSTREAM, system.topics["changed"])) == 2
    assert len(read(locked_kafka, CONFIRMATIONS, system.topics["confirmations"])) == 1
    assert len(read(locked_kafka, REVIEWS, system.topics["reviews"])) == 1
    copies = system.committed("apply.kept", "ledger"), system.committed("classify.kept", "inbound")
    assert copies == (system.committed("apply", "ledger"), system.committed("classify", "inbound"))

    because = ("--reason", "a test of rights", "--by", "tests")
    commands = (
        ("check-config",),
        ("verify", "--origins"),
        ("skip", "--list"),
        ("dead-letters", "replay", "--all", "--yes"),
        ("maintenance", "begin", "--for", "5m", *because),
        ("maintenance", "status"),
    )
    with ThreadPoolExecutor(2) as pool:
        for command, done in zip(
            commands, pool.map(lambda words: system.run(*words, **operator), commands), strict=True
        ):
            assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert "STOP" in system.run("history", HERE, PATIENT, **auditor).stdout
    assert system.run("rebuild", "--yes", *because, **operator).returncode == 0
    assert "AUTHORIZATION" not in worker.log_file.read_text()
    assert worker.stop() == 0
    set_back = ("offsets", "set", "classify", "--to", f"{system.topics['inbound']}:0:0", "--yes", *because)
    assert system.run(*set_back, **operator).returncode == 0


def take_away(admin: AdminClient, kind: ResourceType, name: str, operation: AclOperation) -> None:
    """Take a right from the workers."""
    rule = AclBindingFilter(
        *(kind, name, ResourcePatternType.LITERAL, f"User:{WORKER}", "*"),
        *(operation, AclPermissionType.ALLOW),
    )
    for done in admin.delete_acls([rule]).values():
        assert len(done.result(WITHIN)) == 1


def test_rights_of_the_version_before(locked_kafka: LockedKafka, system: System) -> None:
    """A worker that may not read how inbound is set goes on; one without its group's copy ends and names that group."""
    take_away(system.admin, ResourceType.TOPIC, system.topics["inbound"], AclOperation.DESCRIBE_CONFIGS)
    worker = system.start_worker()
    assert write(locked_kafka, UPSTREAM, system.topics["inbound"], system.text(inbound(HERE, PATIENT, "STOP"))) == set()
    wait_for("opted out", lambda: system.members() == {(HERE, PATIENT)})
    assert worker.stop() == 0
    assert "the client's own limits hold" in worker.log_file.read_text()
    copy = f"{system.group}.classify.kept"
    take_away(system.admin, ResourceType.GROUP, copy, AclOperation.READ)
    refused_one = system.start_worker()
    wait_for("the worker has ended", lambda: refused_one.process.poll() is not None)
    assert any(f"{copy}: " in said and "may this user read that group?" in said for said in refused_one.events())


def test_a_right_that_is_taken_from_a_worker_that_runs(locked_kafka: LockedKafka, system: System) -> None:
    """A worker that may not write to the reviews any more goes on with opt-outs, and writes the review once it may."""
    worker, reviews = system.start_worker(), system.topics["reviews"]
    first = [inbound(HERE, PATIENT, "Stop."), inbound(HERE, PATIENT, "STOP")]
    assert write(locked_kafka, UPSTREAM, system.topics["inbound"], *map(system.text, first)) == set()
    wait_for("opted out", lambda: system.members() == {(HERE, PATIENT)})
    take_away(system.admin, ResourceType.TOPIC, reviews, AclOperation.WRITE)
    second = [inbound(HERE, OTHER, "Stop."), inbound(HERE, OTHER, "STOP")]
    assert write(locked_kafka, UPSTREAM, system.topics["inbound"], *map(system.text, second)) == set()
    wait_for("opted out", lambda: (HERE, OTHER) in system.members())
    wait_for(
        "it says why", lambda: f"what is for {reviews} waits, for this user may not" in worker.log_file.read_text()
    )
    assert worker.process.poll() is None
    give(system.admin, [json.loads(line) for line in system.run("kafka-acl", "--json").stdout.splitlines()])
    wait_for("all is read and told", system.settled, 60)
    assert len(read(locked_kafka, REVIEWS, reviews)) == len(first)
    assert worker.stop() == 0


def test_nobody_does_what_is_not_theirs(locked_kafka: LockedKafka, system: System) -> None:
    """Each user writes, reads and commits what the table says and nothing else; nobody deletes or changes a topic."""
    names = {system.topics[role]: role for role in ROLES}
    ledger = system.topics["ledger"]
    groups = {
        f"{system.group}.{stage}{kept}": system.topics[role]
        for stage, role in (("classify", "inbound"), ("apply", "ledger"))
        for kept in ("", ".kept")
    }
    system.commit("classify", "inbound", {0: 0})  # Kafka makes the topic of its groups first; admins do not wait for it
    ours = f"optout-{system.group}-x"
    users = [user.name for user in USERS]
    with ThreadPoolExecutor(2 * len(USERS)) as pool:  # a refusal takes its client seconds in which it only waits

        def found(what: Callable[[str], object]) -> dict[str, Future[object]]:
            return {user: pool.submit(what, user) for user in users}

        transacting = found(lambda user: transacts(locked_kafka, user, ours))
        elsewhere = found(lambda user: transacts(locked_kafka, user, f"optout-of-somebody-else-{user}"))
        written = found(lambda user: {names[topic] for topic in writable(locked_kafka, user, names)})
        was_read = found(lambda user: {names[topic] for topic in readable(locked_kafka, user, names)})
        moved = found(lambda user: {g for g, topic in groups.items() if moves(locked_kafka, user, g, topic)})
        harmed = found(lambda user: harms(locked_kafka, user, ledger))
    for user in users:
        assert written[user].result() == WRITES.get(user, set()), user
        assert was_read[user].result() == READS.get(user, set()), user
        assert moved[user].result() == (groups.keys() if user in MOVES_WORKERS else set()), user
        assert transacting[user].result() is (user == WORKER), user
        assert not elsewhere[user].result(), user
        assert harmed[user].result() == set(), user


def refused(problem: BaseException | KafkaError) -> bool:
    """Whether it failed for want of a right; what failed for another reason proves nothing."""
    error = problem if isinstance(problem, KafkaError) else problem.args[0]
    assert error.code() in REFUSED, error
    return True


def writable(kafka: LockedKafka, user: str, topics: Mapping[str, str]) -> set[str]:
    """Return the topics that take a record of this user."""
    taken: set[str] = set()

    def delivered(error: KafkaError | None, message: Any) -> None:
        if error is None or not refused(error):
            taken.add(message.topic())

    # Not idempotent: who may write nowhere is refused that as a whole, and no topic is answered for.
    producer = Producer({**kafka.login(user), "log_level": 0, "linger.ms": 0})
    for topic in topics:
        producer.produce(topic, b"x", on_delivery=delivered)
    assert producer.flush(WITHIN) == 0
    return taken


def readable(kafka: LockedKafka, user: str, topics: Mapping[str, str]) -> set[str]:
    """Return the topics whose records this user is given."""
    settings = {"group.id": f"{user}-x", "enable.partition.eof": True, "enable.auto.commit": False, "log_level": 0}
    consumer = Consumer({**kafka.login(user), **settings})
    seen = {topic: consumer.list_topics(topic, timeout=WITHIN).topics[topic].error for topic in topics}
    answers = {topic: not refused(error) for topic, error in seen.items() if error is not None}
    consumer.assign([TopicPartition(topic, 0, 0) for topic in topics if topic not in answers])
    deadline = time.monotonic() + WITHIN
    while answers.keys() != topics.keys():
        assert time.monotonic() < deadline, f"{user} hears nothing of {topics.keys() - answers.keys()}"
        for message in consumer.consume(100, 0.1):
            note(answers, message)
    consumer.close()
    return {topic for topic, given in answers.items() if given}


def note(answers: dict[str, bool], message: Any) -> None:
    """Note what Kafka said of a topic: a record, its end, or a refusal."""
    error = message.error()
    if message.topic() and (error is None or error.code() == KafkaError._PARTITION_EOF or refused(error)):
        answers[message.topic()] = answers.get(message.topic(), False) or error is None or error.code() not in REFUSED


def moves(kafka: LockedKafka, user: str, group: str, topic: str) -> bool:
    """Whether this user can commit to a group."""
    admin = AdminClient({**kafka.login(user), "log_level": 0})
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 0)])
    problem = admin.alter_consumer_group_offsets([asked])[group].exception(WITHIN)
    return problem is None or not refused(problem)


def transacts(kafka: LockedKafka, user: str, name: str) -> bool:
    """Whether this user can have transactions under an id."""
    producer = Producer({**kafka.login(user), "transactional.id": name}, logger=SILENT)
    try:
        producer.init_transactions(WITHIN)
    except KafkaException as problem:
        return not refused(problem)
    return True


def harms(kafka: LockedKafka, user: str, topic: str) -> set[str]:
    """Return what this user can do to a topic as a whole."""
    admin = AdminClient({**kafka.login(user), "log_level": 0})
    less = ConfigEntry("retention.ms", "1", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[less])
    rule = AclBinding(
        *(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, f"User:{user}", "*"),
        *(AclOperation.ALL, AclPermissionType.ALLOW),
    )
    place = TopicPartition(topic, 0, 0)
    tried = {
        "delete": admin.delete_topics([topic])[topic],
        "shorten": admin.delete_records([place])[place],
        "set": admin.incremental_alter_configs([resource])[resource],
        "give itself rights": admin.create_acls([rule])[rule],
    }
    return {what for what, done in tried.items() if not (problem := done.exception(WITHIN)) or not refused(problem)}


def test_who_may_write_is_said(locked_kafka: LockedKafka, system: System) -> None:
    """`check-config` names who may write where records decide; who may not ask is told that, and it refuses nothing."""
    ledger, skips = system.topics["ledger"], system.topics["skips"]
    everybody = AclBinding(
        *(ResourceType.TOPIC, system.prefix, ResourcePatternType.PREFIXED, "User:*", "*"),
        *(AclOperation.ALL, AclPermissionType.ALLOW),
    )
    asked = system.run("check-config", **as_user(locked_kafka, OPERATOR))
    assert f"{ledger} may be written by User:{WORKER}, and by Kafka's super users" in asked.stderr
    assert f"{skips} may be written by User:{OPERATOR}, and by Kafka's super users" in asked.stderr
    assert "shortened" not in asked.stderr
    for done in system.admin.create_acls([everybody]).values():
        done.result(WITHIN)
    open_to_all = system.run("check-config", **as_user(locked_kafka, OPERATOR))
    assert f"{ledger} may be written by everybody, User:{WORKER}, and" in open_to_all.stderr
    assert "deleted, shortened or changed by everybody" in open_to_all.stderr
    unasked = system.run("check-config")
    assert f"who may write to {ledger} and {skips} is not known: this user may not ask" in unasked.stderr
    assert [done.returncode for done in (asked, open_to_all, unasked)] == [0, 0, 0]


def optout(*arguments: str) -> str:
    """Return what a command prints under the default settings."""
    return subprocess.run(
        [sys.executable, "-m", "consumer", *arguments], capture_output=True, text=True, check=True
    ).stdout


def test_what_is_printed_is_what_the_tool_takes(tmp_path: Path) -> None:
    """Piped into a shell, the tool is called with the rights that `--json` lists, whatever a principal is called."""
    tool = tmp_path / "tool.py"
    tool.write_text("import json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    principal = ("--principal", f'{UPSTREAM}=User:CN=o\'hara,OU=$HOME "x"')
    shell = subprocess.run(
        ["sh", "-s", "--", "--bootstrap-server", "kafka-1:9092"],
        input=optout("kafka-acl", *principal),
        env={**os.environ, "KAFKA_ACLS": f"{sys.executable} {tool}"},
        capture_output=True,
        text=True,
        check=True,
    )
    calls = [json.loads(line) for line in shell.stdout.splitlines()]
    rights = [json.loads(line) for line in optout("kafka-acl", "--json", *principal).splitlines()]
    assert sorted(right for call in calls for right in given_by(call)) == sorted(
        tuple(right[key] for key in ("principal", "operation", "resource_type", "resource_name", "pattern_type"))
        for right in rights
    )


def given_by(call: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Give the rights that the tool would give, as its documentation has it."""
    assert call[:4] == ["--bootstrap-server", "kafka-1:9092", "--add", "--allow-principal"]
    principal, *words = call[4:]
    pattern, operations, resources = "LITERAL", [], []
    while words:
        option = words.pop(0)
        if option == "--cluster":
            resources.append(("CLUSTER", "kafka-cluster"))
        elif option == "--operation":
            operations.append({"DescribeConfigs": "DESCRIBE_CONFIGS"}.get(words[0], words[0].upper()))
            words.pop(0)
        elif option == "--resource-pattern-type":
            pattern = words.pop(0).upper()
        else:
            resources.append((option.removeprefix("--").upper().replace("-", "_"), words.pop(0)))
    for kind, name in resources:
        yield from ((principal, operation, kind, name, pattern) for operation in operations)
