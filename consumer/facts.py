"""What must hold of Kafka's topics and of Redis, in sentences: for `check-config`, and for workers while they run."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis

from consumer import deployment
from consumer.kafka import topics
from consumer.kafka.cluster import partitions_by_topic
from consumer.nodes import WrongMode
from consumer.size_checks import size_faults
from consumer.suppression.scripts import ViewRefused, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from consumer.kafka.cluster import AdminClient
    from consumer.settings import Settings

OLDEST_REDIS = 7


def facts(settings: Settings, admin: AdminClient) -> dict[str, Callable[[], Iterable[str]]]:
    """Return what can be looked at while workers run; each gives a sentence for everything that is wrong.

    They raise KafkaGone, TopicError and ConfigurationError.
    """

    def known() -> Mapping[str, int]:
        return partitions_by_topic(admin)

    return {
        "topics": lambda: missing_topics(settings, known()),
        "inbound": lambda: deployment.inbound_faults(settings, admin),
        "clocks": lambda: clock_faults(settings, admin, known()),
        "skips": lambda: kept_faults(settings, admin, known()),
        "sizes": lambda: size_faults(settings, admin, known()),
        "redis": lambda: redis_faults(settings),
    }


def missing_topics(settings: Settings, known: Mapping[str, int]) -> Iterator[str]:
    """Give a sentence for each topic that is not there."""
    yield from (
        f"there is no topic {spec.name}: run `optout topics create`"
        for spec in deployment.topic_specs(settings)
        if spec.name not in known
    )


def redis_faults(settings: Settings) -> Iterator[str]:
    """Give a sentence for everything that is wrong with a server, and for each that does not answer."""
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


_CLOCKS = {
    "inbound": "set LogAppendTime, or a wrong clock decides whether a STOP or a START came last",
    "opt_out_requested": "set LogAppendTime, or a wrong clock decides whether a STOP or a START came last",
    "keyword_ledger": "set LogAppendTime, or a START that somebody writes there and dates ahead beats every later STOP",
}
"""What is wrong with writers' clocks, by the role of the topic that keeps them."""


def clock_faults(settings: Settings, admin: AdminClient, known: Mapping[str, int]) -> Iterator[str]:
    """Give a sentence for each topic that keeps its writers' times where the broker's decide."""
    for spec in deployment.topic_specs(settings):
        if spec.name in known and spec.role in _CLOCKS:
            kind = topics.topic_configs(admin, spec.name).get("message.timestamp.type")
            if kind != "LogAppendTime":
                yield f"{spec.name} has message.timestamp.type={kind}: {_CLOCKS[spec.role]}"


def kept_faults(settings: Settings, admin: AdminClient, known: Mapping[str, int]) -> Iterator[str]:
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
