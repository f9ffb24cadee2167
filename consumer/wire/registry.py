"""Schemas and their ids from a schema registry, through the client library's own registry client.

Subjects are named `<topic>-value`. The client is an optional extra, so it is imported when it is first needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from consumer.wire.errors import SchemaError, SchemaSourceUnavailable, UnknownSchema
from consumer.wire.schemas import LOCAL_IDS, WriterSchema, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import TypeVar

    from confluent_kafka.schema_registry import SchemaRegistryClient

    from consumer.wire.schemas import Parsed, Schemas

    T = TypeVar("T")

_NOT_FOUND = 404
_CONFLICT = 409
_UNPROCESSABLE = 422


def connect(configuration: Mapping[str, Any]) -> SchemaRegistryClient:
    """Return a registry client of this configuration (`url` and the rest, by the client library's names).

    Raises SchemaError where the extra is not installed. `mock://` as the url is a registry in memory, one per client:
    it counts ids from 1, a new one for each subject, compares schemas as text and knows no compatibility rules.
    """
    client: SchemaRegistryClient = _library().SchemaRegistryClient.new_client(dict(configuration))
    return client


def register(client: SchemaRegistryClient, schemas: Schemas, topics: Mapping[str, str]) -> dict[str, int]:
    """Register the current schema of each record under its topic's subject; return the ids by subject.

    `topics` maps a record's name to its topic. What is registered already keeps its id. Raises SchemaError where the
    registry refuses a schema, SchemaSourceUnavailable where it does not answer.
    """
    ids = {}
    for record, topic in topics.items():
        subject, schema = _subject(topic), _library().Schema(schemas.text(record), "AVRO")
        try:
            ids[subject] = _ask(client.register_schema, subject, schema)
        except _Refused as refused:
            raise SchemaError(
                f"the schema registry refuses {record} under {subject} (HTTP {refused.status}): another schema holds"
                " this subject, and its compatibility rule does not take ours as a next version; compare the two"
            ) from None
    return ids


class RegistrySchemas:
    """A schema registry's schemas.

    `topics` maps a record's name to the topic whose subject holds it. Ids in the files' range are always read from
    `local`: a ledger that was begun without a registry stays readable. So are the schemas that are read into.
    """

    def __init__(self, client: SchemaRegistryClient, local: Schemas, topics: Mapping[str, str]) -> None:
        self._client = client
        self._local = local
        self._topics = dict(topics)
        self._by_id: dict[int, Parsed] = {}

    def writer(self, record: str) -> WriterSchema:
        """Return the current schema of a record and its id in the registry.

        Raises SchemaError where the subject does not hold it, SchemaSourceUnavailable where nobody answers.
        """
        subject, schema = _subject(self._topics[record]), _library().Schema(self._local.text(record), "AVRO")
        try:
            found = _ask(self._client.lookup_schema, subject, schema)
        except _Refused:
            raise SchemaError(
                f"the schema registry does not hold today's {record} under {subject}: run `optout topics create`"
            ) from None
        if found.schema_id is None:
            raise SchemaSourceUnavailable(f"the schema registry gave no id for {subject}")
        return WriterSchema(found.schema_id, self._local.reader(record))

    def reader(self, record: str) -> Parsed:
        """Return the current schema of a record."""
        return self._local.reader(record)

    def by_id(self, schema_id: int) -> Parsed:
        """Return the schema with this id, asked for once.

        Raises UnknownSchema where there is none or it is not Avro, SchemaSourceUnavailable where nobody answers.
        """
        if schema_id in LOCAL_IDS:
            return self._local.by_id(schema_id)
        if schema_id not in self._by_id:
            self._by_id[schema_id] = self._fetch(schema_id)
        return self._by_id[schema_id]

    def _fetch(self, schema_id: int) -> Parsed:
        try:
            schema = _ask(self._client.get_schema, schema_id)
        except _Refused:
            raise UnknownSchema(schema_id) from None
        try:
            return parse(schema.schema_str or "")
        except Exception:  # noqa: BLE001 - JSON's, fastavro's and protobuf text's errors all say: no Avro schema
            raise UnknownSchema(schema_id) from None


class _Refused(Exception):
    """The registry answered, and the answer is no."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _subject(topic: str) -> str:
    return f"{topic}-value"


def _ask(call: Callable[..., T], *arguments: Any) -> T:
    """Return the registry's answer. Raises _Refused for a no, SchemaSourceUnavailable for everything else.

    A 404 is a no only with the registry's own code: a proxy or a wrong path answers 404 as well, and then nothing is
    known of the schema.
    """
    registry_error = _library().SchemaRegistryError
    try:
        return call(*arguments)
    except registry_error as error:
        status, code = error.http_status_code, error.error_code or 0
        if status in {_CONFLICT, _UNPROCESSABLE} or (status == _NOT_FOUND and code // 100 == _NOT_FOUND):
            raise _Refused(status) from None
        problem = f"HTTP {status}"
    except Exception as error:  # noqa: BLE001 - httpx, its successor, authlib: whichever the library uses, no answer came
        problem = type(error).__name__
    raise SchemaSourceUnavailable(f"the schema registry did not answer {call.__name__} of {arguments[0]}: {problem}")


def _library() -> ModuleType:
    try:
        return import_module("confluent_kafka.schema_registry")
    except ImportError:
        raise SchemaError("a schema registry needs an extra: install sms-optout[registry]") from None
