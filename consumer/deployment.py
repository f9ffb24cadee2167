"""What the settings describe: the clients of Kafka and Redis, the topics, the codec and the ledger.

Nothing here runs. Raises, each in a sentence, what `FAULTS` lists, and ConfigurationError for a setting that is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consumer.domain.buckets import bucket_prefix, meta_key
from consumer.domain.events import KeywordRecord, Skip
from consumer.domain.skips import Skips
from consumer.guarding import misunderstood, sentinel_url
from consumer.kafka import sizes, topics, upstream
from consumer.kafka.cluster import connect, partitions_by_topic
from consumer.kafka.committed import KeptOffsets, Partition, names_a_ledger
from consumer.kafka.errors import KafkaGone
from consumer.kafka.probe import Probe
from consumer.ledger import Ledger, LedgerFault
from consumer.nodes import BadURL, ask, nodes_at
from consumer.ops import logs
from consumer.settings import ConfigurationError
from consumer.skips import Allowed, SkipLog
from consumer.suppression.answers import OtherLedger
from consumer.suppression.scripts import ViewAway, ViewUnavailable
from consumer.wire import registry
from consumer.wire.codec import Codec
from consumer.wire.errors import SchemaError, SchemaSourceUnavailable
from consumer.wire.lookups import Lookups
from consumer.wire.schemas import Schemas, schemas_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from consumer.kafka.cluster import AdminClient
    from consumer.nodes import Nodes
    from consumer.settings import Settings
    from consumer.wire.schemas import SchemaSource

FAULTS = (KafkaGone, LedgerFault, OtherLedger, SchemaError, SchemaSourceUnavailable, topics.TopicError, ViewUnavailable)
"""What the parts of a deployment raise, each in a sentence, when they are wrong or out of reach."""


ASKED_WITHIN = 10.0
HUNG_MS = 10_000
"""After how long a broker that took a request and does not answer is given up, and another one asked. The client's
default of a minute is as long as nobody would vouch."""


def in_words(fault: Exception) -> str:
    """Return what a person is told of one of FAULTS."""
    if isinstance(fault, ViewAway):
        return (
            f"Redis does not answer ({fault}): is it running, and is OPTOUT_REDIS_URL right? `optout check-config` "
            "names the server"
        )
    return str(fault)


def redis_nodes(settings: Settings) -> Nodes:
    """Return the servers that hold the view. They are connected to when first used. Raises ConfigurationError."""
    url = settings.require_redis()

    def connect(address: str) -> redis.Redis:
        return redis.Redis.from_url(
            address,
            socket_timeout=settings.redis_timeout,
            socket_connect_timeout=settings.redis_timeout,
            retry=Retry(NoBackoff(), 0),
        )

    mode, service = settings.redis_mode, settings.redis_service
    try:
        return nodes_at(url, connect, mode=mode, service=service, sentinel_url=sentinel_url(settings))
    except BadURL as problem:
        raise misunderstood(settings, problem) from None


def client_config(settings: Settings) -> dict[str, Any]:
    """Return what every Kafka client of ours is built with."""
    return {"logger": logs.librdkafka(), **settings.require_kafka()}


def asking_config(settings: Settings) -> dict[str, Any]:
    """Return what those clients are built with besides that ask, and can ask another broker where one hangs.

    That of transactions keeps the client's own: it must not be longer than a transaction may last.
    """
    return {"socket.timeout.ms": HUNG_MS, **client_config(settings)}


def limits(settings: Settings, admin: AdminClient, *names: str) -> dict[str, int]:
    """Return what each of these topics takes; nothing where a broker knows no settings of topics, for trying out.

    Nor of a topic whose settings this user may not read, as with rights of a version that did not ask for them: the
    client's own limits hold there, and the log says so. Raises TopicError.
    """
    found: dict[str, int] = {}
    for name in () if settings.ledger_id else names:
        try:
            found |= sizes.limits(admin, [name])
        except topics.MayNotAsk as problem:
            logs.logger("kafka").warning(
                "how large its records may be is not known, so the client's own limits hold: give the right that "
                "`optout kafka-acl` prints",
                topic=name,
                reason=str(problem),
            )
    return found


def reading_config(settings: Settings, *names: str) -> dict[str, Any]:
    """Return what clients are built with that read these topics, as workers do: they take what a topic takes.

    Raises KafkaGone and TopicError.
    """
    return sizes.consuming(client_config(settings), limits(settings, admin_client(settings), *names))


def probing(config: Mapping[str, Any]) -> Callable[[Partition, int, int], int]:
    """Return what says where a partition can be read on; see Probe. The configuration is that of who reads it."""

    def goes_on(partition: Partition, offset: int, limit: int) -> int:
        with Probe(config) as probe:
            return probe.goes_on(partition, offset, limit)

    return goes_on


def admin_client(settings: Settings) -> AdminClient:
    """Return an admin client that has met the cluster. Raises KafkaGone where it cannot."""
    return connect(asking_config(settings))


def topic_specs(settings: Settings) -> list[topics.TopicSpec]:
    """Return every topic under its configured name."""
    names: dict[str, str | Sequence[str]] = {
        "inbound": settings.inbound_topics,
        "opt_out_requested": settings.opt_out_requested_topic,
        "keyword_ledger": settings.keyword_ledger_topic,
        "subscription_changed": settings.subscription_changed_topic,
        "confirmation_requested": settings.confirmation_requested_topic,
        "review_requested": settings.review_requested_topic,
        "dead_letter": settings.dead_letter_topic,
        "operator_action": settings.operator_action_topic,
        "skip": settings.skip_topic,
    }
    return topics.load(schemas_directory() / "topics.yaml", names, {"keyword_ledger": settings.buckets})


def registry_client(settings: Settings, **defaults: str) -> Any:
    """Return the client of the schema registry, None where none is configured. Raises ConfigurationError."""
    if settings.schema_registry_url is None:
        return None
    try:
        return registry.connect({"url": settings.schema_registry_url, **defaults, **settings.schema_registry})
    except (ValueError, TypeError, OSError):
        # Not quoted: it could hold a password.
        raise ConfigurationError(
            "OPTOUT_SCHEMA_REGISTRY_URL, or a property of the registry's client, cannot be understood: write "
            "http://host:port and the client's own names, or leave the variable out where there is no registry"
        ) from None


def subjects(settings: Settings) -> dict[str, str]:
    """Return the topic under whose subject each record's schema is registered."""
    return {spec.schema: spec.name for spec in reversed(topic_specs(settings)) if spec.schema}


def codec(settings: Settings) -> Codec:
    """Return the codec, with ids from the registry where one is configured, from the files otherwise."""
    local = Schemas()
    client = registry_client(settings)
    source: SchemaSource = local if client is None else registry.RegistrySchemas(client, local, subjects(settings))
    return Codec(source)


def codec_of_a_loop(settings: Settings) -> tuple[Codec, Lookups | None]:
    """Return a codec for a loop that must not wait for a registry, and what asks it beside; None where there is none.

    Each loop has its own: what comes in under ids that nobody knows must not shorten the patience for the ledger's.
    """
    client = registry_client(settings, **{"max.retries": "0"})  # it is asked again by what asks
    if client is None:
        return Codec(Schemas()), None
    lookups = Lookups(registry.RegistrySchemas(client, Schemas(), subjects(settings)))
    return Codec(lookups), lookups


def open_ledger(settings: Settings, admin: AdminClient, decoding: Codec) -> Ledger:
    """Return the ledger, after holding it against what a ledger must be (L1). Raises LedgerFault and TopicError."""
    if settings.ledger_id is None and (faults := ledger_faults(settings, admin)):
        raise LedgerFault("; ".join(faults))
    if settings.unsafe_ledger:
        logs.logger("ledger").warning("OPTOUT_UNSAFE_LEDGER is set: a broker that is lost takes opt-outs with it")
    return _ledger(settings, admin, decoding)


def ledger_faults(settings: Settings, admin: AdminClient) -> list[str]:
    """Return, in words, what is not as a ledger must be (L1). Raises KafkaGone, TopicError."""
    spec = next(spec for spec in topic_specs(settings) if spec.is_ledger)
    return topics.ledger_faults(admin, spec, unsafe_ledger=settings.unsafe_ledger)


def inbound_faults(settings: Settings, admin: AdminClient) -> list[str]:
    """Return, in words, how inbound's topics are set so that texts can be lost unread. Raises KafkaGone, TopicError."""
    known = partitions_by_topic(admin)
    names = [name for name in settings.inbound if name in known]
    return [fault for name in names for fault in upstream.inbound_faults(name, topics.topic_configs(admin, name))]


def ledger_as_it_is(settings: Settings) -> Ledger:
    """Return the ledger for somebody who only looks: unsafe settings are no reason to show nothing.

    Raises KafkaGone, TopicError.
    """
    admin = admin_client(settings)
    _check_buckets(settings, partitions_by_topic(admin))
    return _ledger(settings, admin, codec(settings))


def _ledger(settings: Settings, admin: AdminClient, decoding: Codec) -> Ledger:
    topic = settings.keyword_ledger_topic
    return Ledger(
        topic=topic,
        topic_id=settings.ledger_id or topics.topic_id(admin, topic),
        buckets=settings.buckets,
        group=settings.appliers,
        decode=lambda value: decoding.decode(KeywordRecord, value),
        confirms=settings.confirmations == "ours",
    )


def allowed(settings: Settings, ledger: Ledger) -> Allowed:
    """Return what operators let pass in the ledger, all of it read. Raises KafkaGone, SchemaSourceUnavailable."""
    there = settings.skip_topic in partitions_by_topic(admin_client(settings))  # else nobody ever skipped anything
    found = Allowed([Skips(ledger.topic, ledger.topic_id)], skip_log(settings) if there else None)
    found.read_all()
    return found


def skip_log(settings: Settings) -> SkipLog:
    """Return the topic of skips, to be read from its beginning."""
    decoding = codec(settings)
    return SkipLog(client_config(settings), settings.skip_topic, lambda value: decoding.decode(Skip, value))


def check_topics(settings: Settings, admin: AdminClient) -> None:
    """Refuse missing topics, and another number of buckets than the ledger has partitions. Raises TopicError."""
    found = partitions_by_topic(admin)
    missing = [spec.name for spec in topic_specs(settings) if spec.name not in found]
    if missing:
        raise _no_topic(missing)
    _check_buckets(settings, found)


def _no_topic(names: Sequence[str]) -> topics.TopicError:
    return topics.TopicError(f"there is no topic {', '.join(names)}: run `optout topics create`")


def _check_buckets(settings: Settings, found: Mapping[str, int]) -> None:
    """Refuse a ledger that is not there, or of another number of partitions: a location would be looked for wrongly."""
    ledger = settings.keyword_ledger_topic
    if ledger not in found:
        raise _no_topic([ledger])
    if found[ledger] != settings.buckets:
        raise topics.TopicError(
            f"the ledger {ledger} has {found[ledger]} partitions and OPTOUT_BUCKETS is {settings.buckets}: they must "
            "be the same"
        )


def _refuse_a_second_ledger(settings: Settings, found: Mapping[str, int]) -> None:
    """Refuse an empty ledger where one was: whoever lost it must not be told that all is well. Raises LedgerFault."""
    if settings.keyword_ledger_topic in found:
        return
    traces = []
    if settings.redis_url is not None and _redis_knows_a_ledger(settings):
        traces.append("Redis holds the view of one")
    reader = KeptOffsets(asking_config(settings), settings.classifiers)
    inbound = [Partition(topic, number) for topic in settings.inbound for number in range(found.get(topic, 0))]
    try:
        committed = reader.both(inbound, ASKED_WITHIN)
    except TimeoutError as problem:
        raise KafkaGone(f"it is not known whether inbound was read into a ledger before: {problem}") from None
    finally:
        reader.close()
    if any(one is not None and names_a_ledger(one.note) for both in committed.values() for one in both):
        traces.append(f"the group {settings.classifiers} has read inbound into one")
    if traces:
        raise LedgerFault(
            f"there is no topic {settings.keyword_ledger_topic}, but {' and '.join(traces)}: it was deleted, or "
            "has another name, and an empty one would forget its opt-outs; restore it (what Redis holds may be the "
            "last copy), or, to begin anew on purpose, set an OPTOUT_GROUP of its own and another Redis database"
        )


def _redis_knows_a_ledger(settings: Settings) -> bool:
    keys = [meta_key(bucket_prefix(bucket, settings.buckets)) for bucket in range(settings.buckets)]
    answers = ask(redis_nodes(settings), [(key, ("HGET", key, "log")) for key in keys])
    return any(answer is not None and not isinstance(answer, Exception) for answer in answers)


def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing and register the schemas; return what was created, in words.

    Raises TopicError, SchemaError or LedgerFault.
    """
    admin = admin_client(settings)
    specs = topic_specs(settings)
    if settings.ledger_id is None:
        _refuse_a_second_ledger(settings, partitions_by_topic(admin))
    made = topics.create_missing(admin, specs, unsafe_ledger=settings.unsafe_ledger)
    if faults := ledger_faults(settings, admin):
        raise LedgerFault("; ".join(faults))
    done = [f"created {name}" for name in made]
    client = registry_client(settings)
    if client is not None:
        # An inbound topic that was there has upstream's schema, if there is one, which is read as it is.
        foreign = {topic for topic in settings.inbound_topics if topic not in made and registry.is_taken(client, topic)}
        ours = {spec.name: spec.schema for spec in specs if spec.schema and spec.name not in foreign}
        ids = registry.register(client, Schemas(), ours)
        done += [f"registered {subject} under id {schema_id}" for subject, schema_id in ids.items()]
    return done
