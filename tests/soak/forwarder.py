"""A TCP forwarder on a port of its own: it cuts, delays and holds back connections, and turns to another server."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from tests.parts.ports import HOST, free_ports

if TYPE_CHECKING:
    from collections.abc import Coroutine

CHUNK = 65_536


class Forwarder:
    """Hands on what is sent to `port` to `target`. Its methods may be called by any thread."""

    def __init__(self, target: int) -> None:
        self.port = free_ports(1)[0]
        self._target = target
        self._delay = 0.0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="forwarder", daemon=True)

    def delay(self, seconds: float) -> None:
        """Hand everything on so much later, each way."""
        self._delay = seconds

    def hold(self) -> None:
        """Hand nothing on; what comes meanwhile is handed on by `release`, however late that is."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def release(self) -> None:
        """Hand on again."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def cut(self, target: int | None = None) -> None:
        """End every connection, and whatever was on its way with it; turn to another server if one is given."""
        self._run(self._cut(target))

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def _end(self) -> None:
        self._server.close()
        await asyncio.sleep(0)  # what was accepted a moment ago gets to know that it is a connection
        await self._cut(None)

    async def _cut(self, target: int | None) -> None:
        self._target = self._target if target is None else target
        connections = list(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writers = [writer]
        try:
            await self._flowing.wait()
            far_reader, far_writer = await asyncio.open_connection(HOST, self._target)
            writers.append(far_writer)
            await _either(self._pump(reader, far_writer), self._pump(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            for each in writers:
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await self._flowing.wait()
                writer.write(chunk)
                await writer.drain()


async def _either(*ways: Coroutine[Any, Any, None]) -> None:
    """Run both ways until one side has closed, and end the other with it."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
