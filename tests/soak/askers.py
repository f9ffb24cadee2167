"""Every way to ask the guard's question, as a sender has it: each keeps what it asks with, as long as it lives."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
from typing import NamedTuple, Protocol, Self

from consumer.embedded.process import end
from consumer.embedded.redis_server import HOST
from consumer.guard import AsyncGuard, Guard
from tests.parts import available
from tests.parts.javascript_guard import JavaScriptGuard
from tests.parts.ports import free_ports
from tests.parts.system import wait_for

LIMIT_S = 20.0
TIMEOUT_S = 1.0
CATCH_UP_S = 20.0
STATUS = {"ALLOWED": 200, "SUPPRESSED": 403, "UNKNOWN": 503}


class Said(NamedTuple):
    """The kind of a verdict, why it is UNKNOWN, and how old what it stands on was, in s."""

    kind: str
    reason: str
    age: float | None


class Asker(Protocol):
    """Asks for one patient at a time; a context manager."""

    def ask(self, location: str, number: str) -> Said:
        """Return what the guard said."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class Python:
    """The library's guard."""

    def __init__(self, url: str, buckets: int, limit: float | None, catch_up: float | None = None) -> None:
        self._guard = Guard.from_url(url, buckets=buckets, timeout=TIMEOUT_S, max_staleness=limit)
        self._catch_up = catch_up

    def ask(self, location: str, number: str) -> Said:
        verdict = self._guard.check(location, number, catch_up=self._catch_up)
        return Said(str(verdict.kind), str(verdict.reason or ""), verdict.age)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.close()


class Asyncio:
    """The library's guard for asyncio, on a loop of its own, asked for somebody else at the same time."""

    def __init__(self, url: str, buckets: int) -> None:
        self._guard = AsyncGuard.from_url(url, buckets=buckets, timeout=TIMEOUT_S, max_staleness=LIMIT_S)
        self._loop = asyncio.Runner()

    def ask(self, location: str, number: str) -> Said:
        return self._loop.run(self._ask(location, number))

    async def _ask(self, location: str, number: str) -> Said:
        verdict, *_ = await asyncio.gather(
            self._guard.check(location, number), self._guard.check_many(location, [number] * 20)
        )
        return Said(str(verdict.kind), str(verdict.reason or ""), verdict.age)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run(self._guard.aclose())
        self._loop.close()


class JavaScript:
    """The example in JavaScript, which knows the contract alone."""

    def __init__(self, url: str, buckets: int) -> None:
        settings = {
            "optout_buckets": buckets,
            "optout_redis_timeout": TIMEOUT_S,
            "optout_max_staleness": LIMIT_S,
        }
        self._guard = JavaScriptGuard(available.javascript(), url, **settings)

    def ask(self, location: str, number: str) -> Said:
        said = self._guard.answer(json.dumps({"location_id": location, "number": number}))
        age = None if said["fresh"] is None else (said["at"] - said["fresh"]) / 1000
        return Said(said["kind"], said["reason"] or "", age)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.close()


class Http:
    """`optout serve`, asked over one connection that is kept."""

    def __init__(self, url: str, buckets: int) -> None:
        (self._port,) = free_ports(1)
        settings = {
            "OPTOUT_REDIS_URL": url,
            "OPTOUT_BUCKETS": str(buckets),
            "OPTOUT_REDIS_TIMEOUT": str(TIMEOUT_S),
            "OPTOUT_MAX_STALENESS": str(LIMIT_S),
            "OPTOUT_SERVE_LISTEN": str(self._port),
            "OPTOUT_LOG_LEVEL": "error",
        }
        others = {name: value for name, value in os.environ.items() if not name.startswith("OPTOUT_")}
        self._process = subprocess.Popen([sys.executable, "-m", "consumer", "serve"], env=others | settings)
        self._connection = http.client.HTTPConnection(HOST, self._port, timeout=30)

    def ask(self, location: str, number: str) -> Said:
        body = json.dumps({"location_id": location, "number": number})
        self._connection.request("POST", "/v1/verdict", body, {"Content-Type": "application/json"})
        with self._connection.getresponse() as response:
            said = json.loads(response.read())
        assert response.status == STATUS[said["verdict"]], response.status
        return Said(said["verdict"], said["reason"] or "", said["age"])

    def __enter__(self) -> Self:
        wait_for("it listens", self._listens)
        return self

    def _listens(self) -> bool:
        try:
            socket.create_connection((HOST, self._port), 1).close()
        except OSError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        end([self._process], 10.0)


class Fresh:
    """A sender that connects anew for each question."""

    def __init__(self, url: str, buckets: int) -> None:
        self._url, self._buckets = url, buckets

    def ask(self, location: str, number: str) -> Said:
        with Python(self._url, self._buckets, LIMIT_S) as asker:
            return asker.ask(location, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


CATCH_UP = "catch up"
"""The guard whose answers wait for what Kafka held: it is UNKNOWN where only workers are away, too."""
