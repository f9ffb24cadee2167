"""Everything that can be wrong with a deployment's settings, found before a worker stands on them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis

from consumer import deployment
from consumer.domain.events import ConfirmationRequested, KeywordRecord, ReviewRequested, SubscriptionChanged
from consumer.kafka import topics
from consumer.kafka.cluster import partitions_by_topic
from consumer.kafka.errors import KafkaGone
from consumer.kafka.inbox import CommittedReader, Partition
from consumer.kafka.offsets import Offsets, OffsetsUnavailable
from consumer.ledger import LedgerFault, check_ledger, check_told
from consumer.nodes import WrongMode
from consumer.settings import ConfigurationError, Settings, load
from consumer.suppression.scripts import ViewRefused, ViewUnavailable, unavailable
from consumer.suppression.view import View

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.kafka.cluster import AdminClient
    from consumer.ledger import Ledger

OLDEST_REDIS = 7
ROOM_FOR_HEADERS = 4096
"""Bytes that the headers of a dead letter take at most, and a few to spare."""

Check = Callable[[Settings], list[str]]


def check_config() -> list[str]:
    """Return a sentence for everything that is wrong; an empty list where all is well."""
    try:
        settings = load()
    except ConfigurationError as wrong:
        return list(wrong.faults)
    faults = _missing(settings)
    for check in (_redis_faults, _kafka_faults):
        try:
            faults += check(settings)
        except ConfigurationError as wrong:
            faults += [fault for fault in wrong.faults if fault not in faults]
        except deployment.FAULTS as fault:
            faults.append(str(fault))
    return faults


def _missing(settings: Settings) -> list[str]:
    faults: list[str] = []
    for required in (settings.require_kafka, settings.require_redis, settings.require_confirmations):
        try:
            required()
        except ConfigurationError as wrong:
            faults += wrong.faults
    return faults


def _redis_faults(settings: Settings) -> list[str]:
    cluster = settings.redis_mode == "cluster"
    try:
        servers = deployment.redis_nodes(settings).all()
    except WrongMode as problem:
        return [str(problem)]
    except (redis.RedisError, OSError) as problem:
        return [_unreachable("Redis", problem)]
    faults: list[str] = []
    for server in servers:
        name = f"Redis {server.name}" if cluster else "Redis"
        try:
            faults += _server_faults(name, server.client.info(), settings)
            if cluster:
                faults += _cluster_faults(name, server.client)
        except (redis.RedisError, OSError) as problem:
            faults.append(_unreachable(name, problem))
    return faults


def _unreachable(name: str, problem: Exception) -> str:
    said = unavailable(problem)
    if isinstance(said, ViewRefused):
        return str(said).replace("Redis", name, 1)
    return f"{name} cannot be reached ({said}): is it running, and is OPTOUT_REDIS_URL right?"


def _server_faults(name: str, info: Mapping[str, Any], settings: Settings) -> list[str]:
    if info.get("cluster_enabled") and settings.redis_mode != "cluster":
        return ["this Redis is a node of a cluster: set OPTOUT_REDIS_MODE to cluster"]
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


def _kafka_faults(settings: Settings) -> list[str]:
    admin = deployment.admin_client(settings)
    known = partitions_by_topic(admin)
    specs = deployment.topic_specs(settings)
    faults = [f"there is no topic {spec.name}: run `optout topics create`" for spec in specs if spec.name not in known]
    if settings.ledger_id is not None:
        return faults
    for spec in specs:
        if spec.name in known and spec.role in ("inbound", "opt_out_requested"):
            kind = topics.topic_configs(admin, spec.name).get("message.timestamp.type")
            if kind != "LogAppendTime":
                faults.append(
                    f"{spec.name} has message.timestamp.type={kind}: set LogAppendTime, or a wrong clock decides "
                    "whether a STOP or a START came last"
                )
    faults += _size_faults(settings, admin, known)
    decoding = deployment.codec(settings)
    if settings.schema_registry_url is not None:
        decoding.prepare(KeywordRecord, ReviewRequested, SubscriptionChanged, ConfirmationRequested)
    if settings.keyword_ledger_topic in known:
        source = None
        try:
            source = deployment.open_ledger(settings, admin, decoding)
        except LedgerFault as fault:
            faults += str(fault).split("; ")
        if source is not None and settings.redis_url is not None:
            with suppress(ViewUnavailable):  # said already
                faults += _standing_faults(settings, admin, source)
    return faults


def _standing_faults(settings: Settings, admin: AdminClient, source: Ledger) -> list[str]:
    """Return a sentence for each bucket whose ledger, or whose appliers, stand before what Redis was told.

    Raises KafkaGone, OtherLedger and ViewUnavailable.
    """
    view = View(deployment.redis_nodes(settings), buckets=settings.buckets, ledger=source.identity)
    metas = {bucket: meta for bucket, meta in view.metas(range(settings.buckets)).items() if meta is not None}
    partitions = [Partition(source.topic, bucket) for bucket in metas]
    # What a transaction holds is not waited for: it lies behind what was committed before it, and that is enough here.
    committed = CommittedReader(deployment.asking_config(settings), settings.appliers, waits_for_transactions=False)
    offsets = Offsets(admin, committed)
    try:
        told = committed.all_committed(partitions, deployment.ASKED_WITHIN)
        starts, ends = offsets.starts(partitions), offsets.ends(partitions)
    except (OffsetsUnavailable, TimeoutError) as problem:
        raise KafkaGone(f"where {source.topic} ends, or how far it was told, is not known: {problem}") from None
    finally:
        committed.close()
    faults = []
    for partition in partitions:
        meta, commit = metas[partition.number], told[partition]
        try:
            check_ledger(partition, starts[partition], ends[partition], meta.applied)
            check_told(partition, commit.offset if commit else 0, meta.published)
        except LedgerFault as fault:
            faults.append(str(fault))
    return faults


def _size_faults(settings: Settings, admin: AdminClient, known: Mapping[str, int]) -> list[str]:
    """Return a sentence for each topic with records that would not fit, with our headers, into a dead letter."""
    if settings.dead_letter_topic not in known:
        return []
    limits = {
        name: int(topics.topic_configs(admin, name)["max.message.bytes"])
        for name in (settings.dead_letter_topic, *settings.inbound)
        if name in known
    }
    fits = limits.pop(settings.dead_letter_topic) - ROOM_FOR_HEADERS
    return [
        f"{name} takes records of {limit} bytes, and {settings.dead_letter_topic} would not take each of them with our "
        f"headers: set max.message.bytes={limit + ROOM_FOR_HEADERS} there, or one that cannot be read stops the worker"
        for name, limit in limits.items()
        if limit > fits
    ]
