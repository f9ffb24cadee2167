"""Schemas from a registry: the same records, other ids, and a registry's silence is not its no.

The contract is held against the client library's own registry in memory; a stub fails as that one never does.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import fastavro
import pytest

pytest.importorskip(
    "confluent_kafka.schema_registry", reason="the extra `registry` is not installed", exc_type=ImportError
)

from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryError

from consumer import deployment
from consumer.domain.events import InboundMessage, KeywordRecord
from consumer.settings import ConfigurationError, load
from consumer.wire import registry
from consumer.wire.codec import Codec, Reason, SchemaError, SchemaSourceUnavailable, Unreadable
from consumer.wire.errors import UnknownSchema
from consumer.wire.framing import header, schema_id_of
from consumer.wire.records import to_datum
from consumer.wire.registry import RegistrySchemas
from consumer.wire.schemas import HIGHEST_ID, LOCAL_IDS, Schemas
from tests.parts.certificates import Authority
from tests.parts.registry import FailingRegistry, after

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from confluent_kafka.schema_registry import SchemaRegistryClient

TOPICS = {"InboundMessage": "texts", "KeywordRecord": "ledger"}
RECORDS = {"texts": "InboundMessage", "ledger": "KeywordRecord"}
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

    lookup_schema = register_schema = get_versions = get_schema


def answering(problem: Exception) -> Any:
    return Answering(problem)


def test_record_goes_there_and_back(client: SchemaRegistryClient) -> None:
    """What one process writes under the registry's ids, another reads."""
    ids = registry.register(client, Schemas(), RECORDS)
    value = Codec(RegistrySchemas(client, Schemas(), TOPICS)).encode(MESSAGE)
    assert schema_id_of(value) == ids["texts-value"]
    assert Codec(RegistrySchemas(client, Schemas(), TOPICS)).decode(InboundMessage, value) == MESSAGE


def test_registering_again_changes_nothing(client: SchemaRegistryClient) -> None:
    """A schema that is registered already keeps its id and gets no second version."""
    ids = registry.register(client, Schemas(), RECORDS)
    assert registry.register(client, Schemas(), RECORDS) == ids
    assert sorted(client.get_subjects()) == ["ledger-value", "texts-value"]
    assert client.get_versions("texts-value") == [1]


def test_registered_schema_keeps_docs_and_times(client: SchemaRegistryClient) -> None:
    """Other teams find in the registry what the files say: documentation and logical types included."""
    ids = registry.register(client, Schemas(), RECORDS)
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
    value_id = registry.register(client, Schemas(), RECORDS)["texts-value"]
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
        registry.register(answering(problem), Schemas(), RECORDS)


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
        registry.register(refusing, Schemas(), RECORDS)


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
    [
        ("URL", ""),
        ("URL", "user:secret@registry:8081"),
        ("BASIC_AUTH_USER_INFO", "secret"),
        ("COLOUR", "secret"),
        ("TIMEOUT", "secret"),
        ("SSL_CA_LOCATION", "/not/there/secret.pem"),
    ],
)
def test_wrong_settings_of_a_registry_are_said(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """An empty or wrong address, as a template with nothing in it leaves, is one sentence that quotes no password."""
    monkeypatch.setenv("OPTOUT_SCHEMA_REGISTRY_URL", "http://127.0.0.1:1")
    monkeypatch.setenv(f"OPTOUT_SCHEMA_REGISTRY_{variable}", value)
    with pytest.raises(ConfigurationError, match="OPTOUT_SCHEMA_REGISTRY_URL, or a property") as wrong:
        deployment.codec(load())
    assert "secret" not in str(wrong.value)


def test_numbers_among_the_settings_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the registry's client takes as numbers can be set, though variables are texts."""
    monkeypatch.setenv("OPTOUT_SCHEMA_REGISTRY_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("OPTOUT_SCHEMA_REGISTRY_TIMEOUT", "0.5")
    monkeypatch.setenv("OPTOUT_SCHEMA_REGISTRY_MAX_RETRIES", "1")
    with deployment.registry_client(load()) as client:
        assert client.config()["timeout"] == 0.5


def record(name: str, **types: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": name,
        "namespace": "up",
        "fields": [{"name": n, "type": t} for n, t in types.items()],
    }


def referring(*names: str, version: int = 1) -> list[SchemaReference]:
    return [SchemaReference(f"up.{name}", f"up.{name}", version) for name in names]


def upstreams(client: SchemaRegistryClient, body: Any = "string") -> int:
    """Register a text whose number and place are types of subjects of their own, one within the other."""
    fields: Any = dict.fromkeys(("message_id", "location_id", "location_number", "provider"), "string")
    client.register_schema("up.Number", Schema(json.dumps(record("Number", digits="string"))))
    client.register_schema("up.Number", Schema(json.dumps(record("Number", digits="string", carrier="string"))))
    place = record("Place", number="up.Number", zone="string")
    client.register_schema("up.Place", Schema(json.dumps(place), references=referring("Number")))
    text = record(
        "InboundMessage",
        **fields,
        body=body,
        sent={"type": "long", "logicalType": "timestamp-millis"},
        place="up.Place",
    )
    text["fields"] += [{"name": "patient_number", "type": "string"}, {"name": "received_at", "type": "long"}]
    return client.register_schema("up.texts", Schema(json.dumps(text), references=referring("Number", "Place")))


def sent(schema: Any, text: InboundMessage = MESSAGE) -> bytes:
    """Encode a text as upstream does, by its own schema."""
    stream = BytesIO()
    place = {"number": {"digits": "12025550100", "carrier": ""}, "zone": "UTC"}
    fastavro.schemaless_writer(stream, schema, {**to_datum(text), "sent": 0, "place": place})
    return stream.getvalue()


def test_a_schema_that_refers_to_others_is_read(client: SchemaRegistryClient) -> None:
    """Types from other subjects are found, nested and in the version that is named, and the STOP is read."""
    schema_id = upstreams(client)
    schemas = RegistrySchemas(client, Schemas(), TOPICS)
    schema: Any = schemas.by_id(schema_id)
    read = Codec(schemas).decode(InboundMessage, header(schema_id) + sent(schema))
    assert read == replace(MESSAGE, provider_opt_out_type=None)
    number = next(field["type"] for field in schema["fields"] if field["name"] == "place")["fields"][0]["type"]
    assert [field["name"] for field in number["fields"]] == ["digits"]  # version 1, though there is a second one


def test_a_union_of_referred_records_is_read(client: SchemaRegistryClient) -> None:
    """Where a topic takes several kinds of records, by a union of references, a text among them is read."""
    text_id = upstreams(client)
    references = [SchemaReference("up.Number", "up.Number", 1), SchemaReference("up.InboundMessage", "up.texts", 1)]
    union_id = client.register_schema("all", Schema('["up.Number", "up.InboundMessage"]', references=references))
    schemas = RegistrySchemas(client, Schemas(), TOPICS)
    codec, body = Codec(schemas), sent(schemas.by_id(text_id))
    assert codec.decode(InboundMessage, header(union_id) + b"\x02" + body).body == "STOP"
    with pytest.raises(Unreadable):
        codec.decode(InboundMessage, header(union_id) + b"\x00\x0212")


def test_what_a_schema_refers_to_may_be_away_or_missing(client: SchemaRegistryClient) -> None:
    """A referred schema that cannot be had is like the schema itself: silence is no no, and a no is not for ever."""
    schema_id = upstreams(client)
    found = client.get_version
    for problem, expected in (
        (ConnectionError(), SchemaSourceUnavailable),
        (SchemaRegistryError(404, 40402, "Version not found"), UnknownSchema),
    ):
        client.get_version = answering(problem).get_schema  # type: ignore[method-assign]
        with pytest.raises(expected) as caught:
            RegistrySchemas(client, Schemas(), TOPICS).by_id(schema_id)
        assert not isinstance(caught.value, registry.NoAvro)
    client.get_version = found  # type: ignore[method-assign]
    RegistrySchemas(client, Schemas(), TOPICS).by_id(schema_id)


def laughs(name: str, inner: Any) -> list[Any]:
    """Return a type that doubles itself twenty times over."""
    types = [record(f"{name}0", a=inner)]
    types += [record(f"{name}{i}", a=f"up.{name}{i - 1}", b=f"up.{name}{i - 1}") for i in range(1, 20)]
    return types


def rootless(name: str, **types: Any) -> dict[str, Any]:
    """Return a record without a namespace."""
    return record(name, **types) | {"namespace": ""}


NULLS = dict.fromkeys((f"n{i}" for i in range(9_000)), "null")


@pytest.mark.parametrize(
    "schema",
    [
        record("InboundMessage", body="string", next=["null", "up.InboundMessage"]),
        record("InboundMessage", body="string", next={"type": "map", "values": "up.InboundMessage"}),
        record("InboundMessage", a=record("B", c=["null", record("C", b=["null", "up.B"])])),
        record("InboundMessage", a={"type": "array", "items": "null"}),
        record("InboundMessage", a={"type": "array", "items": record("Nothing", a="null")}),
        record("InboundMessage", a={"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}),
        record("InboundMessage", **{f"f{i}": one for i, one in enumerate(laughs("L", "null"))}),
        record("InboundMessage", body={"type": "string", "doc": "x" * registry.LONGEST_SCHEMA}),
        json.loads('{"type":"array","items":' * 500 + '"string"' + "}" * 500),
        record("InboundMessage", a={"type": "array", "items": record("Next", **NULLS, one="int")}),
        record("InboundMessage", a={"type": "map", "values": record("Next", **NULLS)}),
        record("InboundMessage", a={"type": "array", "items": ["null", record("Next", **NULLS)]}),
        [
            record("B", a="int"),
            record("C", b=["null", "up.B"]),
            record("B", c="up.C"),
            record("InboundMessage", c="up.C"),
        ],
        rootless("InboundMessage", a=rootless("null", a="int"), b={"type": "array", "items": "null"}),
        rootless("InboundMessage", a=rootless("union"), u=rootless("u", a="union")),
        rootless("InboundMessage", a=""),
    ],
    ids=[
        *("self", "map", "each-other", "nulls", "nothings", "fixed-nothings", "laughs", "long", "deep"),
        *("next-to-nothings", "next-to-nothing-map", "next-to-nothing-union", "twice", "null", "union", "no-name"),
    ],
)
def test_a_schema_without_bounds_is_refused(client: SchemaRegistryClient, schema: Any) -> None:
    """No schema makes some bytes lead so deep that the process dies, or take hours: a dead letter, in milliseconds."""
    schema_id = client.register_schema("other", Schema(json.dumps(schema)))
    with pytest.raises(registry.NoAvro):
        RegistrySchemas(client, Schemas(), TOPICS).by_id(schema_id)


def test_types_that_a_schema_hides_are_not_read_by(client: SchemaRegistryClient) -> None:
    """What a schema says to the Avro library alone does not count: such types could hold themselves, unseen."""
    hidden = {"__fastavro_parsed": True, "__named_schemas": {"up.B": record("B", of=["null", "up.B"])}}
    fields: Any = dict.fromkeys(("message_id", "location_id", "patient_number", "location_number", "body"), "string")
    seen = record("InboundMessage", a=record("B"), b="up.B", **fields, received_at="long", provider="string")
    value = BytesIO()
    fastavro.schemaless_writer(value, fastavro.parse_schema(seen), {**to_datum(MESSAGE), "a": {}, "b": {}})
    seen_id = client.register_schema("seen", Schema(json.dumps(seen | hidden)))
    schemas = RegistrySchemas(client, Schemas(), TOPICS)
    assert Codec(schemas).decode(InboundMessage, header(seen_id) + value.getvalue()).body == "STOP"
    unseen = Schema(json.dumps(record("InboundMessage", b="up.B") | hidden))
    refers = Schema(json.dumps(record("InboundMessage", a="up.A", b="up.B")), references=referring("A"))
    client.register_schema("up.A", Schema(json.dumps(record("A") | hidden)))
    for schema in (unseen, refers):
        with pytest.raises(registry.NoAvro):
            schemas.by_id(client.register_schema("unseen", schema))


def test_references_without_end_are_refused(client: SchemaRegistryClient) -> None:
    """A schema whose references or types lead in a circle, or to thousands, is refused, and asked for within bounds."""
    text = json.dumps(record("InboundMessage", body="string"))
    circle = client.register_schema("a", Schema(text, references=[SchemaReference("up.B", "b", 1)]))
    client.register_schema("b", Schema(text, references=[SchemaReference("up.A", "a", 1)]))
    client.register_schema("d0", Schema(text))
    for i in range(1, 40):
        twice = [SchemaReference(f"up.D{i}", f"d{i - 1}", 1)] * 2
        doubling = client.register_schema(f"d{i}", Schema(text, references=twice))
    client.register_schema("up.E", Schema(json.dumps(record("E", a="up.F"))))
    client.register_schema("up.F", Schema(json.dumps(record("F", a="up.E"))))
    each_other = Schema(json.dumps(record("InboundMessage", a="up.E")), references=referring("E", "F"))
    for schema_id in (circle, doubling, client.register_schema("e", each_other)):
        with pytest.raises(registry.NoAvro):
            RegistrySchemas(client, Schemas(), TOPICS).by_id(schema_id)


def test_an_id_beyond_what_registries_count_is_not_asked_for() -> None:
    """Some registries fail at an id that is no int of Java's: it has no schema, and nobody waits for it."""
    with pytest.raises(registry.NoAvro):
        RegistrySchemas(answering(AssertionError("asked")), Schemas(), TOPICS).by_id(HIGHEST_ID + 1)


ASTRAY = (
    (200, b"{}", "an answer without a schema"),
    (200, b'{"schema": 5}', "an answer without a schema"),
    (200, b"<html>log in</html>", "JSONDecodeError"),
    (200, b"[]", "did not answer"),
    (301, b"", "OPTOUT_SCHEMA_REGISTRY_URL"),
    (401, b'{"error_code": 401, "message": "Unauthorized"}', "it refuses us"),
    (403, b"no", "it refuses us"),
    (404, b"no", "is the path of OPTOUT_SCHEMA_REGISTRY_URL right"),
    (500, b'{"error_code": 50001, "message": "store"}', "HTTP 500"),
)


def test_whatever_is_no_answer_is_said_and_forgotten() -> None:
    """Every way in which something else answers is one sentence that says where, and the right answer counts later."""
    with FailingRegistry() as server, registry.connect({"url": server.url, "max.retries": "0"}) as client:
        schema_id = server.hold_ours(RECORDS)["texts-value"]
        for status, body, words in ASTRAY:
            schemas = RegistrySchemas(client, Schemas(), TOPICS)
            server.failing = lambda _path, answer=(status, body): answer  # type: ignore[misc]
            with pytest.raises(SchemaSourceUnavailable, match=words) as said:
                schemas.by_id(schema_id)
            assert server.url in str(said.value)
        server.failing = lambda _path: None
        RegistrySchemas(client, Schemas(), TOPICS).by_id(schema_id)


def test_a_certificate_that_is_not_trusted_is_said(tmp_path: Path) -> None:
    """Where TLS fails the sentence says so, and which setting names whom to trust."""
    authority = Authority(tmp_path)
    with FailingRegistry(authority.server()) as server:
        schema_id = server.hold_ours(RECORDS)["texts-value"]
        distrusting = {"url": server.url, "max.retries": "0"}
        with registry.connect(distrusting) as client, pytest.raises(SchemaSourceUnavailable, match="SSL_CA_LOCATION"):
            RegistrySchemas(client, Schemas(), TOPICS).by_id(schema_id)
        with registry.connect({**distrusting, "ssl.ca.location": str(authority.file)}) as client:
            RegistrySchemas(client, Schemas(), TOPICS).by_id(schema_id)


def test_a_registry_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that takes a request and never answers is silence after some seconds; the client waits for ever."""
    monkeypatch.setattr(registry, "TIMEOUT_SECONDS", 0.2)
    with FailingRegistry() as server, registry.connect({"url": server.url, "max.retries": "0"}) as client:
        server.failing = after(2.0, (200, b"{}"))
        began = time.monotonic()
        with pytest.raises(SchemaSourceUnavailable, match="Timeout"):
            RegistrySchemas(client, Schemas(), TOPICS).by_id(1)
        assert time.monotonic() - began < 1.5
