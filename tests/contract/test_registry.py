"""The registry of the tests answers as the client library's own registry in memory, and as a real one.

`OPTOUT_TEST_REGISTRY` is the URL of a real one to hold this against; it gets subjects under names of their own.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

pytest.importorskip(
    "confluent_kafka.schema_registry", reason="the extra `registry` is not installed", exc_type=ImportError
)

from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryError

from consumer.wire import registry
from consumer.wire.errors import SchemaError, UnknownSchema
from consumer.wire.registry import RegistrySchemas
from consumer.wire.schemas import Schemas, record_name
from tests.parts.registry import FailingRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confluent_kafka.schema_registry import SchemaRegistryClient

NUMBER = {"type": "record", "name": "Number", "namespace": "up", "fields": [{"name": "digits", "type": "string"}]}
PLACE = {"type": "record", "name": "Place", "namespace": "up", "fields": [{"name": "number", "type": "up.Number"}]}
TEXT = {
    "type": "record",
    "name": "InboundMessage",
    "namespace": "up",
    "fields": [{"name": "from", "type": "up.Number"}, {"name": "place", "type": "up.Place"}],
}

OTHER = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {"a": {"type": "string"}},
}


REAL = os.environ.get("OPTOUT_TEST_REGISTRY")


@pytest.fixture(params=["mock", "double", *([REAL] if REAL else [])])
def client(request: pytest.FixtureRequest) -> Iterator[SchemaRegistryClient]:
    if request.param == "mock":
        yield registry.connect({"url": f"mock://{uuid4()}"})
    elif request.param == "double":
        with FailingRegistry() as server, registry.connect({"url": server.url, "max.retries": "0"}) as client:
            yield client
    else:
        with registry.connect({"url": request.param, "max.retries": "0"}) as client:
            yield client


def test_what_the_product_asks_has_one_answer(client: SchemaRegistryClient) -> None:
    """Registering, looking up, reading by id with references and every kind of no are the same everywhere."""
    own = f"t{uuid4().hex[:8]}."
    topics = {f"{own}texts": "InboundMessage", f"{own}more-texts": "InboundMessage"}
    assert not registry.is_taken(client, f"{own}texts")
    ids = registry.register(client, Schemas(), topics)
    assert registry.register(client, Schemas(), topics) == ids
    assert registry.is_taken(client, f"{own}more-texts")
    source = RegistrySchemas(client, Schemas(), {"InboundMessage": f"{own}texts", "KeywordRecord": f"{own}ledger"})
    assert source.writer("InboundMessage").id == ids[f"{own}texts-value"]
    with pytest.raises(SchemaError):
        source.writer("KeywordRecord")
    read: Any = source.by_id(ids[f"{own}texts-value"])
    assert record_name(read) == "InboundMessage"
    with pytest.raises(UnknownSchema):
        source.by_id(2_000_000_000)
    with pytest.raises(UnknownSchema):
        source.by_id(2**32 - 1)

    number = f"{own}number", SchemaReference("up.Number", f"{own}number", 1)
    place = f"{own}place", SchemaReference("up.Place", f"{own}place", 1)
    client.register_schema(number[0], Schema(json.dumps(NUMBER), "AVRO"))
    client.register_schema(place[0], Schema(json.dumps(PLACE), "AVRO", [number[1]]))
    referring = client.register_schema(f"{own}up", Schema(json.dumps(TEXT), "AVRO", [number[1], place[1]]))
    with_references: Any = source.by_id(referring)
    assert [field["type"]["name"] for field in with_references["fields"]] == ["up.Number", "up.Place"]
    other = client.register_schema(f"{own}other", Schema(json.dumps(OTHER), "JSON"))
    with pytest.raises(UnknownSchema):
        source.by_id(other)
    with pytest.raises(SchemaRegistryError) as missing:
        client.get_version(place[0], 7)
    assert missing.value.http_status_code == 404
