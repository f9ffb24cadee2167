"""A Redis that Sentinels watch over: which server is the primary is theirs to say, and can change at any moment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis
from redis.exceptions import AuthenticationError, MasterDownError, NoPermissionError, ResponseError
from redis.sentinel import MasterNotFoundError

from consumer.nodes.deadline import deadline, left
from consumer.nodes.node import MEND_EVERY, Node, WrongMode
from consumer.nodes.turn import Turn
from consumer.nodes.url import BadURL, addresses, at_address, checked_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.nodes.node import Connect

DEFAULT_PORT = 26379
_TROUBLE = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, MasterDownError, OSError)


class SentinelNodes:
    """The primary of one service, as its Sentinels name it. They are asked when first needed, and after trouble.

    A primary that was deposed goes on answering whoever is still connected to it. Its view's marker names another
    server then, so the answer is UNKNOWN, and whoever gets it asks the Sentinels again. redis-py's own way to ask them
    gives the first one all of the time: while that one hangs, nobody would learn of the new primary.
    """

    def __init__(self, sentinels: Sequence[redis.Redis], service: str, url: str, connect: Connect) -> None:
        """`url` is how the primary is reached, but for its host and port."""
        self._sentinels = list(sentinels)
        self._service = service
        self._url = url
        self._connect = connect
        self._turn = Turn()
        self._node: Node | None = None
        self._asked_at = -MEND_EVERY
        self._problem: Exception = redis.ConnectionError("no Sentinel was asked yet")
        self._doubted = False

    def known(self, key: str) -> Node | None:  # noqa: ARG002 - it serves all of them
        """Return the primary, unless the Sentinels are to be asked."""
        return None if self._doubted else self._node

    def serving(self, key: str) -> Node:
        """Return the primary. Raises RedisError where no Sentinel knows one; WrongMode where that will not pass."""
        node = self.known(key)
        if node is not None:
            return node
        with self._turn.taken():
            if self._doubted or self._node is None:
                self._discover()
            if self._node is None:
                raise self._problem.with_traceback(None)
            return self._node

    def _discover(self) -> None:
        """Ask the Sentinels, unless somebody has just now. Where none answers the last primary stays."""
        if time.monotonic() - self._asked_at < MEND_EVERY:
            return
        try:
            # Where they all hang, the primary that is known can answer yet, and is asked with what is left.
            with deadline(left() if self._node is None else left() / 2):
                host, port = self._told()
        except (redis.RedisError, OSError) as problem:
            self._problem = problem
        else:
            name = f"{host}:{port}"
            if self._node is None or self._node.name != name:
                url = at_address(self._url, host, port)
                self._node = Node(name, self._connect(url), url)
            self._doubted = False
        self._asked_at = time.monotonic()

    def _told(self) -> tuple[str, int]:
        """Return the address that the first Sentinel who knows one names; whoever does not is asked last next time.

        Of several that are there it is the first to name another one than was doubted: one that is cut off from the
        others knows only what was. Each has its share of the time that is left.
        """
        named: list[tuple[str, int]] = []
        problems: list[Exception] = []
        sentinels = list(self._sentinels)
        for asked, sentinel in enumerate(sentinels):
            try:
                with deadline(left() / (len(sentinels) - asked)), sentinel:  # closed then: it is asked rarely
                    address = _primary(sentinel.sentinel_master(self._service))
            except Exception as problem:  # noqa: BLE001 - what is no Sentinel is not to be trusted with a kind of error
                problems.append(_said(problem))
                self._sentinels.remove(sentinel)
                self._sentinels.append(sentinel)
                continue
            named.append(address)
            if self._node is None or self._node.name != f"{address[0]}:{address[1]}":
                return address
        if named:
            return named[0]
        kinds = {type(problem) for problem in problems}
        raise problems[0] if len(kinds) == 1 else MasterNotFoundError("no Sentinel names a primary")

    def failed(self, node: Node, error: Exception) -> bool:
        """Take note that the primary does not answer, or is none any more."""
        if isinstance(error, _TROUBLE) and not isinstance(error, AuthenticationError | NoPermissionError):
            self.doubted(node)
        return False

    def doubted(self, node: Node) -> None:
        """Have the Sentinels asked before the next question."""
        if node == self._node:
            self._doubted = True

    def connected(self) -> list[Node]:
        """Return the primary, if it is known."""
        return [self._node] if self._node is not None else []

    def all(self) -> list[Node]:
        """Return the primary. Raises what redis-py would."""
        return [self.serving("")]


def _primary(state: Any) -> tuple[str, int]:
    """Return the primary's address from what a Sentinel tells of it. Raises MasterNotFoundError where it is down."""
    if not state["is_master"] or state["is_sdown"] or state["is_odown"]:
        raise MasterNotFoundError("a Sentinel says that the primary is down")
    return checked_address(str(state["ip"]), int(state["port"]))


def _said(problem: Exception) -> Exception:
    """Return what a Sentinel's error means; what it said itself may quote anything."""
    text = str(problem)
    if isinstance(problem, ResponseError) and "No such master" in text:
        return WrongMode("the Sentinels watch over no service of that name: see OPTOUT_REDIS_SERVICE")
    if isinstance(problem, ResponseError) and "unknown command" in text:
        return WrongMode("OPTOUT_REDIS_URL names a Redis and no Sentinel: name Sentinels, or set OPTOUT_REDIS_MODE")
    return problem if isinstance(problem, redis.RedisError | OSError) else redis.InvalidResponse("this is no Sentinel")


def sentinel_at(url: str, service: str, connect: Connect, *, sentinel_url: str = "") -> SentinelNodes:
    """Return the Redis that the Sentinels of this URL watch over under the name `service`.

    The URL names one Sentinel or several, as redis://user:password@s1:26379,s2:26379/0; user, password, database and
    options are the primary's. `sentinel_url` holds the Sentinels' own, where they have any: redis://user:password@. Of
    the options those of TLS are theirs, too, where it has none.
    `connect` makes a client of the server at a URL. Connects to nothing yet. Raises ValueError for what is no such URL.
    """
    parts = urlsplit(url)
    if parts.scheme == "unix" or not service.strip():
        raise BadURL("Sentinels are reached by host and port, and watch over a service that has a name")
    options = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name.startswith("ssl_")])
    own = sentinel_url or f"{parts.scheme}://sentinel"
    if urlsplit(own).scheme == parts.scheme and not urlsplit(own).query:
        own = urlsplit(own)._replace(query=options).geturl()
    connect(at_address(url, "sentinel", DEFAULT_PORT))  # refuses what the URL says of the primary, before it is needed
    sentinels = [connect(at_address(own, host, port)) for host, port in addresses(url, DEFAULT_PORT)]
    return SentinelNodes(sentinels, service, url, connect)
