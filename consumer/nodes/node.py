"""One server of the view, and what a set of them answers: who serves a key, and what to do where one fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import redis

if TYPE_CHECKING:
    from collections.abc import Callable

    Connect = Callable[[str], redis.Redis]
    """Makes a client of the server at a URL. It connects when first used."""

MEND_EVERY = 0.5
"""Seconds between two looks at servers that have trouble."""


class WrongMode(redis.RedisError):
    """The server is a node of a cluster and our client is none for clusters, or the other way round."""


@dataclass(frozen=True, slots=True)
class Node:
    """One server, by its address, and a client that asks it alone."""

    name: str
    client: redis.Redis = field(compare=False, repr=False)
    url: str = field(default="", compare=False, repr=False)
    """How it is reached, with the password; empty where the client was handed in."""


class Nodes(Protocol):
    """The servers of one view. Safe to share among threads."""

    def known(self, key: str) -> Node | None:
        """Return the server to ask about a key, where that can be said without asking anybody; None otherwise."""

    def serving(self, key: str) -> Node:
        """Return the server to ask about a key. Raises what redis-py would where there is none."""

    def failed(self, node: Node, error: Exception) -> bool:
        """Take note of what a server answered with; True if the call was not made and can be made elsewhere, now."""

    def doubted(self, node: Node) -> None:
        """Take note that nobody vouches for this server: perhaps another one is to be asked by now."""

    def connected(self) -> list[Node]:
        """Return the servers that are known, without asking anybody."""

    def all(self) -> list[Node]:
        """Return every server that a key can be served by. Raises what redis-py would."""


class OneNode:
    """A Redis that is no cluster."""

    def __init__(self, client: redis.Redis, url: str = "") -> None:
        self._node = Node("", client, url)

    def known(self, key: str) -> Node:  # noqa: ARG002 - it serves all of them
        """Return the server."""
        return self._node

    def serving(self, key: str) -> Node:  # noqa: ARG002
        """Return the server."""
        return self._node

    def failed(self, node: Node, error: Exception) -> bool:  # noqa: ARG002
        """Return False: there is no other one."""
        return False

    def doubted(self, node: Node) -> None:
        """Do nothing: there is no other one."""

    def connected(self) -> list[Node]:
        """Return the server."""
        return [self._node]

    def all(self) -> list[Node]:
        """Return the server."""
        return [self._node]
