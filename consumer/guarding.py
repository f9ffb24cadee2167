"""The guard that the settings describe. Needs nothing of Kafka, as whoever only asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumer.guard import AsyncGuard, Guard
from consumer.guard.connecting import Connecting
from consumer.nodes import BadURL
from consumer.settings import ConfigurationError

if TYPE_CHECKING:
    from consumer.settings import Settings


def guard(settings: Settings) -> Guard:
    """Return the guard that these settings describe. Raises ConfigurationError."""
    connecting, believed = _guards(settings)
    return Guard(connecting.nodes(), timeout=connecting.timeout, **believed)


def async_guard(settings: Settings) -> AsyncGuard:
    """Return the guard that these settings describe, for asyncio. Raises ConfigurationError."""
    connecting, believed = _guards(settings)
    return AsyncGuard(connecting, **believed)


def _guards(settings: Settings) -> tuple[Connecting, dict[str, Any]]:
    """Return how a guard connects, and what it believes. Raises ConfigurationError."""
    try:
        connecting = Connecting(
            settings.require_redis(),
            settings.redis_mode,
            settings.redis_service,
            sentinel_url(settings),
            settings.redis_timeout,
        )
        connecting.nodes()  # refuses what is no URL
    except BadURL as problem:
        raise misunderstood(settings, problem) from None
    believed = {"buckets": settings.buckets, "max_staleness": settings.max_staleness, "region": settings.region}
    return connecting, believed


def misunderstood(settings: Settings, problem: BadURL) -> ConfigurationError:
    """Return what is said of a URL of Redis that is none."""
    written = {
        "standalone": "redis://user:password@host:port/0",
        "sentinel": "redis://user:password@sentinel-1:26379,sentinel-2:26379/0",
        "cluster": "redis://user:password@node-1:6379,node-2:6379 (a cluster has no database but 0)",
    }
    # Not quoted: parts of a password could be.
    return ConfigurationError(
        f"OPTOUT_REDIS_URL cannot be understood: {problem}; write {written[settings.redis_mode]}, special characters "
        "of the password percent-encoded"
        + (", and OPTOUT_REDIS_SENTINEL_URL alike, if it is set" if settings.redis_mode == "sentinel" else "")
    )


def sentinel_url(settings: Settings) -> str:
    """Return the URL with user and password of the Sentinels; empty where they have none."""
    url = settings.redis_sentinel_url
    return "" if url is None else url.get_secret_value().replace("#", "%23")
