"""The composition root: settings to clients to worker. Only this builds clients."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consumer import worker
from consumer.applier import Applier
from consumer.changes import Changes
from consumer.classifier import Classifier
from consumer.domain.bad_records import BadRecords
from consumer.domain.events import (
    ConfirmationRequested,
    KeywordRecord,
    ReviewRequested,
    SubscriptionChanged,
)
from consumer.domain.keywords import Keywords
from consumer.guard import Guard
from consumer.intake import Intake, Topics
from consumer.kafka import topics
from consumer.kafka.cluster import connect, partitions_by_topic
from consumer.kafka.errors import KafkaGone
from consumer.kafka.inbox import CommittedReader, Inbox
from consumer.kafka.offsets import Offsets
from consumer.kafka.producers import LedgerProducer, PlainOutbox, TransactionalOutbox
from consumer.ledger import Ledger, LedgerFault
from consumer.nodes import OneNode, cluster_at
from consumer.ops import logs
from consumer.ops.complaints import Complaints
from consumer.ops.health import Health, application, listening
from consumer.ops.losses import Losses
from consumer.ops.metrics import Metrics
from consumer.publisher import Publisher
from consumer.settings import ConfigurationError
from consumer.suppression.scripts import ViewRefused, ViewUnavailable
from consumer.suppression.view import OtherLedger, View
from consumer.voucher import Voucher
from consumer.wire import registry
from consumer.wire.codec import Codec
from consumer.wire.errors import SchemaError, SchemaSourceUnavailable
from consumer.wire.schemas import Schemas, schemas_directory

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

    from consumer.kafka.cluster import AdminClient
    from consumer.kafka.producers import Publishing
    from consumer.nodes import Nodes
    from consumer.settings import Settings
    from consumer.wire.schemas import SchemaSource

FAULTS = (KafkaGone, LedgerFault, OtherLedger, SchemaError, SchemaSourceUnavailable, topics.TopicError, ViewUnavailable)
"""What the parts of a deployment raise, each in a sentence, when they are wrong or out of reach."""

SESSION_MS = 10_000
"""How long a dead member keeps its partitions. The client's default of 45 s would be a long time without an owner."""
REFRESH_MS = 10_000
"""How long inbound's new partitions may stay unknown to the group: they hold freshness back until they are read, and
the client's default of five minutes is as long as guards wait before they answer UNKNOWN."""

READING_LEDGER = {
    "queued.min.messages": 2000,
    "queued.max.messages.kbytes": 8192,
    "fetch.message.max.bytes": 262_144,
    "fetch.max.bytes": 4_194_304,
    "fetch.wait.max.ms": 100,
}
"""What an applier fetches ahead: little, for in a replay a new STOP waits behind all of it, and it is memory. While one
bucket's part of the queue is full a fetch waits for the others, so it must not wait for long."""


def redis_nodes(settings: Settings) -> Nodes:
    """Return the servers that hold the view. They are connected to when first used. Raises ConfigurationError."""
    url = settings.require_redis()

    def connect(address: str) -> redis.Redis:
        client = redis.Redis.from_url(
            address,
            socket_timeout=settings.redis_timeout,
            socket_connect_timeout=settings.redis_timeout,
            retry=Retry(NoBackoff(), 0),
        )
        client.connection_pool.make_connection()  # connects to nothing yet, but refuses options that do not exist
        return client

    cluster = settings.redis_mode == "cluster"
    try:
        return cluster_at(url, connect) if cluster else OneNode(connect(url))
    except (ValueError, TypeError, UnicodeError):
        # Not quoted: parts of a password could be.
        raise ConfigurationError(
            f"OPTOUT_REDIS_URL cannot be understood: write redis://user:password@host:port{'' if cluster else '/0'}, "
            "special characters of the password percent-encoded"
            + (" (a cluster has no database but 0)" if cluster else "")
        ) from None


def guard(settings: Settings) -> Guard:
    """Return the guard that these settings describe."""
    redis_nodes(settings)  # refuses, in a sentence, what is no URL
    return Guard.from_url(
        settings.require_redis(),
        timeout=settings.redis_timeout,
        cluster=settings.redis_mode == "cluster",
        buckets=settings.buckets,
        max_staleness=settings.max_staleness,
        region=settings.region,
    )


def admin_client(settings: Settings) -> AdminClient:
    """Return an admin client that has met the cluster. Raises KafkaGone where it cannot."""
    return connect(client_config(settings))


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
    }
    return topics.load(schemas_directory() / "topics.yaml", names, {"keyword_ledger": settings.buckets})


def registry_client(settings: Settings) -> Any:
    """Return the client of the schema registry, None where none is configured. Raises ConfigurationError."""
    if settings.schema_registry_url is None:
        return None
    try:
        return registry.connect({"url": settings.schema_registry_url, **settings.schema_registry})
    except ValueError:
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


def open_ledger(settings: Settings, admin: AdminClient, decoding: Codec) -> Ledger:
    """Return the ledger, after holding it against what a ledger must be (L1). Raises LedgerFault and TopicError."""
    if settings.ledger_id is None and (faults := _ledger_faults(settings, admin)):
        raise LedgerFault("; ".join(faults))
    if settings.unsafe_ledger:
        logs.logger("ledger").warning("OPTOUT_UNSAFE_LEDGER is set: a broker that is lost takes opt-outs with it")
    return _ledger(settings, admin, decoding)


def _ledger_faults(settings: Settings, admin: AdminClient) -> list[str]:
    spec = next(spec for spec in topic_specs(settings) if spec.is_ledger)
    return topics.ledger_faults(admin, spec, unsafe_ledger=settings.unsafe_ledger)


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
    )


def run_worker(settings: Settings, only: Literal["classify", "apply"] | None = None) -> int:
    """Run the worker until it is told to stop; return the exit code.

    Raises ConfigurationError, KafkaGone, TopicError, SchemaError or LedgerFault before anything has begun.
    """
    confirmations = settings.require_confirmations()
    ops = Ops(metrics := Metrics(), Health(metrics))
    if only != "classify":
        ops.health.expect("apply", "publish", "vouch")
    if only != "apply":
        ops.health.expect("classify")
    with ExitStack() as until:
        _listen(settings, ops, until)
        return _run(settings, only, confirmations, ops)


@dataclass(frozen=True, slots=True)
class Ops:
    """What the parts of a worker say of themselves, and to whom."""

    metrics: Metrics
    health: Health


def _listen(settings: Settings, ops: Ops, until: ExitStack) -> None:
    """Answer probes and scrapers meanwhile, if that is wanted. Raises ConfigurationError."""
    if settings.ops_listen is None:
        return
    host, port = settings.ops_listen
    try:
        address = until.enter_context(listening(host, port, application(ops.metrics, ops.health)))
    except OSError as problem:
        raise ConfigurationError(
            f"OPTOUT_OPS_LISTEN: {host}:{port} cannot be listened on ({problem.strerror or problem}): name another "
            "port, one for each worker of a machine"
        ) from None
    logs.logger("worker").info("answering /livez, /readyz and /metrics", host=address[0], port=address[1])


def _run(
    settings: Settings, only: Literal["classify", "apply"] | None, confirmations: Literal["ours", "provider"], ops: Ops
) -> int:
    admin = admin_client(settings)
    _check_topics(settings, admin)
    encoding = codec(settings)
    source = open_ledger(settings, admin, encoding)
    parts: dict[str, worker.Part] = {}
    if only != "classify":  # first: it looks whose view Redis holds before anything is written to the ledger
        encoding.prepare(SubscriptionChanged, ConfirmationRequested)
        parts["apply"] = _apply(settings, admin, encoding, source, confirmations, ops)
    if only != "apply":
        encoding.prepare(KeywordRecord, ReviewRequested)
        parts["classify"] = _classify(settings, encoding, source, ops)
    return worker.run(parts, shutdown_seconds=settings.shutdown_seconds, log=logs.logger("worker"))


def _check_topics(settings: Settings, admin: AdminClient) -> None:
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


def _consumer_config(settings: Settings, group: str) -> dict[str, Any]:
    ours = {"session.timeout.ms": SESSION_MS, "topic.metadata.refresh.interval.ms": REFRESH_MS}
    return {**ours, **client_config(settings), "group.id": group}


def client_config(settings: Settings) -> dict[str, Any]:
    """Return what every Kafka client of ours is built with."""
    return {"logger": logs.librdkafka(), **settings.require_kafka()}


def _classify(settings: Settings, encoding: Codec, source: Ledger, ops: Ops) -> worker.Part:
    log = logs.logger("classify")
    intake = Intake(
        codec=encoding,
        keywords=Keywords(),
        topics=Topics(
            ledger=settings.keyword_ledger_topic,
            reviews=settings.review_requested_topic,
            dead_letters=settings.dead_letter_topic,
            requests=settings.opt_out_requested_topic,
        ),
        buckets=settings.buckets,
        region=settings.region,
    )

    def run(stop: threading.Event) -> None:
        producer = LedgerProducer(client_config(settings), Complaints(log).kafka)
        classifier = Classifier(
            intake=intake,
            producer=producer,
            ledger_id=source.topic_id,
            metrics=ops.metrics,
            health=ops.health,
            log=log,
            limits=BadRecords(settings.dead_letters_in_a_row, settings.dead_letters_share),
        )
        inbox = Inbox(_consumer_config(settings, settings.classifiers), Complaints(log).kafka)
        inbox.subscribe(settings.inbound, classifier)
        try:
            classifier.run(inbox, stop)
        finally:
            inbox.close()

    return run


def _apply(  # noqa: PLR0917 - what the root has at hand
    settings: Settings,
    admin: AdminClient,
    encoding: Codec,
    source: Ledger,
    confirmations: Literal["ours", "provider"],
    ops: Ops,
) -> worker.Part:
    log = logs.logger("apply")
    view = View(redis_nodes(settings), buckets=settings.buckets, ledger=source.identity, timed=ops.metrics.time_script)
    _look_at_view(view, settings.buckets)
    changes = Changes(
        source,
        encoding,
        changed=settings.subscription_changed_topic,
        confirmations=settings.confirmation_requested_topic if confirmations == "ours" else None,
    )

    losses = Losses(ops.metrics, logs.logger("losses"))

    def run(stop: threading.Event) -> None:
        inbox = Inbox(READING_LEDGER | _consumer_config(settings, settings.appliers), Complaints(log).kafka)
        publisher = Publisher(
            view=view,
            inbox=inbox,
            committed=CommittedReader(client_config(settings), settings.appliers),
            outbox=_publishing(settings, inbox),
            render=changes.records,
            ledger=source.topic,
            metrics=ops.metrics,
            health=ops.health,
            losses=losses,
            log=logs.logger("publish"),
        )
        voucher = Voucher(
            view=view,
            inbox=inbox,
            offsets=Offsets(admin, CommittedReader(client_config(settings), settings.classifiers)),
            ledger=source,
            inbound=settings.inbound,
            published=publisher.published,
            topic_id=None if settings.ledger_id else lambda: topics.topic_id(admin, source.topic),
            unsafe=lambda: _ledger_faults(settings, admin),
            metrics=ops.metrics,
            health=ops.health,
            losses=losses,
            log=logs.logger("vouch"),
        )
        applier = Applier(
            view=view,
            ledger=source,
            published=publisher.published,
            notice_publisher=publisher.notice,
            take_doubts=voucher.take_doubts,
            wake_voucher=voucher.wake,
            metrics=ops.metrics,
            health=ops.health,
            losses=losses,
            log=log,
        )
        if not applier.await_view(range(settings.buckets), stop):
            return
        inbox.subscribe([source.topic], applier)
        beside = worker.Parts({"publish": publisher.run, "vouch": voucher.run}, stop, log)
        beside.start()
        try:
            applier.run(inbox, stop)
        finally:
            stop.set()
            voucher.wake()
            # What the publisher took is sent under our membership, so the group is left last; it has half the time.
            if not beside.join(time.monotonic() + settings.shutdown_seconds / 2):
                log.warning("a part did not end in time: what it had begun is taken up by the next owner")
            inbox.close()
        if beside.failed:
            raise worker.PartFailed("a part of this stage failed, see above")

    return run


def _look_at_view(view: View, buckets: int) -> None:
    """Raise OtherLedger for a Redis that holds another ledger's view, ConfigurationError for one that refuses us."""
    try:
        view.metas(range(buckets))
    except ViewRefused as problem:
        raise ConfigurationError(str(problem)) from None
    except ViewUnavailable:
        return  # away: the applier waits for it, and looks again with every call


def _publishing(settings: Settings, inbox: Inbox) -> Publishing:
    if settings.publish == "transactions":
        return TransactionalOutbox(client_config(settings))
    return PlainOutbox(client_config(settings), inbox)


def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing and register the schemas; return what was created, in words.

    Raises TopicError, SchemaError or LedgerFault.
    """
    admin = admin_client(settings)
    specs = topic_specs(settings)
    made = topics.create_missing(admin, specs, unsafe_ledger=settings.unsafe_ledger)
    if faults := _ledger_faults(settings, admin):
        raise LedgerFault("; ".join(faults))
    done = [f"created {name}" for name in made]
    client = registry_client(settings)
    if client is not None:
        # An inbound topic that was there has upstream's schema, which is read as it is.
        foreign = set(settings.inbound_topics) - set(made)
        ours = {record: topic for record, topic in subjects(settings).items() if topic not in foreign}
        ids = registry.register(client, Schemas(), ours)
        done += [f"registered {subject} under id {schema_id}" for subject, schema_id in ids.items()]
    return done
