"""A primary and a replica of a test's own, and three Sentinels that watch over them."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, suppress
from typing import TYPE_CHECKING, Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consumer.embedded.process import end, spawn
from consumer.embedded.redis_server import RedisServer
from tests.parts.kafka import wait_until
from tests.parts.ports import HOST, free_ports

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

SERVICE = "optout"
DOWN_AFTER_MS = 500
COUNT = 3


class Sentinels(AbstractContextManager["Sentinels"]):
    """Servers 0, the first primary, and 1; the ports of the Sentinels; `password` is the Sentinels' own."""

    def __init__(self, executable: Path, folder: Path, *, password: str = "") -> None:
        ports = free_ports(2 + COUNT)
        settings = {"repl-diskless-sync-delay": "0", "shutdown-timeout": "0", "repl-ping-replica-period": "1"}
        self.servers = [
            RedisServer(executable, folder / f"redis-{number}", port=ports[number], settings=settings)
            for number in range(2)
        ]
        self.ports = ports[2:]
        self.password = password
        self._executable = executable
        self._folder = folder
        self._resources = ExitStack()
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """The address of the Sentinels, as settings have it."""
        return "redis://" + ",".join(f"{HOST}:{port}" for port in self.ports) + "/0"

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            for server in self.servers:
                resources.enter_context(server)
            with self.client(self.servers[1].port) as replica:
                replica.execute_command("REPLICAOF", HOST, self.servers[0].port)
                wait_until(lambda: replica.info("replication").get("master_link_status") == "up", "the replica", 20)
            resources.callback(self._end)
            for number, port in enumerate(self.ports):
                self._start(number, port)
            wait_until(lambda: all(map(self._sees_all, self.ports)), "the Sentinels see each other", 20)
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def client(self, port: int) -> redis.Redis:
        """Return a client of one server, or of one Sentinel, which tries once."""
        password = self.password if port in self.ports else ""
        once = Retry(NoBackoff(), 0)
        return redis.Redis(
            host=HOST, port=port, password=password or None, socket_timeout=2, retry=once, decode_responses=True
        )

    def ask(self, number: int, *command: Any) -> Any:
        """Send a command to one Sentinel."""
        with self.client(self.ports[number]) as client:
            return client.execute_command(*command)

    def fail_over(self) -> None:
        """Have the Sentinels swap the roles, as an operator does."""
        self.ask(0, "SENTINEL", "FAILOVER", SERVICE)

    def primary(self) -> int:
        """Return the number of the server that most Sentinels call the primary."""
        named = []
        for number in range(COUNT):
            with suppress(redis.RedisError):
                named.append(int(self.ask(number, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1]))
        port = max(set(named), key=named.count)
        return [server.port for server in self.servers].index(port)

    def wait_for_primary(self, number: int) -> None:
        """Wait until this server is the primary, and every Sentinel says so."""

        def is_primary() -> bool:
            with suppress(redis.RedisError), self.client(self.servers[number].port) as client:
                said = [self.ask(one, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1] for one in range(COUNT)]
                return client.info("replication")["role"] == "master" and {*map(int, said)} == {client_port}
            return False

        client_port = self.servers[number].port
        wait_until(is_primary, "the new primary", 90)

    def _start(self, number: int, port: int) -> None:
        folder = self._folder / f"sentinel-{number}"
        folder.mkdir(parents=True)
        lines = [
            f"bind {HOST}",
            f"port {port}",
            f"sentinel monitor {SERVICE} {HOST} {self.servers[0].port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 3000",
            *([f"requirepass {self.password}", f"sentinel sentinel-pass {self.password}"] if self.password else []),
        ]
        (folder / "sentinel.conf").write_text("\n".join([*lines, ""]), encoding="utf-8")
        command = [str(self._executable.absolute()), "sentinel.conf", "--sentinel"]
        self.processes.append(spawn(command, folder=folder, output=folder / "sentinel.log"))

    def _end(self) -> None:
        end(self.processes, 5)

    def _sees_all(self, port: int) -> bool:
        with suppress(redis.RedisError), self.client(port) as client:
            state = client.sentinel_master(SERVICE)
            return bool(state["num-other-sentinels"] == COUNT - 1 and state["num-slaves"] == 1)
        return False
