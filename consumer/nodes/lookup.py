"""Looking up a host's addresses within a limit: the system's own call has none, and may take half a minute."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from concurrent.futures import Future
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

Host = tuple[str, int, int]
"""Name, port, and the family of addresses that is wanted."""
Addresses = list[tuple[Any, ...]]
"""What `socket.getaddrinfo` returns."""


class _Lookups:
    """Those that are under way: however many threads want a name, one asks for it."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, as in a process that was forked: it has none of these threads."""
        self._lock = threading.Lock()
        self._asked: dict[Host, Future[Addresses]] = {}

    def of(self, host: Host) -> Future[Addresses]:
        with self._lock:
            asked = self._asked.get(host)
            if asked is None:
                asked = Future()
                try:
                    threading.Thread(target=self._ask, args=(host, asked), name="redis-lookup", daemon=True).start()
                except RuntimeError:
                    raise OSError("no thread can be started to look up a host") from None
                self._asked[host] = asked
            return asked

    def _ask(self, host: Host, asked: Future[Addresses]) -> None:
        try:
            asked.set_result(_look_up(host))
        except Exception as problem:  # noqa: BLE001 - raised where it is waited for
            asked.set_exception(problem)
        finally:
            with self._lock:  # it is there: whoever began this holds the lock until it is
                del self._asked[host]


_lookups = _Lookups()
os.register_at_fork(after_in_child=_lookups.forget)


def look_up(name: str, port: int, family: int, seconds: float | None) -> Addresses:
    """Return the addresses of a host as `socket.getaddrinfo` does. `seconds` None waits without end.

    Raises TimeoutError after so many seconds, OSError where the name is not known.
    """
    if _is_number(name):
        return _look_up((name, port, family))
    return _lookups.of((name, port, family)).result(seconds)


async def look_up_aside(name: str, port: int, family: int) -> Addresses:
    """Return the same to a task, which may be cancelled while it waits. Raises OSError."""
    if _is_number(name):
        return _look_up((name, port, family))
    asked = _lookups.of((name, port, family))
    loop = asyncio.get_running_loop()
    answered = asyncio.Event()

    def tell(_: object) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(answered.set)

    asked.add_done_callback(tell)  # and not wrapped: who is cancelled would cancel it for all
    await answered.wait()
    return asked.result()


def _is_number(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _look_up(host: Host) -> Addresses:
    name, port, family = host
    return socket.getaddrinfo(name, port, family, socket.SOCK_STREAM)
