"""What stands at Redis's address and is none, or none that is well: what it does with each connection is a function."""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

HOST = "127.0.0.1"
GREETINGS = {b"AUTH", b"CLIENT", b"SELECT", b"HELLO", b"PING"}


class FakeRedis:
    """Accepts connections, over TLS if it is told how, and gives each to what it does at that time, in a thread."""

    def __init__(self, does: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._does = self._at_first = does
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'redis' if tls is None else 'rediss'}://{HOST}:{self.port}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def turn(self, does: Callable[[socket.socket], None]) -> None:
        """Do something else from now on. Connections that are open are cut."""
        self._does = does
        self.cut()

    def heal(self) -> None:
        """Do again what it did at first."""
        self.turn(self._at_first)

    def cut(self) -> None:
        """Cut every connection."""
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                end, _ = self._listener.accept()
            except OSError:  # closed
                return
            with self._lock:
                self._open.add(end)
            threading.Thread(target=self._serve, args=(end,), daemon=True).start()

    def _serve(self, end: socket.socket) -> None:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with end, suppress(OSError):
            if self._tls is None:
                self._does(end)
            else:
                with self._tls.wrap_socket(end, server_side=True) as inner:
                    self._does(inner)
        with self._lock:
            self._open.discard(end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # an accept that waits would keep the port open
        self._listener.close()
        self.cut()


def commands(end: socket.socket) -> Iterator[list[bytes]]:
    """Yield the commands that come in."""
    with end.makefile("rb") as lines:
        while head := lines.readline():
            yield [lines.read(int(lines.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]


def forwarding(port: int) -> Callable[[socket.socket], None]:
    """Pass everything on to a port, and back."""
    return counting(port, [])


def counting(port: int, turns: list[int]) -> Callable[[socket.socket], None]:
    """Pass everything on, and append to `turns` whenever it is the asker's turn to speak after the server's."""

    def serve(near: socket.socket) -> None:
        answered = True
        with socket.create_connection((HOST, port)) as far:
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(1 << 20)  # more than a record of TLS: nothing stays behind unseen
                    if not data:
                        return
                    if source is near and answered:
                        turns.append(len(turns))
                    answered = source is far
                    (far if source is near else near).sendall(data)

    return serve


class Firewall:
    """Passes everything on to a port, until it forgets: what then comes on an older connection it swallows."""

    def __init__(self, port: int, together: int = 1) -> None:
        """The first so many connections are served once they are all there."""
        self._port = port
        self._together = threading.Barrier(together)
        self._first = together
        self._forgotten = 0
        self.count = 0
        """The connections so far."""

    def forget(self) -> None:
        """Forget all connections."""
        self._forgotten = self.count

    def __call__(self, near: socket.socket) -> None:
        """Serve one connection."""
        self.count = own = self.count + 1
        if own <= self._first:
            self._together.wait(10)
        with socket.create_connection((HOST, self._port)) as far:
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(1 << 20)
                    if not data:
                        return
                    if own > self._forgotten:
                        (far if source is near else near).sendall(data)


def saying(answer: bytes, *, greets: bool = True) -> Callable[[socket.socket], None]:
    """Give this answer to each command; those that greet are answered as Redis does, if it greets."""

    def serve(end: socket.socket) -> None:
        for command in commands(end):
            end.sendall(b"+OK\r\n" if greets and command[0].upper() in GREETINGS else answer)

    return serve


def silent(end: socket.socket) -> None:
    """Listen, and say nothing."""
    while end.recv(65_536):
        pass


def slow(seconds: float) -> Callable[[socket.socket], None]:
    """Take so long for each piece of the greeting, and for the answer."""

    def serve(end: socket.socket) -> None:
        for _ in commands(end):
            time.sleep(seconds)
            end.sendall(b"+OK\r\n")

    return serve


def dripping(head: bytes, *, greets: bool = True) -> Callable[[socket.socket], None]:
    """Begin an answer and go on with a byte each tenth of a second, for ever."""

    def serve(end: socket.socket) -> None:
        for command in commands(end):
            if greets and command[0].upper() in GREETINGS:
                end.sendall(b"+OK\r\n")
                continue
            end.sendall(head)
            while True:
                end.sendall(b"x")
                time.sleep(0.1)

    return serve


def closing(said: bytes) -> Callable[[socket.socket], None]:
    """Begin an answer, and close the connection."""

    def serve(end: socket.socket) -> None:
        for command in commands(end):
            if command[0].upper() not in GREETINGS:
                end.sendall(said)
                return
            end.sendall(b"+OK\r\n")

    return serve


def bulk(text: bytes) -> bytes:
    """Return a text as RESP has it."""
    return b"$%d\r\n%s\r\n" % (len(text), text)


def verdict(word: bytes, members: str, *, fresh: int | None = None) -> bytes:
    """Return a whole answer of the guard's script, of a server that is vouched for: `members` is a digit a number."""
    now = int(time.time() * 1000)
    run, replication = b"r" * 40, b"p" * 40
    times = bulk(b"%d" % (now - 1 if fresh is None else fresh))
    found = b"*%d\r\n%s" % (len(members), b"".join(b":%s\r\n" % member.encode() for member in members))
    parts = [bulk(word), bulk(run), bulk(replication), b":%d\r\n" % now, bulk(run), bulk(replication), times]
    return b"*11\r\n" + b"".join([*parts, b"$-1\r\n", b"$-1\r\n", found, b"*0\r\n"])


class BlackHole:
    """An address where nobody answers to being connected to, as behind a firewall that drops: its queue is full."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind((HOST, 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://{HOST}:{self.port}/0"
        self._queue: list[socket.socket] = []

    def __enter__(self) -> Self:
        for _ in range(4):
            waiting = socket.socket()
            waiting.setblocking(False)  # noqa: FBT003 - socket's
            with suppress(BlockingIOError):
                waiting.connect((HOST, self.port))
            self._queue.append(waiting)
        return self

    def __exit__(self, *_: object) -> None:
        for waiting in self._queue:
            waiting.close()
        self._listener.close()
