"""One server of the view, and what a set of them answers: who serves a key, and what to do where one fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

import redis

if TYPE_CHECKING:
    from collections.abc import Callable

    Connect = Callable[[str], redis.Redis]
    """Makes a client of the server at a URL. It connects when first used."""

MEND_EVERY = 0.5
"""Seconds between two looks at servers that have trouble."""


class WrongMode(redis.RedisError):
    """The server is a node of a cluster and our client is none for clusters, or the other way round."""


class BadURL(ValueError):
    """What is no URL of a Redis, or of Sentinels. The text quotes nothing of it: that could be a part of a password."""


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


def check_database(url: str) -> None:
    """Raise BadURL for a URL that names a database by no number: redis-py would take it for number 0.

    And for one that says how texts are written: in another encoding than UTF-8 a location's key is another key.
    """
    parts = urlsplit(url)
    if {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} & {"encoding", "encoding_errors"}:
        raise BadURL("keys are written in UTF-8: leave `encoding` out")
    name = unquote(parts.path).replace("/", "")
    if parts.scheme != "unix" and name and not (name.isascii() and name.isdigit()):
        raise BadURL("a database is named by its number")


def addresses(url: str, default_port: int) -> list[tuple[str, int]]:
    """Return the hosts and ports that a URL names, with commas: redis://user:password@a:1,b:2/0. Raises BadURL."""
    found = []
    for text in urlsplit(url).netloc.rpartition("@")[2].split(","):
        parts = urlsplit(f"redis://{text}")
        if not parts.hostname:
            raise BadURL("a server is named as host:port")
        found.append((parts.hostname, parts.port or default_port))
    return found


def at_address(url: str, host: str, port: int) -> str:
    """Return the URL with another host and port; user, password, database and options stay."""
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    shown = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=f"{credentials}{at}{shown}:{port}").geturl()
