"""Which Redis server answers for a key: the only one, or the primary of the key's shard in a Redis Cluster.

What redis-py's own cluster client does is not used to send anything: one dead node fails its whole pipeline, it learns
the slots anew within the call that failed, node by node and timeout by timeout, and it cannot be made while a shard is
away. Here a call goes to one server, once, and everything else happens beside it.
"""

from __future__ import annotations

import math
import random
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AuthenticationError, ClusterDownError, MovedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Connect = Callable[[str, int], redis.Redis]

MEND_EVERY = 0.5
"""Seconds between two looks at a cluster that has trouble."""
IDLE_AFTER = 10.0
"""Seconds without a question for a shard that is away, after which nobody looks whether it is back."""


class WrongMode(redis.RedisError):
    """The server is a node of a cluster and our client is none for clusters, or the other way round."""


@dataclass(frozen=True, slots=True)
class Node:
    """One server, by its address, and a client that asks it alone."""

    name: str
    client: redis.Redis = field(compare=False, repr=False)


class Nodes(Protocol):
    """The servers of one view. Safe to share among threads."""

    def serving(self, key: str) -> Node:
        """Return the server to ask about a key. Raises what redis-py would where there is none."""

    def failed(self, node: Node, error: Exception) -> bool:
        """Take note of what a server answered with; True if the call was not made and can be made elsewhere, now."""

    def all(self) -> list[Node]:
        """Return every server that a key can be served by. Raises what redis-py would."""


class OneNode:
    """A Redis that is no cluster."""

    def __init__(self, client: redis.Redis) -> None:
        self._node = Node("", client)

    def serving(self, key: str) -> Node:  # noqa: ARG002 - it serves all of them
        """Return the server."""
        return self._node

    def failed(self, node: Node, error: Exception) -> bool:  # noqa: ARG002
        """Return False: there is no other one."""
        return False

    def all(self) -> list[Node]:
        """Return the server."""
        return [self._node]


class ClusterNodes:
    """The primaries of a Redis Cluster, found through any of its nodes when first asked for.

    A server that did not answer is not asked again until a thread beside found that it does: each caller waits for a
    lost shard once, and the shards that are well are not kept waiting. A bucket's slot that is on its way between two
    servers (ASK, TRYAGAIN) counts as away until it has arrived: what has arrived bears the marker of the server that
    it came from, so there is nothing to be learned there but UNKNOWN.
    """

    def __init__(self, seeds: Iterable[tuple[str, int]], connect: Connect) -> None:
        self._connect = connect
        self._nodes: dict[str, Node] = {}
        self._seeds = [self._node(host, port) for host, port in seeds]
        self._slots: list[Node | None] = []
        self._away: dict[Node, type[redis.RedisError]] = {}
        self._lock = threading.Lock()
        self._joining = threading.Lock()
        self._join_after = -math.inf
        self._unjoined: Exception = redis.ConnectionError("the cluster is away")
        self._asked_at = -math.inf
        self._stale = False
        self._mender: threading.Thread | None = None

    def serving(self, key: str) -> Node:
        """Return the primary of the key's shard. Raises RedisError where the cluster or the shard is away."""
        node = (self._slots or self._join())[key_slot(key.encode())]
        if node is None:
            self._mend()
            raise ClusterDownError("the slot is not served")
        if node in self._away:
            self._asked_at = time.monotonic()
            raise self._away.get(node, redis.ConnectionError)("this shard is away")
        return node

    def failed(self, node: Node, error: Exception) -> bool:
        """Take note that a slot has moved, or that a server is away."""
        if isinstance(error, MovedError):
            host = error.host or node.client.connection_pool.connection_kwargs["host"]
            self._slots[error.slot_id] = self._node(host, error.port)
            self._mend()
            return True
        if isinstance(error, AuthenticationError):
            return False
        if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
            self._away[node] = redis.TimeoutError if isinstance(error, redis.TimeoutError) else redis.ConnectionError
            self._mend()
        elif isinstance(error, ClusterDownError):
            self._mend()
        return False

    def all(self) -> list[Node]:
        """Return the primaries."""
        return sorted({node for node in self._slots or self._join() if node}, key=lambda node: node.name)

    # Learning the slots

    def _join(self) -> list[Node | None]:
        """Learn the slots for the first time. While nobody answers, all who ask together wait once."""
        with self._joining:
            if self._slots:
                return self._slots
            if time.monotonic() < self._join_after:
                raise self._unjoined.with_traceback(None)
            try:
                self._learn()
            except (redis.RedisError, OSError) as problem:
                self._join_after = time.monotonic() + MEND_EVERY
                self._unjoined = problem
                raise
            return self._slots

    def _learn(self) -> None:
        """Ask one node after the other for the slots until one answers. Raises what the last one failed with."""
        known = list({*self._nodes.values()} - self._away.keys() - {*self._seeds})
        random.shuffle(known)  # a node that is cut off from the others knows only what was
        problem: Exception = redis.ConnectionError("no node is known")
        for node in [*known, *self._seeds]:
            try:
                ranges = node.client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
            except (redis.RedisError, OSError) as error:
                if "cluster support disabled" in str(error):
                    raise WrongMode("this Redis is no cluster: set OPTOUT_REDIS_MODE to standalone") from None
                problem = error
            else:
                self._take(node, ranges)
                return
        raise problem

    def _take(self, teller: Node, ranges: list[Any]) -> None:
        slots: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_replicas in ranges:
            known = host.decode() if isinstance(host, bytes) else host
            if known in ("", "?", None):  # it knows no address of its own but the one that it was reached by
                known = teller.client.connection_pool.connection_kwargs["host"]
            slots[first : last + 1] = [self._node(known, port)] * (last + 1 - first)
        self._slots = slots
        in_use = {*slots, *self._seeds}
        self._nodes = {name: node for name, node in self._nodes.items() if node in in_use}

    def _node(self, host: str, port: int) -> Node:
        name = f"{host}:{port}"
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = Node(name, self._connect(host, port))
        return node

    # Beside the calls

    def _mend(self) -> None:
        """Have the slots learned anew, and the servers that are away looked after, by a thread beside."""
        with self._lock:
            self._asked_at = time.monotonic()
            self._stale = True
            if self._mender is None or not self._mender.is_alive():  # not alive: this is a fork of the first process
                self._mender = threading.Thread(target=self._look_after, name="redis-cluster", daemon=True)
                self._mender.start()

    def _look_after(self) -> None:
        while True:
            with self._lock:
                if not self._stale and (not self._away or time.monotonic() - self._asked_at > IDLE_AFTER):
                    self._away.clear()
                    self._mender = None
                    return
                self._stale = False
            with suppress(redis.RedisError, OSError):
                self._learn()
            for node in list(self._away):
                if node not in self._slots or _answers(node):
                    self._away.pop(node, None)
            time.sleep(MEND_EVERY)


def _answers(node: Node) -> bool:
    try:
        node.client.ping()
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        return isinstance(error, AuthenticationError)
    except redis.RedisError:
        return True
    return True


def check_database(url: str) -> None:
    """Raise ValueError for a URL that names a database by no number: redis-py would take it for number 0."""
    parts = urlsplit(url)
    name = unquote(parts.path).replace("/", "")
    if parts.scheme != "unix" and name and not (name.isascii() and name.isdigit()):
        raise ValueError("a database is named by its number")


def cluster_at(url: str, connect: Callable[[str], redis.Redis]) -> ClusterNodes:
    """Return the cluster that the node at this URL belongs to; `connect` makes a client of the node at a URL.

    All nodes are asked with the URL's user, password and options. Connects to nothing yet. Raises ValueError for a URL
    that names no host, or a database: a cluster has only one.
    """
    parts = urlsplit(url)
    first = connect(url).connection_pool.connection_kwargs
    if "path" in first or first.get("db"):
        raise ValueError("a cluster is reached by host and port, and has no databases")
    credentials, at, _ = parts.netloc.rpartition("@")

    def at_address(host: str, port: int) -> redis.Redis:
        shown = f"[{host}]" if ":" in host else host
        return connect(parts._replace(netloc=f"{credentials}{at}{shown}:{port}").geturl())

    return ClusterNodes([(first.get("host", "localhost"), first.get("port", 6379))], at_address)


def nodes_of(client: redis.Redis | redis.RedisCluster | Nodes) -> Nodes:
    """Return the servers that a client of redis-py reaches. What is known of a cluster's servers is not shared."""
    if isinstance(client, redis.Redis):
        return OneNode(client)
    if not isinstance(client, redis.RedisCluster):
        return client
    # Its own hook would set connections to READONLY: they would go on answering when their server is a replica.
    settings = {**client.get_connection_kwargs(), "redis_connect_func": None}  # type: ignore[no-untyped-call]
    manager = client.nodes_manager
    return ClusterNodes(
        [(node.host, node.port) for node in client.get_nodes()],  # type: ignore[no-untyped-call]
        lambda host, port: manager.create_redis_node(**{**settings, "host": host, "port": port}),  # type: ignore[no-untyped-call]
    )
