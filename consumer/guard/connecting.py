"""How a guard reaches its Redis: a URL, how the servers are arranged, and how long it waits for them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import redis
from redis import asyncio as aioredis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consumer.guard.aioconnections import AsideConnection, PromptTLSConnection
from consumer.nodes import nodes_at
from consumer.nodes.deadline import BOUNDED, BoundedConnection

if TYPE_CHECKING:
    from consumer.nodes import Mode, Node, Nodes

MOST_THREADS = 10_000
"""Connections of a guard at most: one for each thread that asks at the same time."""
AT_ONCE = 50
"""Connections of an asynchronous guard at most; whoever finds none free waits, within the timeout."""


ASIDE: dict[Any, Any] = {
    aioredis.Connection: AsideConnection,
    aioredis.SSLConnection: PromptTLSConnection,
}


@dataclass(frozen=True, slots=True)
class Connecting:
    """A URL of Redis and what goes with it."""

    url: str = field(repr=False)
    mode: Mode = "standalone"
    service: str = ""
    sentinel_url: str = field(default="", repr=False)
    timeout: float = 1.0
    connect_timeout: float | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a timeout that is none, and for a mode that there is not."""
        for name, seconds in (("timeout", self.timeout), ("connect_timeout", self.connect_timeout)):
            if seconds is not None and not 0 < seconds < math.inf:
                raise ValueError(f"{name} must be a positive number of seconds")
        if self.mode not in ("standalone", "sentinel", "cluster"):
            raise ValueError("mode is one of standalone, sentinel, cluster")

    def nodes(self) -> Nodes:
        """Return the servers. They are connected to when first used. Raises ValueError for what is no URL of Redis."""
        return nodes_at(self.url, self._client, mode=self.mode, service=self.service, sentinel_url=self.sentinel_url)

    def _client(self, url: str) -> redis.Redis:
        """Return a client of the server at a URL.

        A connection that was closed meanwhile is made once more; a Redis that does not answer is not asked again.
        """
        return redis.Redis.from_url(
            url,
            connection_class=BOUNDED.get(urlsplit(url).scheme, BoundedConnection),
            max_connections=MOST_THREADS,
            protocol=2,
            socket_timeout=self.timeout,
            socket_connect_timeout=self.connect_timeout or self.timeout,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )

    def async_pool(self, node: Node) -> aioredis.ConnectionPool:
        """Return how an asynchronous connection to a server is made. Its deadline is the asker's to keep."""
        pool = aioredis.ConnectionPool.from_url(
            node.url,
            protocol=2,
            socket_timeout=None,  # else redis-py sends by asyncio.wait_for, which before Python 3.12 swallows a cancel
            socket_connect_timeout=self.connect_timeout or self.timeout,
            retry=aioredis.retry.Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
        pool.connection_class = ASIDE.get(pool.connection_class, pool.connection_class)
        return pool
