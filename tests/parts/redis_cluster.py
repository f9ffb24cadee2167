"""A Redis Cluster of a test's own: three primaries with a replica each, as processes on the loopback interface."""

from __future__ import annotations

import os
import signal
import time
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import TYPE_CHECKING, Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consumer.embedded.redis_server import RedisServer
from tests.parts.kafka import wait_until
from tests.parts.ports import HOST, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SHARDS = 3
SLOTS = 16384
NODE_TIMEOUT_MS = 1500


class RedisCluster(AbstractContextManager["RedisCluster"]):
    """Servers 0 to 2 begin as primaries, 3 to 5 as the replica of the one three below."""

    def __init__(self, executable: Path, folder: Path) -> None:
        ports = free_ports(4 * SHARDS)
        self.servers = [
            RedisServer(
                executable,
                folder / f"node-{number}",
                port=ports[number],
                settings={
                    "cluster-enabled": "yes",
                    "cluster-config-file": "nodes.conf",
                    "cluster-port": str(ports[2 * SHARDS + number]),
                    "cluster-node-timeout": str(NODE_TIMEOUT_MS),
                    "cluster-require-full-coverage": "no",
                    "cluster-replica-validity-factor": "0",
                    "repl-diskless-sync-delay": "0",
                    "repl-ping-replica-period": "1",
                },
            )
            for number in range(2 * SHARDS)
        ]
        self._buses = ports[2 * SHARDS :]
        self._resources = ExitStack()
        self.paused: set[int] = set()

    @property
    def url(self) -> str:
        """The address of one node."""
        return self.servers[0].url

    def url_of(self, *numbers: int) -> str:
        """Return a URL that names these servers."""
        return "redis://" + ",".join(f"{HOST}:{self.servers[number].port}" for number in numbers)

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            for server in self.servers:
                resources.enter_context(server)
            self._join()
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self.paused):
            self.resume(number)
        self._resources.close()

    def call(self, number: int, *command: Any) -> Any:
        """Send one command to one server; answers are strings."""
        with self.client(number) as client:
            return client.execute_command(*command)

    def client(self, number: int) -> redis.Redis:
        """Return a client of one server, which tries once."""
        port = self.servers[number].port
        once = Retry(NoBackoff(), 0)
        return redis.Redis(host=HOST, port=port, socket_timeout=5, retry=once, decode_responses=True)

    def _join(self) -> None:
        for number in range(SHARDS):
            first, last = number * SLOTS // SHARDS, (number + 1) * SLOTS // SHARDS - 1
            self.call(number, "CLUSTER ADDSLOTSRANGE", first, last)
            self.call(number, "CLUSTER SET-CONFIG-EPOCH", number + 1)
        for number in range(1, 2 * SHARDS):
            self.call(0, "CLUSTER MEET", HOST, self.servers[number].port, self._buses[number])
        everyone = range(2 * SHARDS)
        wait_until(lambda: all(self._knows(number) == 2 * SHARDS for number in everyone), "all nodes met", 20)
        for number in range(SHARDS):
            self.call(SHARDS + number, "CLUSTER REPLICATE", self.id(number))
        self.wait_whole()

    def _knows(self, number: int) -> int:
        nodes = self.nodes(number)
        return sum("handshake" not in flags for flags in nodes.values())

    def nodes(self, number: int) -> dict[str, str]:
        """Return the flags of each node that this server knows, by id."""
        lines = self.call(number, "CLUSTER NODES")
        if isinstance(lines, dict):  # redis-py has parsed it
            return {node["node_id"]: node["flags"] for node in lines.values()}
        return {line.split()[0]: line.split()[2] for line in lines.splitlines()}

    def id(self, number: int) -> str:
        """Return a server's id in the cluster."""
        return str(self.call(number, "CLUSTER MYID"))

    def running(self) -> list[int]:
        """Return the numbers of the servers that run."""
        found = []
        for number, server in enumerate(self.servers):
            with suppress(Exception):
                if server.pid and number not in self.paused:
                    found.append(number)
        return found

    def wait_whole(self, seconds: float = 30) -> None:
        """Wait until every server that runs says that all is well, and each replica has its primary's data."""
        wait_until(lambda: all(map(self._well, self.running())), "the Redis Cluster is whole", seconds)

    def _well(self, number: int) -> bool:
        with suppress(redis.RedisError), self.client(number) as client:
            info = client.info("replication")
            synced = info["role"] == "master" or info["master_link_status"] == "up"
            state = self.call(number, "CLUSTER INFO")
            return bool(synced and state["cluster_state"] == "ok")
        return False

    def primary_of(self, slot: int) -> int:
        """Return the number of the server that serves a slot, by what the servers that run say of themselves."""
        for number in self.running():
            with suppress(redis.RedisError), self.client(number) as client:
                if client.info("replication")["role"] == "master" and slot in self.slots(number):
                    return number
        raise AssertionError(f"nobody serves slot {slot}")

    def slots(self, number: int) -> set[int]:
        """Return the slots that a server serves, as it says itself."""
        port = self.servers[number].port
        ranges: Iterable[Any] = self.call(number, "CLUSTER SLOTS")
        served: set[int] = set()
        for first, last, primary, *_ in ranges:
            if primary[1] == port:
                served |= set(range(first, last + 1))
        return served

    def kill(self, number: int) -> None:
        """SIGKILL."""
        self.servers[number].kill()

    def pause(self, number: int) -> None:
        """SIGSTOP: connections stand, nothing answers."""
        os.kill(self.servers[number].pid, signal.SIGSTOP)
        self.paused.add(number)

    def resume(self, number: int) -> None:
        """SIGCONT."""
        self.paused.discard(number)
        with suppress(Exception):
            os.kill(self.servers[number].pid, signal.SIGCONT)

    def cut_off(self, primary: int) -> None:
        """Let a primary's replica hear nothing more: what is written from now on is lost with the primary."""
        self.call(primary, "ACL", "SETUSER", "default", "-psync", "-sync")
        self.call(primary, "CLIENT", "KILL", "TYPE", "replica")

    def field(self, number: int, key: str, name: str) -> str | None:
        """Return a hash's field as this very server has it, be it a replica."""
        with self.client(number) as client, client.pipeline(transaction=False) as pipeline:
            pipeline.readonly()
            pipeline.hget(key, name)
            value: str | None = pipeline.execute()[1]
            return value

    def move_slot(self, slot: int, source: int, target: int, *, pause: float = 0.0) -> Iterator[str]:
        """Move a slot and its keys, one by one, as redis-cli does; yield after each step what it was."""
        ids = {number: self.id(number) for number in (source, target)}
        self.call(target, "CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
        yield "importing"
        self.call(source, "CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
        yield "migrating"
        while keys := self.call(source, "CLUSTER GETKEYSINSLOT", slot, 1):
            for key in keys:
                self.call(source, "MIGRATE", HOST, self.servers[target].port, key, 0, 5000)
                yield key
                time.sleep(pause)
        for number in (target, source):
            self.call(number, "CLUSTER SETSLOT", slot, "NODE", ids[target])
            yield f"given to {target} at {number}"
