"""Who may ask, what is answered when an answer fails, and what is counted: around everything else."""

from __future__ import annotations

import asyncio
import hmac
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

from consumer.ops.unforeseen import unexpected
from consumer.serve.problems import CLOSE, Refused, failed, problem

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from consumer.ops.complaints import Complaints
    from consumer.serve.metrics import Metrics

MOST_AT_ONCE = 200
"""Requests that are answered at the same time: each may hold a body of a mebibyte."""


class Door:
    """Lets in who may ask, one of so many at a time; no answer of it, nor of what is behind it, is kept by a cache.

    With a token it asks for that. Without one it listens on this machine alone, and answers who calls it by a name of
    this machine: a page in a browser, which can have its own name lead here, calls it by that.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        paths: Collection[str],
        open_paths: Collection[str],
        metrics: Metrics,
        complaints: Complaints,
    ) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._paths = paths
        self._open = open_paths
        self._metrics = metrics
        self._complaints = complaints
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0
        ends = [(b"connection", b"close")] if _values(scope, b"expect") else []  # its body may or may not follow

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"cache-control", b"no-store"), *ends]
            await send(message)

        self._inside += 1
        self._metrics.being_answered.set(self._inside)
        try:
            refused = await self._answered(scope, receive, watched)
            if refused is not None and not status:
                await problem(refused)(scope, receive, watched)
        finally:
            self._inside -= 1
            self._metrics.being_answered.set(self._inside)
            route = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.requests.labels(route, str(status or "none")).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - began)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> Refused | None:
        """Have it answered; return why it is not."""
        try:
            self._let_in(scope)
            await self._app(scope, receive, send)
        except Refused as refused:
            return refused
        except asyncio.CancelledError:
            return Refused(503, "this process ends: ask again", headers=CLOSE)
        except Exception as fault:  # noqa: BLE001 - whatever it is, it is no answer, and a traceback could quote a patient
            self._complaints.say(unexpected(fault))
            return failed()
        return None

    def _let_in(self, scope: Scope) -> None:
        """Raise Refused for who may not ask, and where too many do."""
        if _values(scope, b"content-length") and _values(scope, b"transfer-encoding"):
            # A proxy may count by the one, and we by the other: what it takes for a body would be a request.
            raise Refused(400, "Content-Length and Transfer-Encoding cannot both be there", headers=CLOSE)
        if scope["path"] in self._open:
            return
        if self._inside > MOST_AT_ONCE:
            raise Refused(503, f"{MOST_AT_ONCE} requests are being answered already: ask again")
        if self._token is None:
            if not _names_this_machine(_values(scope, b"host")):
                raise Refused(421, "call this by a name of the machine itself, or set OPTOUT_SERVE_TOKEN")
        elif not _shows(self._token, _values(scope, b"authorization")):
            raise Refused(401, "show the token, as Authorization: Bearer ...", headers={"WWW-Authenticate": "Bearer"})


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _shows(token: bytes, shown: list[bytes]) -> bool:
    scheme, _, value = (shown[0] if len(shown) == 1 else b"").strip().partition(b" ")
    return hmac.compare_digest(value.strip(), token) and scheme.lower() == b"bearer"


def _names_this_machine(hosts: list[bytes]) -> bool:
    if len(hosts) != 1:
        return False
    host = hosts[0].decode("latin-1").strip().lower()
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
