"""Which Redis server answers for a key: the only one, the one that Sentinels name, or the primary of a cluster's shard.

What redis-py's own cluster client does is not used to send anything: one dead node fails its whole pipeline, it learns
the slots anew within the call that failed, node by node and timeout by timeout, and it cannot be made while a shard is
away. Here a call goes to one server, once, and everything else happens beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import redis

from consumer.nodes.asking import Command, Keyed, ask, by_client
from consumer.nodes.cluster import ClusterNodes, cluster_at
from consumer.nodes.deadline import deadline
from consumer.nodes.node import Node, Nodes, OneNode, WrongMode
from consumer.nodes.sentinel import SentinelNodes, sentinel_at
from consumer.nodes.url import BadURL, addresses, check_url

if TYPE_CHECKING:
    from consumer.nodes.node import Connect

__all__ = [
    "BadURL",
    "ClusterNodes",
    "Command",
    "Keyed",
    "Mode",
    "Node",
    "Nodes",
    "OneNode",
    "SentinelNodes",
    "WrongMode",
    "ask",
    "by_client",
    "cluster_at",
    "deadline",
    "nodes_at",
    "nodes_of",
    "sentinel_at",
]

Mode = Literal["standalone", "sentinel", "cluster"]
"""How the servers of a view are arranged."""


def nodes_at(url: str, connect: Connect, *, mode: Mode, service: str = "", sentinel_url: str = "") -> Nodes:
    """Return the servers at a URL; `connect` makes a client of the one at a URL. Connects to nothing yet.

    With `cluster` the URL names some of the nodes, with `sentinel` the Sentinels of `service`: see `cluster_at` and
    `sentinel_at`. Raises BadURL for what cannot be understood, or names a certificate that cannot be read.
    """
    check_url(url)
    if mode == "cluster":
        return cluster_at(url, connect)
    if mode == "sentinel":
        if sentinel_url:
            check_url(sentinel_url, names_servers=False)
        return sentinel_at(url, service, connect, sentinel_url=sentinel_url)
    if not url.startswith("unix:") and len(addresses(url)) > 1:
        raise BadURL("a URL names several servers for a cluster or for Sentinels: say so by the mode")
    return OneNode(connect(url), url)


def nodes_of(client: redis.Redis | redis.RedisCluster | Nodes) -> Nodes:
    """Return the servers that a client of redis-py reaches. What is known of a cluster's servers is not shared."""
    if isinstance(client, redis.Redis):
        return OneNode(client)
    if not isinstance(client, redis.RedisCluster):
        if not hasattr(client, "serving"):
            raise TypeError(f"a {type(client).__name__} is no client of redis-py that can be asked: see Guard.from_url")
        return client
    # Its own hook would set connections to READONLY: they would go on answering when their server is a replica.
    settings = {**client.get_connection_kwargs(), "redis_connect_func": None}  # type: ignore[no-untyped-call]
    manager = client.nodes_manager

    def node_at(host: str, port: int) -> Node:
        own = {**settings, "host": host, "port": port}
        return Node(f"{host}:{port}", manager.create_redis_node(**own))  # type: ignore[no-untyped-call]

    return ClusterNodes([(node.host, node.port) for node in client.get_nodes()], node_at)  # type: ignore[no-untyped-call]
