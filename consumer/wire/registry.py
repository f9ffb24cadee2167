"""Schemas and their ids from a schema registry, through the client library's own registry client.

Subjects are named `<topic>-value`. The client is an optional extra, so it is imported when it is first needed. Calls
wait for their answer: for loops that must not, see `lookups`.
"""

from __future__ import annotations

import json
import ssl
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from consumer.wire.bounds import is_bounded
from consumer.wire.errors import SchemaError, SchemaSourceUnavailable, UnknownSchema
from consumer.wire.schemas import HIGHEST_ID, LOCAL_IDS, WriterSchema, parse_with, record_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import TypeVar

    from confluent_kafka.schema_registry import SchemaRegistryClient

    from consumer.wire.schemas import Parsed, Resolved, Schemas

    T = TypeVar("T")

TIMEOUT_SECONDS = 5.0
"""For how long each step of a request may take. The client's own default is for ever."""
LONGEST_SCHEMA = 1024 * 1024
"""Characters of a schema. Registries keep theirs in records of Kafka, which are no longer by default."""
MOST_REFERENCES = 200
"""Schemas that one schema may refer to, counted each time that the client library follows one."""
NUMBERS = frozenset(
    {"timeout", "cache.capacity", "cache.latest.ttl.sec", "max.retries", "retries.wait.ms", "retries.max.wait.ms"}
)
"""The client's properties that it does not take as text."""

AVRO = "AVRO"
"""The one kind of schema that is read here."""

_NOT_FOUND = 404
_CONFLICT = 409
_UNPROCESSABLE = 422
_REFUSED = frozenset({401, 403})
_ELSEWHERE = range(300, 400)


def connect(configuration: Mapping[str, Any]) -> SchemaRegistryClient:
    """Return a registry client of this configuration (`url` and the rest, by the client library's names).

    Raises SchemaError where the extra is not installed; ValueError, TypeError or OSError for a configuration that is
    wrong. `mock://` as the url is a registry in memory, one per client: it counts ids from 1, a new one for each
    subject, compares schemas as text and knows no compatibility rules.
    """
    given = {name: float(value) if name in NUMBERS else value for name, value in configuration.items()}
    client: SchemaRegistryClient = _library().SchemaRegistryClient.new_client({"timeout": TIMEOUT_SECONDS, **given})
    return client


def register(client: SchemaRegistryClient, schemas: Schemas, records: Mapping[str, str]) -> dict[str, int]:
    """Register the current schema of each record under its topic's subject; return the ids by subject.

    `records` maps a topic to its record's name. What is registered already keeps its id. Raises SchemaError where the
    registry refuses a schema, SchemaSourceUnavailable where it does not answer.
    """
    ids = {}
    for topic, record in records.items():
        subject, schema = _subject(topic), _library().Schema(schemas.text(record), AVRO)
        try:
            ids[subject] = _ask(client, client.register_schema, subject, schema)
        except _Refused as refused:
            raise SchemaError(
                f"the schema registry refuses {record} under {subject} (HTTP {refused.status}): another schema holds"
                " this subject, and its compatibility rule does not take ours as a next version; compare the two"
            ) from None
    return ids


def is_taken(client: SchemaRegistryClient, topic: str) -> bool:
    """Return whether the topic's subject holds a schema. Raises SchemaSourceUnavailable."""
    try:
        return bool(_ask(client, client.get_versions, _subject(topic)))
    except _Refused:
        return False


class RegistrySchemas:
    """A schema registry's schemas.

    `topics` maps a record's name to the topic whose subject holds it. Ids in the files' range are always read from
    `local`: a ledger that was begun without a registry stays readable. So are the schemas that are read into.
    """

    def __init__(self, client: SchemaRegistryClient, local: Schemas, topics: Mapping[str, str]) -> None:
        self._client = client
        self._local = local
        self._topics = dict(topics)
        self._by_id: dict[int, Resolved] = {}
        self._find_named = _finding()

    def writer(self, record: str) -> WriterSchema:
        """Return the current schema of a record and its id in the registry.

        Raises SchemaError where the subject does not hold it, SchemaSourceUnavailable where nobody answers.
        """
        subject, schema = _subject(self._topics[record]), _library().Schema(self._local.text(record), AVRO)
        try:
            found = _ask(self._client, self._client.lookup_schema, subject, schema)
        except _Refused:
            raise SchemaError(
                f"the schema registry does not hold today's {record} under {subject}: run `optout topics create`"
            ) from None
        if found.schema_id is None:
            raise SchemaSourceUnavailable(f"{_name(self._client)} gave no id for {subject}")
        return WriterSchema(found.schema_id, self._local.reader(record))

    def reader(self, record: str) -> Parsed:
        """Return the current schema of a record."""
        return self._local.reader(record)

    def by_id(self, schema_id: int) -> Resolved:
        """Return the schema with this id, asked for once.

        Raises UnknownSchema where there is none or it is not Avro, SchemaSourceUnavailable where nobody answers.
        """
        if schema_id in LOCAL_IDS:
            return self._local.by_id(schema_id)
        if schema_id not in self._by_id:
            self._by_id[schema_id] = self._fetch(schema_id)
        return self._by_id[schema_id]

    def _fetch(self, schema_id: int) -> Resolved:
        """Return the schema with what it refers to.

        Raises NoAvro where the id has another schema for good, UnknownSchema where it has none yet.
        """
        if schema_id > HIGHEST_ID:
            raise NoAvro(schema_id)
        try:
            return self._resolve(_whole(self._client, _ask(self._client, self._client.get_schema, schema_id)))
        except _Refused:
            raise UnknownSchema(schema_id) from None
        except SchemaSourceUnavailable:
            raise
        except Exception:  # noqa: BLE001 - JSON's, fastavro's, the library's and protobuf text's all say: no Avro schema
            raise NoAvro(schema_id) from None

    def _resolve(self, schema: Any) -> Resolved:
        """Return a schema parsed, with the named types that it refers to; the client library knows how to find those.

        Raises _Refused where one of them is not there, SchemaSourceUnavailable, and anything else for what is no Avro.
        """
        if schema.schema_type != AVRO:
            raise ValueError("a schema of another kind")
        named = self._find_named(schema, _References(self._client, schema.schema_str))
        parsed = parse_with(json.loads(schema.schema_str), named)
        if not isinstance(parsed, (dict, list)) or not record_names(parsed) or not is_bounded(parsed):
            raise ValueError("not the schema of a record, or one that cannot be read within bounds")
        return parsed


class NoAvro(UnknownSchema):
    """The id has a schema, or can have one, that is no Avro record: nothing will change that."""


class _References:
    """The registry as the client library asks it for what a schema refers to, within bounds."""

    def __init__(self, client: SchemaRegistryClient, root: str) -> None:
        self._client = client
        self._left = MOST_REFERENCES
        self._characters = 0
        self._count(root)

    def get_version(self, subject: str, version: int, deleted: bool) -> Any:  # noqa: FBT001 - the library's order
        """Return this version of a subject."""
        self._left -= 1
        if self._left < 0:
            raise ValueError("a schema of too many references")
        found = _ask(self._client, self._client.get_version, subject, version, deleted)
        self._count(_whole(self._client, found.schema).schema_str)
        return found

    def _count(self, text: str) -> None:
        self._characters += len(text)
        if self._characters > LONGEST_SCHEMA:
            raise ValueError("a schema of too many characters")


class _Refused(Exception):
    """The registry answered, and the answer is no."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _subject(topic: str) -> str:
    return f"{topic}-value"


def _ask(client: SchemaRegistryClient, call: Callable[..., T], *arguments: Any) -> T:
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
        problem = _in_words(status)
    except Exception as error:  # noqa: BLE001 - httpx, its successor, authlib: whichever the library uses, no answer came
        problem = _tls(error) or type(error).__name__
    raise SchemaSourceUnavailable(f"{_name(client)} did not answer {call.__name__} of {arguments[0]}: {problem}")


def _whole(client: SchemaRegistryClient, schema: Any) -> Any:
    """Return the schema if it is one: a portal, or a proxy, may answer anything. Raises SchemaSourceUnavailable."""
    if not isinstance(schema.schema_str, str):
        client.clear_caches()  # type: ignore[no-untyped-call] # it would be the answer from now on
        raise SchemaSourceUnavailable(f"{_name(client)} gave an answer without a schema")
    return schema


def _in_words(status: int) -> str:
    if status in _REFUSED:
        return (
            f"HTTP {status}, it refuses us: set OPTOUT_SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO, or what else it asks for"
        )
    if status in _ELSEWHERE:
        return f"HTTP {status}, it is elsewhere: set OPTOUT_SCHEMA_REGISTRY_URL to where it leads"
    if status == _NOT_FOUND:
        return "HTTP 404 without a registry's code: is the path of OPTOUT_SCHEMA_REGISTRY_URL right?"
    return f"HTTP {status}"


def _tls(error: BaseException | None) -> str | None:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            reason = error.reason or "it gives no reason"
            return f"TLS fails ({reason}): does OPTOUT_SCHEMA_REGISTRY_SSL_CA_LOCATION name whom to trust?"
        error = error.__cause__ or error.__context__
    return None


def _name(client: SchemaRegistryClient) -> str:
    """Return the registry's name for a person: where it is, without a password that its address may hold."""
    config = client.config() if hasattr(client, "config") else {}  # type: ignore[no-untyped-call]
    places = [urlsplit(url.strip()) for url in str(config.get("url", "")).split(",")]
    shown = ",".join(
        f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path}" for place in places if place.netloc
    )
    return f"the schema registry {shown}".rstrip()


def _finding() -> Callable[..., Any]:
    """Return the client library's own way of finding what a schema refers to.

    Taken at the start: a library without it must not make schemas out to be unknown. Raises SchemaError.
    """
    try:
        found: Callable[..., Any] = import_module("confluent_kafka.schema_registry.avro")._resolve_named_schema  # noqa: SLF001
    except (ImportError, AttributeError):
        raise SchemaError(
            "this version of confluent-kafka cannot resolve references of schemas: install sms-optout[registry] anew"
        ) from None
    return found


def _library() -> ModuleType:
    try:
        return import_module("confluent_kafka.schema_registry")
    except ImportError:
        raise SchemaError("a schema registry needs an extra: install sms-optout[registry]") from None
