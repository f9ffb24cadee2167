"""The Redis that workers and guards know by one address, and the servers that stand behind it one after another."""

from __future__ import annotations

import os
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any, Self

import redis

from consumer.embedded.redis_server import HOST, RedisServer
from tests.parts.system import wait_for
from tests.soak.forwarder import Forwarder

if TYPE_CHECKING:
    from pathlib import Path

LINK_SECONDS = 30.0
NEARLY = 2_000
"""Bytes by which a replica that follows may be behind."""


class Ground:
    """A server of our own, a forwarder in front of it, and copies of its folder from earlier."""

    def __init__(self, executable: Path, folder: Path) -> None:
        self._executable = executable
        self._folder = folder
        self._made = 0
        self.server = self._new()
        self._copies: list[Path] = []
        self._isolated: list[RedisServer] = []

    def __enter__(self) -> Self:
        self.server.start()
        self.front = Forwarder(self.server.port)
        self.front.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.front.__exit__()
        for server in (self.server, *self._isolated):
            server.kill()

    @property
    def url(self) -> str:
        """The one address that never changes."""
        return f"redis://{HOST}:{self.front.port}/0"

    def client(self) -> redis.Redis:
        """Return a client of the server itself, which no fault of the network reaches."""
        return redis.Redis.from_url(self.server.url, socket_timeout=10)

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self.server.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.server.pid, signal.SIGCONT)

    def copy(self) -> None:
        """Copy the server's folder while it runs, as a backup would."""
        with self.client() as client:  # while the file is rewritten, its parts do not fit together
            wait_for("the append-only file is whole", lambda: not client.info("persistence")["aof_rewrite_in_progress"])
        to = self._folder / f"copy-{len(self._copies)}"
        shutil.copytree(self.server.folder / "appendonlydir", to / "appendonlydir")
        self._copies.append(to)

    def truncate(self) -> int:
        """Cut the end off the append-only file of a server that is down; return how many bytes."""
        files = (self.server.folder / "appendonlydir").glob("*.incr.aof")
        newest = max(files, key=lambda file: int(file.name.split(".")[-3]))
        size = newest.stat().st_size
        lost = min(size, max(2_000, size // 20))
        with newest.open("r+b") as file:
            file.truncate(size - lost)
        return lost

    def restore(self) -> float:
        """Put a server with the oldest of the last three copies in this one's place; return the copy's age in s."""
        copy = self._copies[-3:][0]
        self.server.kill()
        older = self._new()
        shutil.copytree(copy, older.folder)
        older.start()
        self._put(older)
        return time.time() - copy.stat().st_mtime

    def fail_over(self, seconds: float, *, isolate: bool) -> int:
        """Promote a replica that was cut off for so long; return how many bytes it lacks.

        `isolate` leaves the old primary running, and nobody asks it any more.
        """
        replica = self._new()
        replica.start()
        with Forwarder(self.server.port) as link, self.client() as old, redis.Redis.from_url(replica.url) as new:
            new.replicaof(HOST, str(link.port))
            wait_for("the replica follows", lambda: _follows(old, new), LINK_SECONDS)
            link.hold()
            time.sleep(seconds)
            lacking = int(_info(old)["master_repl_offset"]) - int(_info(new)["slave_repl_offset"])
            if not isolate:
                self.server.kill()
            new.replicaof("NO", "ONE")
        if isolate:
            self._isolated.append(self.server)
        self._put(replica)
        return lacking

    def _put(self, server: RedisServer) -> None:
        self.server = server
        self.front.cut(server.port)

    def _new(self) -> RedisServer:
        self._made += 1
        return RedisServer(self._executable, self._folder / f"redis-{self._made}")


def _info(client: redis.Redis) -> dict[str, Any]:
    found: Any = client.info("replication")
    return dict(found)


def _follows(old: redis.Redis, new: redis.Redis) -> bool:
    mine = _info(new)
    behind: int = _info(old)["master_repl_offset"] - mine.get("slave_repl_offset", -1)
    return mine["master_link_status"] == "up" and behind < NEARLY
