"""The primaries of a Redis Cluster."""

from __future__ import annotations

import math
import random
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AuthenticationError, ClusterDownError, MovedError

from consumer.nodes.deadline import deadline, left
from consumer.nodes.node import MEND_EVERY, Node, WrongMode
from consumer.nodes.turn import Turn
from consumer.nodes.url import BadURL, addresses, at_address, checked_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from consumer.nodes.node import Connect

IDLE_AFTER = 10.0
"""Seconds without a question for a shard that is away, after which nobody looks whether it is back."""
LOOK_WITHIN = 5.0
"""Seconds that a look at a server takes at most, where its connections keep a deadline: one may drip for ever."""


class ClusterNodes:
    """The primaries of a Redis Cluster, found through any of its nodes when first asked for.

    A server that did not answer is not asked again until a thread beside found that it does: each caller waits for a
    lost shard once, and the shards that are well are not kept waiting. A bucket's slot that is on its way between two
    servers (ASK, TRYAGAIN) counts as away until it has arrived: what has arrived bears the marker of the server that
    it came from, so there is nothing to be learned there but UNKNOWN.
    """

    def __init__(self, seeds: Iterable[tuple[str, int]], node_at: Callable[[str, int], Node]) -> None:
        self._node_at = node_at
        self._nodes: dict[str, Node] = {}
        self._seeds = [self._node(host, port) for host, port in seeds]
        self._slots: list[Node | None] = []
        self._away: dict[Node, type[redis.RedisError]] = {}
        self._turn = Turn()
        self._joining = Turn()
        self._join_after = -math.inf
        self._unjoined: Exception = redis.ConnectionError("the cluster is away")
        self._asked_at = -math.inf
        self._stale = False
        self._mender: threading.Thread | None = None

    def known(self, key: str) -> Node | None:
        """Return the primary of the key's shard, unless it is away, or the slots were never learned."""
        node = self._slots[key_slot(key.encode())] if self._slots else None
        return None if node in self._away else node

    def serving(self, key: str) -> Node:
        """Return the primary of the key's shard. Raises RedisError where the cluster or the shard is away."""
        node = (self._slots or self._join())[key_slot(key.encode())]
        if node is None:
            self._look()
            raise ClusterDownError("the slot is not served")
        if node in self._away:
            self._look(stale=False)
            raise self._away.get(node, redis.ConnectionError)("this shard is away")
        return node

    def failed(self, node: Node, error: Exception) -> bool:
        """Take note that a slot has moved, or that a server is away."""
        if isinstance(error, MovedError):
            return self._moved(node, error)
        if isinstance(error, AuthenticationError):
            return False
        if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
            timed_out = isinstance(error, redis.TimeoutError | TimeoutError)
            self._away[node] = redis.TimeoutError if timed_out else redis.ConnectionError
            self._look()
        elif isinstance(error, ClusterDownError):
            self._look()
        return False

    def _moved(self, node: Node, error: MovedError) -> bool:
        self._look()
        if not (self._slots and 0 <= error.slot_id < len(self._slots)):
            return False
        try:
            self._slots[error.slot_id] = self._named(node, error.host, error.port)
        except redis.InvalidResponse:
            return False
        return True

    def doubted(self, node: Node) -> None:  # noqa: ARG002 - all of them are looked at
        """Have the slots learned anew: a replica may have been promoted."""
        self._look()

    def connected(self) -> list[Node]:
        """Return the servers that are known, replicas of theirs too where they were primaries."""
        return list(self._nodes.values())

    def all(self) -> list[Node]:
        """Return the primaries."""
        return sorted({node for node in self._slots or self._join() if node}, key=lambda node: node.name)

    # Learning the slots

    def _join(self) -> list[Node | None]:
        """Learn the slots for the first time. While nobody answers, all who ask together wait once."""
        with self._joining.taken():
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
        """Ask one node after the other for the slots until one answers. Raises what the last one failed with.

        Each has its share of the time that is left: one that hangs does not keep us from the others.
        """
        known = list({*list(self._nodes.values())} - {*list(self._away)} - {*self._seeds})
        random.shuffle(known)  # a node that is cut off from the others knows only what was
        problem: Exception = redis.ConnectionError("no node is known")
        candidates = [*known, *self._seeds]
        for asked, node in enumerate(candidates):
            try:
                with deadline(left() / (len(candidates) - asked)):
                    ranges = node.client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
                self._take(node, ranges)
            except (redis.RedisError, OSError) as error:
                if "cluster support disabled" in str(error):
                    problem = WrongMode("this Redis is no cluster: set OPTOUT_REDIS_MODE to standalone")
                elif not isinstance(problem, WrongMode):
                    problem = error
            except Exception:  # noqa: BLE001 - what is no list of slots fails in any way
                problem = redis.InvalidResponse("this is no list of slots")
            else:
                return
        raise problem

    def _take(self, teller: Node, ranges: list[Any]) -> None:
        slots: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_replicas in ranges:
            if not 0 <= first <= last < REDIS_CLUSTER_HASH_SLOTS:
                raise redis.InvalidResponse("this is no list of slots")
            slots[first : last + 1] = [self._named(teller, host, port)] * (last + 1 - first)
        self._slots = slots
        in_use = {*slots, *self._seeds}
        self._nodes = {name: node for name, node in self._nodes.items() if node in in_use}

    def _named(self, teller: Node, host: Any, port: int) -> Node:
        """Return the node that another one tells of. Raises InvalidResponse for an address that is none."""
        known = host.decode() if isinstance(host, bytes) else host
        if known in ("", "?", None):  # it knows no address of its own but the one that it was reached by
            known = teller.client.connection_pool.connection_kwargs["host"]
        return self._node(*checked_address(known, port))

    def _node(self, host: str, port: int) -> Node:
        name = f"{host}:{port}"
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = self._node_at(host, port)
        return node

    # Beside the calls

    def _look(self, *, stale: bool = True) -> None:
        """Have the servers that are away looked after, and `stale` slots learned anew, by a thread beside."""
        self._asked_at = time.monotonic()
        if stale:
            self._stale = True
        with suppress(redis.TimeoutError), self._turn.taken():  # the turn of somebody who has it done
            if self._mender is None or not self._mender.is_alive():  # not alive: this is a fork of the first process
                mender = threading.Thread(target=self._look_after, name="redis-cluster", daemon=True)
                with suppress(RuntimeError):  # no thread can be started now: the next trouble tries again
                    mender.start()
                    self._mender = mender

    def _look_after(self) -> None:
        while True:
            with self._turn.taken():
                if not self._stale and (not self._away or time.monotonic() - self._asked_at > IDLE_AFTER):
                    self._away.clear()
                    self._mender = None
                    return
                self._stale = False
            with suppress(Exception), deadline(LOOK_WITHIN):
                self._learn()
            for node in list(self._away):
                if node not in self._slots or _answers(node):
                    self._away.pop(node, None)
            time.sleep(MEND_EVERY)


def _answers(node: Node) -> bool:
    try:
        with deadline(LOOK_WITHIN):
            node.client.ping()
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        return isinstance(error, AuthenticationError)
    except Exception:  # noqa: BLE001 - whatever it says, it does
        return True
    return True


def cluster_at(url: str, connect: Connect) -> ClusterNodes:
    """Return the cluster that the nodes of this URL belong to; `connect` makes a client of the node at a URL.

    The URL names one node or several, as redis://user:password@a:6379,b:6379: any that answers knows the others. All
    are asked with its user, password and options. Connects to nothing yet. Raises ValueError for a URL that names no
    host, or a database: a cluster has only one.
    """
    if urlsplit(url).scheme == "unix":
        raise BadURL("a cluster is reached by host and port")
    seeds = addresses(url)
    if connect(at_address(url, *seeds[0])).connection_pool.connection_kwargs.get("db"):
        raise BadURL("a cluster has no databases")

    def node_at(host: str, port: int) -> Node:
        own = at_address(url, host, port)
        return Node(f"{host}:{port}", connect(own), own)

    return ClusterNodes(seeds, node_at)
