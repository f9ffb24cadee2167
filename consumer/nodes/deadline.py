"""Connections that keep one deadline for all that they do: connecting, greeting, sending, and each piece of an answer.

A socket's own timeout begins anew with each piece that arrives, so a server that drips would be waited for without end.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

from consumer.nodes.lookup import look_up

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Deadline(threading.local):
    """When this thread's round trip must be over, by the monotonic clock."""

    at = math.inf


_deadline = _Deadline()


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Let all that this thread's bounded connections do end within so many seconds, by redis.TimeoutError.

    Within another deadline it makes that one shorter, never longer.
    """
    before, _deadline.at = _deadline.at, min(_deadline.at, time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.at = before


def left() -> float:
    """Return the seconds that are left; infinity where no deadline is kept. Zero or less: it is over."""
    return _deadline.at - time.monotonic()


def _left(limit: float | None) -> float:
    """Return the seconds that are left, at most `limit`. Raises TimeoutError where none are."""
    rest = left()
    if rest <= 0:
        raise TimeoutError("the deadline is over")
    return rest if limit is None else min(limit, rest)


class _BoundedSocket:
    """A connected socket; what it sends and receives ends at the deadline, however it arrives."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._limit = sock.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, limit: float | None) -> None:
        self._limit = limit
        self._sock.settimeout(limit)

    def recv(self, *arguments: Any) -> bytes:
        self._bound()
        return self._sock.recv(*arguments)

    def recv_into(self, *arguments: Any) -> int:
        self._bound()
        return self._sock.recv_into(*arguments)

    def sendall(self, *arguments: Any) -> None:
        self._bound()  # one timeout is for all of it
        self._sock.sendall(*arguments)

    def _bound(self) -> None:
        if _deadline.at != math.inf and self._limit != 0:
            rest = _left(self._limit)
            self._sock.settimeout(None if rest == math.inf else rest)


class _BoundedTCP(Connection):
    """Connects within the deadline, to whichever of the host's addresses answers: one that does not takes its share."""

    def _connect(self) -> socket.socket:
        problem = OSError("the host has no address")
        rest = _left(self.socket_connect_timeout)
        addresses = look_up(self.host, self.port, self.socket_type, None if rest == math.inf else rest)
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:  # as of IPv6 on a machine without it
                problem = error
                continue
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self.socket_keepalive:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                sock.settimeout(_left(self.socket_connect_timeout) / (len(addresses) - tried))
                sock.connect(address)
                sock.settimeout(_left(self.socket_timeout))
            except OSError as error:
                problem = error
                sock.close()
            else:
                return sock
        raise problem


class BoundedConnection(_BoundedTCP):
    """A connection over TCP."""

    def _connect(self) -> Any:
        return _BoundedSocket(super()._connect())


class BoundedTLSConnection(SSLConnection, _BoundedTCP):
    """A connection over TLS; Python's handshake takes the socket's timeout for all of it."""

    def _connect(self) -> Any:
        return _BoundedSocket(super()._connect())  # type: ignore[no-untyped-call]


class BoundedUnixConnection(UnixDomainSocketConnection):
    """A connection over a Unix socket."""

    def _connect(self) -> Any:
        return _BoundedSocket(super()._connect())  # type: ignore[no-untyped-call]


BOUNDED = {"rediss": BoundedTLSConnection, "unix": BoundedUnixConnection}
"""The class of a connection by the URL's scheme; TCP's for any other."""
