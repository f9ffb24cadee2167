"""The shortest way: straight to a connection that is kept open, for one command or for several in one round trip.

What redis-py does around each command for observers, for its pool and for its own retries costs as much as the script
does, and its pool takes back a connection whose answer is still on its way. A connection is not looked at before it is
used: one that was closed meanwhile fails, and is made once more; what another question left on it is no answer to this
one (see `question.Call`). One that was idle for long is not used again: a firewall on the way may have forgotten it,
and says nothing then, so that the question would wait out its timeout.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis
from hiredis import pack_command
from redis.exceptions import AuthenticationError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Connection
    from redis.asyncio import ConnectionPool
    from redis.asyncio.connection import AbstractConnection

    from consumer.nodes import Command

IDLE_AT_MOST = 60.0
"""Seconds that a connection may have been idle for. What stands between a sender and its Redis forgets one after
minutes: load balancers of clouds after four to six."""


class Line:
    """A server's idle connections. Safe to share among threads; a forked process begins with none."""

    def __init__(self, client: redis.Redis) -> None:
        """Take from the client how connections are made; its own are not used."""
        self._pool = client.connection_pool
        self._idle: deque[tuple[float, Connection]] = deque()
        """Those used last are at the end, each with when that was by the monotonic clock."""
        self._process = os.getpid()

    def ask(self, command: Command) -> Any:
        """Return the answer. Raises what redis-py would."""
        (answer,) = self.ask_all((command,))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers of one round trip, Redis's errors among them. Raises what redis-py would for no answer."""
        if self._process != os.getpid():
            self._idle, self._process = deque(), os.getpid()
        try:
            since, connection = self._idle.pop()
        except IndexError:
            return self._ask_anew(commands)
        if time.monotonic() - since > IDLE_AT_MOST:
            connection.disconnect()  # type: ignore[no-untyped-call]
            self.close()
            return self._ask_anew(commands)
        try:
            return self._ask(connection, commands)
        except AuthenticationError:
            raise
        except redis.TimeoutError:
            self.close()  # a firewall that forgot this one has forgotten them all, and each would cost a timeout
            raise
        except redis.ConnectionError:
            self.close()  # a server that was started again has closed them all
        return self._ask_anew(commands)

    def _ask_anew(self, commands: Sequence[Command]) -> list[Any]:
        return self._ask(self._pool.connection_class(**self._pool.connection_kwargs), commands)

    def _ask(self, connection: Connection, commands: Sequence[Command]) -> list[Any]:
        answers: list[Any] = []
        try:
            if len(commands) == 1:
                connection.send_command(*commands[0], check_health=False)  # type: ignore[no-untyped-call]
            else:
                connection.send_packed_command(connection.pack_commands(commands), check_health=False)  # type: ignore[no-untyped-call]
            for _ in commands:
                try:
                    answers.append(connection.read_response())
                except ResponseError as error:
                    answers.append(error)
        except BaseException:  # whatever it was, an answer may still be on its way
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise
        self._idle.append((time.monotonic(), connection))
        return answers

    def close(self) -> None:
        """Close the idle connections."""
        with suppress(IndexError):  # another thread may take the last one
            while True:
                self._idle.pop()[1].disconnect()  # type: ignore[no-untyped-call]


class AsyncLine:
    """A server's idle connections in one event loop, and who may use one next: whoever finds none free waits."""

    def __init__(self, pool: ConnectionPool, at_once: int) -> None:
        """Take from the pool how connections are made; its own are not used."""
        self._pool = pool
        self._free = asyncio.Semaphore(at_once)
        self._idle: deque[tuple[float, AbstractConnection]] = deque()
        self._forgotten: deque[AbstractConnection] = deque()

    async def ask(self, command: Command, until: float) -> Any:
        """Return the answer. Raises what redis-py would, and TimeoutError at `until` by the loop's clock."""
        (answer,) = await self.ask_all((command,), until)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask_all(self, commands: Sequence[Command], until: float) -> list[Any]:
        """Return the answers of one round trip, Redis's errors among them.

        Raises what redis-py would for no answer, and TimeoutError at `until` by the loop's clock.
        """
        try:
            async with asyncio.timeout_at(until), self._free:
                return await self._ask_kept(commands)
        except (redis.TimeoutError, TimeoutError):
            self.forget()  # as above
            raise

    async def _ask_kept(self, commands: Sequence[Command]) -> list[Any]:
        if self._idle and time.monotonic() - self._idle[-1][0] > IDLE_AT_MOST:
            self.forget()
        if self._forgotten:
            await self._drop()
        if self._idle:
            try:
                return await self._ask(self._idle.pop()[1], commands)
            except (AuthenticationError, redis.TimeoutError):
                raise
            except redis.ConnectionError:
                await self.close()
        return await self._ask(self._pool.connection_class(**self._pool.connection_kwargs), commands)

    async def _ask(self, connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
        answers: list[Any] = []
        try:
            # Its parser packs in C what redis-py's asynchronous connection would pack in Python.
            packed = b"".join(pack_command(command) for command in commands)  # type: ignore[arg-type]
            await connection.send_packed_command(packed, check_health=False)
            for _ in commands:
                try:
                    answers.append(await connection.read_response())
                except ResponseError as error:
                    answers.append(error)
        except BaseException:  # whatever it was, an answer may still be on its way
            await connection.disconnect(nowait=True)
            raise
        self._idle.append((time.monotonic(), connection))
        return answers

    def forget(self) -> None:
        """Use none of the idle connections any more; the next question closes them."""
        self._forgotten += (connection for _, connection in self._idle)
        self._idle.clear()

    async def close(self) -> None:
        """Close the idle connections."""
        self.forget()
        await self._drop()

    async def _drop(self) -> None:
        while self._forgotten:
            await self._forgotten.pop().disconnect(nowait=True)
