"""The users that `optout redis-acl` prints: each does its part on a Redis where nobody else may do anything."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import redis

from consumer.domain.buckets import bucket_of, bucket_prefix, meta_key, outbox_key, passes_key, set_key, state_key
from consumer.guard import Guard, Unknown, VerdictKind
from consumer.rights.redis import USERS
from tests.parts.system import System, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.kafka import Kafka
    from tests.parts.redis import MakeRedis

PATIENT, OTHER, HERE = "+12025550143", "+12025550144", "loc-1"
WORKER, GUARD, CONFIRMATIONS, OPERATOR = (user.name for user in USERS)


class Locked:
    """A Redis whose default user may do nothing, with the users as the command prints them."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        printed = optout("redis-acl")
        assert printed.returncode == 0, printed.stderr
        with redis.Redis.from_url(url) as admin:
            for line in printed.stdout.splitlines():
                admin.execute_command(*line.split())
                assert admin.execute_command("ACL", "SETUSER", line.split()[2], "on", f">{line.split()[2]}-password")
            admin.execute_command("ACL", "SETUSER", "root", "on", ">root-password", "~*", "&*", "+@all")
        with redis.Redis.from_url(self.url("root")) as root:
            root.execute_command("ACL", "SETUSER", "default", "off")

    def url(self, user: str) -> str:
        return f"redis://{user}:{user}-password@{self._address}/0"


def optout(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "consumer", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def locked(own_redis: MakeRedis) -> Locked:
    return Locked(own_redis(settings={"maxmemory-policy": "noeviction"}).url)


@pytest.fixture
def system(replicated_kafka: Kafka, locked: Locked, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    with System(replicated_kafka.bootstrap, locked.url(WORKER), topic_prefix, tmp_path) as deployment:
        deployment.create_topics()
        yield deployment


def test_everybody_does_their_part(system: System, locked: Locked) -> None:
    """The worker keeps the sets, guards answer, the sender confirms, the operator looks after it: each as its user."""
    worker = system.start_worker()
    guard_user, operator = {"OPTOUT_REDIS_URL": locked.url(GUARD)}, {"OPTOUT_REDIS_URL": locked.url(OPERATOR)}
    wait_for("ALLOWED", lambda: system.run("check", HERE, PATIENT, **guard_user).returncode == 0)
    assert system.run("simulate", "--no-wait", HERE, PATIENT, "STOP").returncode == 0
    wait_for("SUPPRESSED", lambda: system.run("check", HERE, PATIENT, **guard_user).returncode == 3)

    guard = Guard.from_url(locked.url(GUARD), buckets=system.buckets, timeout=5)
    verdicts = guard.check_each([(HERE, PATIENT), ("loc-2", PATIENT), (HERE, OTHER)], why=True, catch_up=10)
    assert [verdict.kind for verdict in verdicts] == ["SUPPRESSED", "ALLOWED", "ALLOWED"]
    assert verdicts[0].keyword == "STOP"

    wait_for("told", lambda: system.read("confirmations"))
    (asked,) = system.read("confirmations")
    claim = (HERE, PATIENT, asked.record["event_id"])
    assert guard.claim_confirmation(*claim).reason is Unknown.REFUSED
    sender = Guard.from_url(locked.url(CONFIRMATIONS), buckets=system.buckets, timeout=5)
    assert sender.check(HERE, PATIENT, why=True).keyword == "STOP"
    assert sender.check_many(HERE, [OTHER] * 9)[8].kind is VerdictKind.ALLOWED
    assert [sender.claim_confirmation(*claim).kind for _ in range(2)] == ["ALLOWED", "SUPPRESSED"]

    assert "sound" in system.run("check-config", **operator).stdout
    because = ("--reason", "a test of rights", "--by", "tests")
    wait_for("verified", lambda: system.run("verify", **operator).returncode == 0)
    assert system.run("rebuild", *because, "--yes", **operator).returncode == 0
    wait_for("SUPPRESSED again", lambda: system.run("check", HERE, PATIENT, **guard_user).returncode == 3)
    assert system.run("maintenance", "begin", "--for", "5m", *because, **operator).returncode == 0
    assert worker.stop() == 0


@pytest.mark.parametrize("user", [GUARD, CONFIRMATIONS])
def test_a_sender_can_change_nothing(system: System, locked: Locked, user: str) -> None:
    """Nothing that a guard's user sends changes a key, and nothing that the other one sends any but the passes."""
    worker = system.start_worker()
    wait_for("ALLOWED", lambda: system.run("check", HERE, PATIENT).returncode == 0)
    assert system.run("simulate", HERE, PATIENT, "STOP").returncode == 0
    assert worker.stop() == 0
    prefix = bucket_prefix(bucket_of(HERE, system.buckets), system.buckets)
    keys = [of(prefix) for of in (meta_key, outbox_key, passes_key)]
    keys += [of(prefix, HERE) for of in (set_key, state_key)]
    with redis.Redis.from_url(locked.url("root")) as root, redis.Redis.from_url(locked.url(user)) as sender:
        before = [root.dump(key) for key in keys]
        done = [attempt for key in keys for attempt in attempts(key) if _succeeds(sender, attempt)]
        passes = passes_key(prefix)
        assert [key for key, was in zip(keys, before, strict=True) if root.dump(key) != was and key != passes] == []
        assert {attempt[0] for attempt in done} <= ({"ZREM", "EVAL"} if user == CONFIRMATIONS else set())
        for command in ("FLUSHALL", "CONFIG GET *", "KEYS *", "ACL LIST", "SCRIPT FLUSH", "SHUTDOWN NOSAVE", "MONITOR"):
            with pytest.raises(redis.ResponseError, match=r"permission|NOPERM"):
                sender.execute_command(*command.split())


def attempts(key: str) -> list[tuple[Any, ...]]:
    """Return commands that would change a key, alone and out of a script."""
    write: list[tuple[Any, ...]] = [
        ("DEL", key),
        ("UNLINK", key),
        ("SREM", key, PATIENT[1:]),
        ("SADD", key, OTHER[1:]),
        ("HSET", key, "fresh", "9999999999999"),
        ("HDEL", key, "fresh"),
        ("SET", key, "x"),
        ("EXPIRE", key, "1"),
        ("RENAME", key, "x"),
        ("ZADD", key, "1", "x"),
        ("ZREM", key, "x"),
        ("RESTORE", key, "0", "x", "REPLACE"),
    ]
    scripts = [f"return redis.call({', '.join(repr(str(part)) for part in command)})" for command in write]
    return [
        *write,
        *(("EVAL", script, 1, key) for script in scripts if "'ZREM'" not in script),
        *(("EVAL_RO", script, 1, key) for script in scripts),
    ]


def _succeeds(client: redis.Redis, command: tuple[Any, ...]) -> bool:
    try:
        client.execute_command(*command)  # type: ignore[no-untyped-call]
    except redis.ResponseError:
        return False
    return True


def test_one_user_can_be_printed() -> None:
    """A user is printed alone by its name; another name is refused in a sentence that lists them."""
    printed = optout("redis-acl", GUARD)
    assert printed.stdout.splitlines() == [next(user.command for user in USERS if user.name == GUARD)]
    refused = optout("redis-acl", "nobody")
    assert refused.returncode == 2
    assert GUARD in refused.stderr
