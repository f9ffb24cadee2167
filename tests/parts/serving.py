"""`optout serve` as a process of its own, and a client that can be as rude as it likes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

BEGUN_WITHIN_S = 30.0
COMMAND = [sys.executable, "-m", "consumer", "serve"]
PATCHED = """
{patch}
import sys
from consumer.__main__ import main
sys.argv[1:] = ["serve"]
main()
"""
"""The same, with some of its figures changed, or with something broken."""
IMPATIENT = """
from consumer.serve import connection, door, questions
connection.HEAD_WITHIN_S, connection.ANSWERED_WITHIN_S, connection.READ_WITHIN_S = 0.5, 3.0, 0.5
connection.GIVES_WAY_AFTER_S = 0.3
connection.MOST_CONNECTIONS, door.MOST_AT_ONCE, questions.BODY_WITHIN_S = 20, 5, 0.5
"""
"""No time to lose, and room for few."""


@dataclass
class Answered:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def environment(redis_url: str, **settings: str) -> dict[str, str]:
    """Return an environment with these settings and no others."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("OPTOUT_")}
    return {**others, "OPTOUT_REDIS_URL": redis_url, "OPTOUT_SERVE_LISTEN": "127.0.0.1:0", **settings}


@dataclass
class Serving:
    """One process. `settings` are OPTOUT_* variables; it listens on a free port of the loopback interface."""

    redis_url: str
    log_file: Path
    settings: dict[str, str] = field(default_factory=dict)
    patch: str = ""
    port: int = 0

    def __enter__(self) -> Self:
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PATCHED.format(patch=self.patch)] if self.patch else COMMAND,
                env=environment(self.redis_url, **self.settings),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        until = time.monotonic() + BEGUN_WITHIN_S
        while not (answering := [line for line in self.log() if line["event"] == "answering"]):
            assert self.process.poll() is None, self.log_file.read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        self.port = answering[0]["port"]
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of its log. Whatever else it says fails the test."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.terminate()
        return self.process.wait(20)

    def ask(
        self, path: str, body: object = None, *, headers: dict[str, str] | None = None, method: str = ""
    ) -> Answered:
        """Ask, with a body as it is or as JSON."""
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            named = {"Content-Type": "application/json"} if sent is not None else {}
            connection.request(method or ("GET" if sent is None else "POST"), path, sent, {**named, **(headers or {})})
            answer = connection.getresponse()
            return Answered(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """Return a bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


def read_all(connection: socket.socket) -> bytes:
    """Return all that comes until the other side ends the connection."""
    read = b""
    while True:
        try:
            some = connection.recv(65536)
        except ConnectionResetError:
            return read
        if not some:
            return read
        read += some
