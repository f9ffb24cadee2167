"""Asynchronous connections that leave a program its threads, and close without waiting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis.asyncio.connection import Connection, SSLConnection

from consumer.nodes.lookup import look_up_aside

if TYPE_CHECKING:
    from collections.abc import Mapping


class AsideConnection(Connection):
    """A connection over TCP that has the host's name looked up by the thread that serves all guards.

    asyncio would take one of its own for each question; while the resolver hangs none would be left for the program.
    """

    _address = ""

    async def _connect(self) -> None:
        async with asyncio.timeout(self.socket_connect_timeout):
            found = await look_up_aside(self.host, self.port, self.socket_type)
            problem = OSError("the host has no address")
            for *_, address in found:
                self._address = address[0]
                try:
                    await super()._connect()  # type: ignore[no-untyped-call]
                except OSError as error:
                    problem = error
                else:
                    return
            raise problem

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "host": self._address}


class PromptTLSConnection(SSLConnection, AsideConnection):
    """A connection over TLS that is closed without a farewell.

    asyncio waits half a minute for the other side's; for as long each connection to a server that hangs would be open.
    """

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "server_hostname": self.host}

    async def disconnect(self, *arguments: Any, **options: Any) -> None:
        """Close it."""
        if self._writer is not None:
            self._writer.transport.abort()
        await super().disconnect(*arguments, **options)
