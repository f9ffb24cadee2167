"""Everything that can be wrong with a deployment's settings, found before a worker stands on them."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import redis

from consumer import deployment
from consumer.domain.events import ConfirmationRequested, KeywordRecord, ReviewRequested, SubscriptionChanged
from consumer.kafka import topics
from consumer.kafka.cluster import partitions_by_topic
from consumer.kafka.committed import KeptOffsets, Partition
from consumer.kafka.errors import KafkaGone
from consumer.kafka.offsets import Offsets, OffsetsUnavailable
from consumer.kafka.reader import OpenTransaction
from consumer.ledger import LedgerFault, check_ledger
from consumer.nodes import WrongMode
from consumer.open_transactions import open_for_long
from consumer.ops import logs
from consumer.published import Published
from consumer.settings import ConfigurationError, load
from consumer.size_checks import size_faults
from consumer.suppression.scripts import ViewAway, ViewRefused, unavailable
from consumer.suppression.view import View

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from consumer.kafka.cluster import AdminClient
    from consumer.ledger import Ledger
    from consumer.settings import Settings
    from consumer.suppression.answers import Meta

OLDEST_REDIS = 7


def check_config() -> list[str]:
    """Return a sentence for everything that is wrong; an empty list where all is well."""
    try:
        settings = load()
    except ConfigurationError as wrong:
        return list(wrong.faults)
    faults = _missing(settings)
    for check in (_redis_faults, _kafka_faults):
        faults += [fault for fault in _said(check(settings)) if fault not in faults]
    return faults


def _said(check: Iterable[str]) -> Iterator[str]:
    """Pass on what a check finds, and say what it meets on its way: what it found before is not to be lost with it."""
    try:
        yield from check
    except ConfigurationError as wrong:
        yield from wrong.faults
    except deployment.FAULTS as fault:
        yield str(fault)


def _missing(settings: Settings) -> list[str]:
    faults: list[str] = []
    for required in (settings.require_kafka, settings.require_redis, settings.require_confirmations):
        try:
            required()
        except ConfigurationError as wrong:
            faults += wrong.faults
    return faults


def _redis_faults(settings: Settings) -> Iterator[str]:
    cluster = settings.redis_mode == "cluster"
    try:
        servers = deployment.redis_nodes(settings).all()
    except WrongMode as problem:
        yield str(problem)
        return
    except (redis.RedisError, OSError) as problem:
        sentinel = settings.redis_mode == "sentinel"
        yield _unnamed(settings, problem) if sentinel else _unreachable("Redis", problem)
        return
    for server in servers:
        name = f"Redis {server.name}" if cluster else "Redis"
        try:
            yield from _server_faults(name, server.client.info(), settings)
            if cluster:
                yield from _cluster_faults(name, server.client)
        except (redis.RedisError, OSError) as problem:
            yield _unreachable(name, problem)


def _unreachable(name: str, problem: Exception) -> str:
    said = unavailable(problem)
    if isinstance(said, ViewRefused):
        return str(said).replace("Redis", name, 1)
    return f"{name} cannot be reached ({said}): is it running, and is OPTOUT_REDIS_URL right?"


def _unnamed(settings: Settings, problem: Exception) -> str:
    said = unavailable(problem)
    if isinstance(said, ViewRefused):
        return "the Sentinels refuse our user or password: see OPTOUT_REDIS_SENTINEL_URL"
    return (
        f"no Sentinel names a primary of {settings.redis_service} ({said}): do they run, and it, and is "
        "OPTOUT_REDIS_URL right?"
    )


def _server_faults(name: str, info: Mapping[str, Any], settings: Settings) -> list[str]:
    if info.get("cluster_enabled") and settings.redis_mode != "cluster":
        return ["this Redis is a node of a cluster: set OPTOUT_REDIS_MODE to cluster"]
    if "sentinel" in (info.get("redis_mode"), info.get("server_mode")):
        return ["OPTOUT_REDIS_URL names a Sentinel: set OPTOUT_REDIS_MODE to sentinel"]
    faults = []
    version = str(info["redis_version"])
    if int(version.split(".", maxsplit=1)[0]) < OLDEST_REDIS:
        faults.append(f"{name} is of version {version}: {OLDEST_REDIS}.0 is the oldest that works")
    if info["maxmemory_policy"] != "noeviction":
        faults.append(
            f"{name} has maxmemory-policy {info['maxmemory_policy']}: set noeviction, an evicted set reads as allowed"
        )
    if not info["aof_enabled"]:
        faults.append(
            f"{name} keeps no append-only file: set appendonly yes, or each restart answers UNKNOWN for a replay"
        )
    if info["role"] != "master":
        faults.append(f"{name} is a read-only replica: OPTOUT_REDIS_URL must name the primary")
    return faults


def _cluster_faults(name: str, client: redis.Redis) -> list[str]:
    with suppress(redis.ResponseError):  # not everywhere may a client read the configuration
        if client.config_get("cluster-require-full-coverage").get("cluster-require-full-coverage") == "yes":
            return [f"{name} has cluster-require-full-coverage yes: set no, or a lost shard takes all others with it"]
    return []


def _kafka_faults(settings: Settings) -> Iterator[str]:
    admin = deployment.admin_client(settings)
    known = partitions_by_topic(admin)
    specs = deployment.topic_specs(settings)
    yield from (
        f"there is no topic {spec.name}: run `optout topics create`" for spec in specs if spec.name not in known
    )
    if settings.ledger_id is None:  # else it is a broker that knows no settings of topics, for trying out
        yield from _said(_clock_faults(settings, admin, known))
        yield from _said(deployment.inbound_faults(settings, admin))
        yield from _said(size_faults(settings, admin, known))
        yield from _said(_transaction_faults(settings, admin, known))
        yield from _said(_kept_faults(settings, admin, known))
    if settings.keyword_ledger_topic in known:
        yield from _said(_ledger_faults(settings, admin))


_CLOCKS = {
    "inbound": "set LogAppendTime, or a wrong clock decides whether a STOP or a START came last",
    "opt_out_requested": "set LogAppendTime, or a wrong clock decides whether a STOP or a START came last",
    "keyword_ledger": "set LogAppendTime, or a START that somebody writes there and dates ahead beats every later STOP",
}
"""What is wrong with writers' clocks, by the role of the topic that keeps them."""


def _clock_faults(settings: Settings, admin: AdminClient, known: Mapping[str, int]) -> Iterator[str]:
    for spec in deployment.topic_specs(settings):
        if spec.name in known and spec.role in _CLOCKS:
            kind = topics.topic_configs(admin, spec.name).get("message.timestamp.type")
            if kind != "LogAppendTime":
                yield f"{spec.name} has message.timestamp.type={kind}: {_CLOCKS[spec.role]}"


def _kept_faults(settings: Settings, admin: AdminClient, known: Mapping[str, int]) -> Iterator[str]:
    """Give a sentence for each setting by which the topic of skips could lose one."""
    if settings.skip_topic not in known:
        return
    configs = topics.topic_configs(admin, settings.skip_topic)
    for key, value in {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}.items():
        if configs.get(key) != value:
            yield (
                f"{settings.skip_topic} has {key}={configs.get(key, '')}: set {value}, or what was skipped stops its "
                "bucket again after a loss of Redis"
            )


def _ledger_faults(settings: Settings, admin: AdminClient) -> Iterator[str]:
    decoding = deployment.codec(settings)
    if settings.schema_registry_url is not None:
        decoding.prepare(KeywordRecord, ReviewRequested, SubscriptionChanged, ConfirmationRequested)
    try:
        source = deployment.open_ledger(settings, admin, decoding)
    except LedgerFault as fault:
        yield from str(fault).split("; ")
        return
    if settings.redis_url is None:
        return
    view = View(deployment.redis_nodes(settings), buckets=settings.buckets, ledger=source.identity)
    try:
        metas = {bucket: meta for bucket, meta in view.metas(range(settings.buckets)).items() if meta is not None}
    except ViewAway:
        return  # said already
    if settings.ledger_id is None:
        yield from _standing_faults(settings, admin, source, metas)


def _standing_faults(
    settings: Settings, admin: AdminClient, source: Ledger, metas: Mapping[int, Meta]
) -> Iterator[str]:
    """Tell each bucket whose ledger, or whose appliers, stand before what Redis was told. Raises KafkaGone."""
    partitions = [Partition(source.topic, bucket) for bucket in metas]
    published = {partition: metas[partition.number].published for partition in partitions}
    config = deployment.asking_config(settings)
    with (
        closing(KeptOffsets(config, settings.appliers)) as at_once,
        closing(
            Published(
                config, settings.appliers, source.topic_id, settings.subscription_changed_topic, logs.logger("checks")
            )
        ) as settled,
    ):
        offsets = Offsets(admin, at_once)
        try:
            kept = at_once.both(partitions, deployment.ASKED_WITHIN)
            starts, ends = offsets.starts(partitions), offsets.ends(partitions)
        except (OffsetsUnavailable, TimeoutError) as problem:
            raise KafkaGone(f"where {source.topic} ends, or how far it was told, is not known: {problem}") from None
        for partition in partitions:
            try:
                check_ledger(partition, starts[partition], ends[partition], metas[partition.number].applied)
                # Under load there is always a transaction to wait for. What is behind for now may be in one that was
                # committed, and is not seen yet; only that is worth waiting for.
                if (kept[partition].greatest(source.topic_id) or 0) < published[partition]:
                    _, unknown = settled.ask({partition: published[partition]}, deployment.ASKED_WITHIN)
                    for why in unknown.values():
                        raise KafkaGone(f"how far {source.topic} was told is not known: {why}")
            except LedgerFault as fault:
                yield str(fault)


def _transaction_faults(settings: Settings, admin: AdminClient, known: Mapping[str, int]) -> Iterator[str]:
    """Give a sentence for each partition of inbound and the ledger whose transaction stays open. Raises KafkaGone."""
    names = [name for name in (*settings.inbound, settings.keyword_ledger_topic) if name in known]
    partitions = [Partition(name, number) for name in names for number in range(known[name])]
    with closing(KeptOffsets(deployment.asking_config(settings), settings.classifiers)) as classified:
        try:
            held = open_for_long(Offsets(admin, classified), partitions)
        except OffsetsUnavailable as problem:
            raise KafkaGone(f"whether a transaction stays open is not known: {problem}") from None
    yield from (str(OpenTransaction(partition, at)) for partition, at in held.items())
