"""A schema registry over HTTP, in this process: what it holds is the client library's own registry in memory.

As far as the product asks: schemas by id, versions of a subject, looking up and registering. A test may make it fail.
`tests/contract/test_registry.py` holds it to that registry in memory, and to a real one where a URL of one is given.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryError

from consumer.wire import registry
from consumer.wire.schemas import Schemas
from tests.parts.ports import free_ports

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType

Answer = tuple[int, bytes]
"""A status and a body."""


class FailingRegistry(AbstractContextManager["FailingRegistry"]):
    """A registry that a test may break: `failing` answers in its place, `hidden` ids are not known yet."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.store = registry.connect({"url": f"mock://{uuid4()}"})
        self.failing: Callable[[str], Answer | None] = lambda _path: None
        self.hidden: set[int] = set()
        self.asked: list[str] = []
        self._server: ThreadingHTTPServer | None = None
        (self._port,) = free_ports(1)
        self.start()

    @property
    def url(self) -> str:
        """Where it is, or was."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def listens(self) -> bool:
        """Whether it is there."""
        return self._server is not None

    def start(self) -> None:
        """Listen, at the same port as before."""
        self._server = _Listening(self._port, self)
        if self._tls:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Listen no more."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def hold_ours(self, topics: dict[str, str]) -> dict[str, int]:
        """Register the product's schemas, by topic; return their ids by subject."""
        return registry.register(self.store, Schemas(), topics)

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Answer:
        """Return what a registry answers."""
        self.asked.append(path)
        if (failure := self.failing(path)) is not None:
            return failure
        try:
            found = self._found(method, [unquote(part) for part in urlsplit(path).path.strip("/").split("/")], body)
        except SchemaRegistryError as error:
            problem = {"error_code": error.error_code, "message": error.error_message}
            return error.http_status_code, json.dumps(problem).encode()
        return 200, json.dumps(found).encode()

    def _found(self, method: str, path: list[str], body: dict[str, Any]) -> Any:
        match method, path:
            case "GET", ["schemas", "ids", number]:
                if int(number) in self.hidden:
                    raise SchemaRegistryError(404, 40403, "Schema not found")
                return self.store.get_schema(int(number)).to_dict()
            case "GET", ["subjects", subject, "versions"]:
                if not (versions := self.store.get_versions(subject)):
                    raise SchemaRegistryError(404, 40401, "Subject not found")
                return versions
            case "GET", ["subjects", subject, "versions", number]:
                return _registered(self.store.get_version(subject, int(number)))
            case "POST", ["subjects", subject, "versions"]:
                return {"id": self.store.register_schema(subject, _schema(body))}
            case "POST", ["subjects", subject]:
                return _registered(self.store.lookup_schema(subject, _schema(body)))
        raise SchemaRegistryError(404, 404, "HTTP 404 Not Found")


def after(seconds: float, answer: Answer) -> Callable[[str], Answer]:
    """Return what answers late."""

    def late(_path: str) -> Answer:
        time.sleep(seconds)
        return answer

    return late


def _schema(body: dict[str, Any]) -> Schema:
    references = [SchemaReference(one["name"], one["subject"], one["version"]) for one in body.get("references") or []]
    return Schema(body["schema"], body.get("schemaType", "AVRO"), references)


def _registered(found: Any) -> dict[str, Any]:
    return {"subject": found.subject, "version": found.version, "id": found.schema_id, **found.schema.to_dict()}


class _Listening(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, answers: FailingRegistry) -> None:
        self.answers = answers
        super().__init__(("127.0.0.1", port), _Answering)

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that went away."""


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listening

    def _respond(self) -> None:
        if not self.server.answers.listens:  # a connection from before
            self.close_connection = True
            return
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, body = self.server.answers.answer(self.command, self.path, json.loads(text or b"{}"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _respond  # noqa: N815 - as the base class calls them

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the test does."""
