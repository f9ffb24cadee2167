"""The usual question, one number, by the shortest way: straight to a connection that is kept open for it.

What redis-py does around each command for observers, for its pool and for its own retries costs as much as the script
does. A connection is not looked at before it is used: one that was closed meanwhile fails, and is made once more; what
another question left on it is no answer to this one (see `question.Call`).
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import AuthenticationError, ResponseError

if TYPE_CHECKING:
    from redis import Connection
    from redis.asyncio import Redis as AsyncRedis
    from redis.asyncio.connection import AbstractConnection

    from consumer.nodes import Command


class Line:
    """A server's idle connections. Safe to share among threads; a forked process begins with none."""

    def __init__(self, client: redis.Redis) -> None:
        """Take from the client how connections are made; its own are not used."""
        self._pool = client.connection_pool
        self._idle: deque[Connection] = deque()
        self._process = os.getpid()

    def ask(self, command: Command) -> Any:
        """Return the answer. Raises what redis-py would."""
        if self._process != os.getpid():
            self._idle, self._process = deque(), os.getpid()
        try:
            return self._ask(self._idle.pop(), command)
        except IndexError:
            pass
        except AuthenticationError:
            raise
        except redis.ConnectionError:
            self._idle.clear()  # a server that was started again has closed them all
        return self._ask(self._pool.connection_class(**self._pool.connection_kwargs), command)

    def _ask(self, connection: Connection, command: Command) -> Any:
        try:
            connection.send_command(*command, check_health=False)  # type: ignore[no-untyped-call]
            answer = connection.read_response()
        except ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:  # whatever it was, the answer may still be on its way
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise
        self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().disconnect()  # type: ignore[no-untyped-call]


class AsyncLine:
    """A server's idle connections in one event loop, and who may use one next: whoever finds none free waits."""

    def __init__(self, client: AsyncRedis, at_once: int) -> None:
        self.client = client
        self.free = asyncio.Semaphore(at_once)
        self._pool = client.connection_pool
        self._idle: deque[AbstractConnection] = deque()

    async def ask(self, command: Command) -> Any:
        """Return the answer. Raises what redis-py would."""
        async with self.free:
            try:
                return await self._ask(self._idle.pop(), command)
            except IndexError:
                pass
            except AuthenticationError:
                raise
            except redis.ConnectionError:
                await self.close()
            return await self._ask(self._pool.connection_class(**self._pool.connection_kwargs), command)

    async def _ask(self, connection: AbstractConnection, command: Command) -> Any:
        try:
            await connection.send_command(*command, check_health=False)
            answer = await connection.read_response()
        except ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:  # whatever it was, the answer may still be on its way
            await connection.disconnect(nowait=True)
            raise
        self._idle.append(connection)
        return answer

    async def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)
