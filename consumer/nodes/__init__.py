"""Which Redis server answers for a key: the only one, the one that Sentinels name, or the primary of a cluster's shard.

What redis-py's own cluster client does is not used to send anything: one dead node fails its whole pipeline, it learns
the slots anew within the call that failed, node by node and timeout by timeout, and it cannot be made while a shard is
away. Here a call goes to one server, once, and everything else happens beside it.
"""

from __future__ import annotations

import redis

from consumer.nodes.asking import Command, Keyed, ask, by_client
from consumer.nodes.cluster import ClusterNodes, cluster_at
from consumer.nodes.deadline import deadline
from consumer.nodes.node import BadURL, Node, Nodes, OneNode, WrongMode, check_database
from consumer.nodes.sentinel import SentinelNodes, sentinel_at

__all__ = [
    "BadURL",
    "ClusterNodes",
    "Command",
    "Keyed",
    "Node",
    "Nodes",
    "OneNode",
    "SentinelNodes",
    "WrongMode",
    "ask",
    "by_client",
    "check_database",
    "cluster_at",
    "deadline",
    "nodes_of",
    "sentinel_at",
]


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
