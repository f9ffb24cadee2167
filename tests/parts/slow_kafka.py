"""A cluster far away: what goes to its brokers, and comes from them, is so much later; order and rate stay."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from tests.parts.ports import HOST

if TYPE_CHECKING:
    from tests.parts.kafka import KafkaCluster

CHUNK = 65_536


class Line:
    """Hands on what comes to `port` to `target`, and back, `delay` seconds later, however much is on its way."""

    def __init__(self, port: int, target: int) -> None:
        self.delay = 0.0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="slow line", daemon=True)
        self._thread.start()
        listening = asyncio.start_server(self._accept, HOST, port)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)

    def close(self) -> None:
        """End everything that is on its way."""

        async def end() -> None:
            self._server.close()
            # Again: one half of a connection leaves the other, and what was being accepted makes new ones.
            while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self._target)
            ends.append(far_writer)
            await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in ends:
                end.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        on_its_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while True:
                due, chunk = await on_its_way.get()
                await asyncio.sleep(due - self._loop.time())
                if not chunk:
                    raise ConnectionResetError
                sink.write(chunk)
                await sink.drain()

        arriving = asyncio.ensure_future(arrive())
        try:
            while chunk := await source.read(CHUNK):
                await on_its_way.put((self._loop.time() + self.delay, chunk))
            await on_its_way.put((self._loop.time() + self.delay, b""))
            await arriving
        finally:
            arriving.cancel()
            with suppress(OSError, asyncio.CancelledError):
                await arriving


class SlowLines:
    """Lines to every broker of a cluster: clients that begin at `far` meet it through them alone."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self._lines = [Line(node.far_port, node.near_port) for node in cluster.nodes]
        self.far = ",".join(f"{HOST}:{node.far_port}" for node in cluster.nodes)

    def delay(self, seconds: float) -> None:
        """Let everything be so much later from now on, each way."""
        for line in self._lines:
            line.delay = seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._lines:
            line.close()
