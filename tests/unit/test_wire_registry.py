"""Schemas from a registry: the same records, other ids, and a registry's silence is not its no.

The contract is held against the client library's own registry in memory; a stub fails as that one never does.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

pytest.importorskip(
    "confluent_kafka.schema_registry", reason="the extra `registry` is not installed", exc_type=ImportError
)

from confluent_kafka.schema_registry import Schema, SchemaRegistryError

from consumer import deployment
from consumer.domain.events import InboundMessage, KeywordRecord
from consumer.settings import ConfigurationError, load
from consumer.wire import registry
from consumer.wire.codec import Codec, Reason, SchemaError, SchemaSourceUnavailable, Unreadable
from consumer.wire.errors import UnknownSchema
from consumer.wire.framing import header, schema_id_of
from consumer.wire.registry import RegistrySchemas
from consumer.wire.schemas import LOCAL_IDS, Schemas

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confluent_kafka.schema_registry import SchemaRegistryClient

TOPICS = {"InboundMessage": "texts", "KeywordRecord": "ledger"}
MESSAGE = InboundMessage(
    message_id="SM1",
    location_id="loc-1",
    patient_number="+12025550143",
    location_number="+12025550100",
    body="STOP",
    received_at=1_744_380_187_000,
    provider="twilio",
)


@pytest.fixture
def client() -> SchemaRegistryClient:
    return registry.connect({"url": f"mock://{uuid4()}"})


class Answering:
    """A registry client whose every call raises this."""

    def __init__(self, problem: Exception) -> None:
        self._problem = problem

    def get_schema(self, *_arguments: Any) -> Any:
        raise self._problem

    lookup_schema = register_schema = get_schema


def answering(problem: Exception) -> Any:
    return Answering(problem)


def test_record_goes_there_and_back(client: SchemaRegistryClient) -> None:
    """What one process writes under the registry's ids, another reads."""
    ids = registry.register(client, Schemas(), TOPICS)
    value = Codec(RegistrySchemas(client, Schemas(), TOPICS)).encode(MESSAGE)
    assert schema_id_of(value) == ids["texts-value"]
    assert Codec(RegistrySchemas(client, Schemas(), TOPICS)).decode(InboundMessage, value) == MESSAGE


def test_registering_again_changes_nothing(client: SchemaRegistryClient) -> None:
    """A schema that is registered already keeps its id and gets no second version."""
    ids = registry.register(client, Schemas(), TOPICS)
    assert registry.register(client, Schemas(), TOPICS) == ids
    assert sorted(client.get_subjects()) == ["ledger-value", "texts-value"]
    assert client.get_versions("texts-value") == [1]


def test_registered_schema_keeps_docs_and_times(client: SchemaRegistryClient) -> None:
    """Other teams find in the registry what the files say: documentation and logical types included."""
    ids = registry.register(client, Schemas(), TOPICS)
    text = client.get_schema(ids["texts-value"]).schema_str or ""
    assert "timestamp-millis" in text
    assert "Personal data" in text


def test_missing_schema_is_said_before_anything_is_written(client: SchemaRegistryClient) -> None:
    """Where today's schema is not registered, preparing says so and names the command that registers it."""
    codec = Codec(RegistrySchemas(client, Schemas(), TOPICS))
    with pytest.raises(SchemaError, match=r"KeywordRecord under ledger-value: run `optout topics create`"):
        codec.prepare(KeywordRecord)


def test_ids_of_the_files_stay_readable(client: SchemaRegistryClient) -> None:
    """A topic that was begun without a registry is read with one, and the registry is not asked for those ids."""
    value = Codec(Schemas()).encode(MESSAGE)
    mute = RegistrySchemas(answering(AssertionError("asked")), Schemas(), TOPICS)
    assert Codec(mute).decode(InboundMessage, value) == MESSAGE
    with pytest.raises(UnknownSchema):
        mute.by_id(LOCAL_IDS[-1])


def test_schema_is_fetched_once(client: SchemaRegistryClient) -> None:
    """Once a schema is known, the registry may be away."""
    value_id = registry.register(client, Schemas(), TOPICS)["texts-value"]
    schemas = RegistrySchemas(client, Schemas(), TOPICS)
    known = schemas.by_id(value_id)
    schemas._client = answering(ConnectionError())
    assert schemas.by_id(value_id) is known


def test_id_that_the_registry_does_not_know_is_unreadable(client: SchemaRegistryClient) -> None:
    """A record under an id that the registry does not know can never be read."""
    with pytest.raises(Unreadable) as caught:
        Codec(RegistrySchemas(client, Schemas(), TOPICS)).decode(InboundMessage, header(4711) + b"x")
    assert caught.value.reason == Reason.UNKNOWN_SCHEMA


@pytest.mark.parametrize("text", ['{"type": "object"}', 'syntax = "proto3";', '"string"', '{"type": "record"}', ""])
def test_schema_that_is_no_avro_record_is_unreadable(client: SchemaRegistryClient, text: str) -> None:
    """An id of a schema that is no Avro record is as good as none."""
    schema_id = client.register_schema("other-value", Schema(text, "AVRO"))
    with pytest.raises(UnknownSchema):
        RegistrySchemas(client, Schemas(), TOPICS).by_id(schema_id)


@pytest.mark.parametrize(
    "problem",
    [
        ConnectionError("refused"),
        TimeoutError(),
        SchemaRegistryError(500, 50001, "error in the backend store"),
        SchemaRegistryError(503, -1, "unavailable"),
        SchemaRegistryError(401, 40101, "unauthorized"),
        SchemaRegistryError(404, -1, "a proxy's page"),
        SchemaRegistryError(404, None, "HTTP 404 Not Found"),  # type: ignore[arg-type] # what a body without a code gives
    ],
    ids=str,
)
def test_silence_is_not_a_no(problem: Exception) -> None:
    """A registry that does not answer makes no record unreadable: reading and writing can be tried again."""
    schemas = RegistrySchemas(answering(problem), Schemas(), TOPICS)
    with pytest.raises(SchemaSourceUnavailable, match="did not answer"):
        Codec(schemas).decode(InboundMessage, header(1) + b"x")
    with pytest.raises(SchemaSourceUnavailable, match="did not answer"):
        Codec(schemas).encode(MESSAGE)
    with pytest.raises(SchemaSourceUnavailable, match="did not answer"):
        registry.register(answering(problem), Schemas(), TOPICS)


@pytest.mark.parametrize("code", [40401, 40402, 40403])
def test_every_no_of_the_registry_is_one(code: int) -> None:
    """The registry's own codes for a missing subject, version and schema all mean that there is none."""
    schemas = RegistrySchemas(answering(SchemaRegistryError(404, code, "not found")), Schemas(), TOPICS)
    with pytest.raises(UnknownSchema):
        schemas.by_id(1)
    with pytest.raises(SchemaError):
        schemas.writer("InboundMessage")


def test_refused_schema_is_said() -> None:
    """Where the compatibility rule of a subject refuses our schema, the sentence names record and subject."""
    refusing = answering(SchemaRegistryError(409, 409, "incompatible"))
    with pytest.raises(SchemaError, match="refuses InboundMessage under texts-value"):
        registry.register(refusing, Schemas(), TOPICS)


def test_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra there is one sentence that names it, and no ImportError."""
    monkeypatch.setitem(sys.modules, "confluent_kafka.schema_registry", None)
    with pytest.raises(SchemaError, match=r"sms-optout\[registry\]"):
        registry.connect({"url": "mock://"})


class Upstream(BaseHTTPRequestHandler):
    """A registry as its HTTP API is documented, as far as these calls go: nothing registered, one path astray."""

    def do_GET(self) -> None:
        if self.path.startswith("/schemas/ids/"):
            self.answer(404, b'{"error_code": 40403, "message": "Schema not found"}')
        else:
            self.answer(404, b"<html>not here</html>")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/subjects/texts-value"):
            self.answer(404, b'{"error_code": 40401, "message": "Subject not found"}')
        else:
            self.answer(404, b"<html>not here</html>")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the test does."""


@pytest.fixture
def upstream() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_real_client_tells_a_no_from_silence(upstream: str) -> None:
    """Over HTTP, too, a registry's "not found" is a no, and a page from elsewhere or a closed port is not."""
    with registry.connect({"url": upstream, "max.retries": 0}) as client:
        schemas = RegistrySchemas(client, Schemas(), TOPICS)
        with pytest.raises(UnknownSchema):
            schemas.by_id(1)
        with pytest.raises(SchemaError):
            schemas.writer("InboundMessage")
        with pytest.raises(SchemaSourceUnavailable):
            schemas.writer("KeywordRecord")
    for elsewhere in (f"{upstream}/astray", "http://127.0.0.1:1"):
        client = registry.connect({"url": elsewhere, "max.retries": 0})
        with client, pytest.raises(SchemaSourceUnavailable):
            RegistrySchemas(client, Schemas(), TOPICS).by_id(1)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("URL", ""), ("URL", "user:secret@registry:8081"), ("BASIC_AUTH_USER_INFO", "secret"), ("COLOUR", "secret")],
)
def test_wrong_settings_of_a_registry_are_said(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """An empty or wrong address, as a template with nothing in it leaves, is one sentence that quotes no password."""
    monkeypatch.setenv("OPTOUT_SCHEMA_REGISTRY_URL", "http://127.0.0.1:1")
    monkeypatch.setenv(f"OPTOUT_SCHEMA_REGISTRY_{variable}", value)
    with pytest.raises(ConfigurationError, match="OPTOUT_SCHEMA_REGISTRY_URL, or a property") as wrong:
        deployment.codec(load())
    assert "secret" not in str(wrong.value)
