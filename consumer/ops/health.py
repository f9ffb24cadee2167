"""Whether this worker lives and whether it is ready: /livez, /readyz and /metrics over HTTP.

Alive is a worker whose loops turn; Redis or Kafka being away is no reason to restart it. Ready is one that does its
work: it says of each part why it is not.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Final, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from consumer.ops.metrics import Metrics

LATE_SECONDS: Final = 120.0
"""How long a loop may take for one turn. With Kafka away one attempt at a transaction waits for up to a minute."""
REQUEST_SECONDS: Final = 5.0


class Health:
    """What the parts of one worker say of themselves. Safe to be used by several threads."""

    def __init__(self, metrics: Metrics, *, late: float = LATE_SECONDS) -> None:
        self._metrics = metrics
        self._late = late
        self._beats: dict[str, float] = {}
        self._expected: list[str] = []
        self._troubles: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def expect(self, *parts: str) -> None:
        """Name parts that are to begin: until then this worker is not ready."""
        self._expected += parts

    def beat(self, part: str) -> None:
        """Say that a loop turns."""
        self._beats[part] = time.monotonic()

    def trouble(self, part: str, kind: str, reason: str) -> None:
        """Say that a part cannot do its work, until this kind is cleared."""
        with self._lock:
            self._troubles[part, kind] = reason
        self._metrics.show_trouble(part, kind, there=True)

    def clear(self, part: str, *kinds: str) -> None:
        """Say that these kinds of trouble are over."""
        for kind in kinds:
            if (part, kind) in self._troubles:
                with self._lock:
                    self._troubles.pop((part, kind), None)
                self._metrics.show_trouble(part, kind, there=False)

    def tell(self, part: str, kind: str, reason: str | None) -> None:
        """Say that there is trouble of this kind, or with None that there is not."""
        if reason is None:
            self.clear(part, kind)
        else:
            self.trouble(part, kind, reason)

    def stuck(self) -> dict[str, str]:
        """Return the loops that have not turned for too long, with a sentence on each."""
        now = time.monotonic()
        return {
            part: f"its loop has not turned for {now - beat:.0f} seconds"
            for part, beat in list(self._beats.items())
            if now - beat > self._late
        }

    def unready(self) -> dict[str, list[str]]:
        """Return why each part cannot do its work; nothing when all can."""
        reasons: dict[str, list[str]] = {
            part: ["it has not begun"] for part in self._expected if part not in self._beats
        }
        with self._lock:
            troubles = sorted(self._troubles.items())
        for (part, _), reason in troubles:
            reasons.setdefault(part, []).append(reason)
        for part, reason in self.stuck().items():
            reasons.setdefault(part, []).append(reason)
        return reasons


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind without asking a name server what this machine is called: that can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that went away."""


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS  # a client that says nothing does not hold its thread for ever

    def log_message(self, *_: object) -> None:
        """Log nothing: probes come every few seconds."""


def application(metrics: Metrics, health: Health) -> WSGIApplication:
    """Return what answers /livez, /readyz and /metrics."""
    exposition = make_wsgi_app(metrics.registry)

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return cast("Iterable[bytes]", exposition(environ, start))
        if path == "/livez":
            stuck = health.stuck()
            return _json(start, {"live": not stuck, "parts": stuck}, well=not stuck)
        if path == "/readyz":
            unready = health.unready()
            return _json(start, {"ready": not unready, "parts": unready}, well=not unready)
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"there are /livez, /readyz and /metrics\n"]

    return answer


def _json(start: StartResponse, answer: object, *, well: bool) -> Iterable[bytes]:
    start("200 OK" if well else "503 Service Unavailable", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode(), b"\n"]


@contextmanager
def listening(host: str, port: int, answers: WSGIApplication) -> Iterator[tuple[str, int]]:
    """Answer on this address for as long as the block lasts; yield where. Raises OSError where it cannot be had."""
    with make_server(host, port, answers, server_class=_Server, handler_class=_Handler) as server:
        threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
        try:
            yield str(server.server_address[0]), server.server_address[1]
        finally:
            server.shutdown()
