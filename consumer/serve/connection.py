"""One connection: how long its client may take for each step, and that those on which nobody asks keep nobody out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from consumer.serve.problems import Refused, problem

if TYPE_CHECKING:
    import asyncio
    from asyncio import TimerHandle

HEAD_WITHIN_S: Final = 10.0
"""From the first byte, or the connection, to the whole head of a request."""
ANSWERED_WITHIN_S: Final = 60.0
"""From there to the end of the answer: more than a body, what `catch_up` waits and the answer may take together."""
IDLE_S: Final = 30
"""Between an answer and the next request."""
READ_WITHIN_S: Final = IDLE_S + 5.0
"""Between the end of an answer and its having been read: what waits in a buffer keeps a closed connection open."""
MOST_CONNECTIONS: Final = 500
GIVES_WAY_AFTER_S: Final = 1.0
"""Where there are too many, one that has waited for its client for so long gives way: a head comes in one piece."""
LONGEST_HEAD: Final = 16 * 1024


class Connection(H11Protocol):
    """uvicorn's, which waits for ever for a head that does not come, and for an answer to be read."""

    _timer: TimerHandle | None = None
    _step = ""
    waits = True
    """Whether it is for the client to go on."""
    since = 0.0
    """When its step began, by the loop's clock."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; or where there are too many of them, say so and end."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS and not self._make_room():
            transport.write(_too_many())
            transport.close()
        self._begin("head", HEAD_WITHIN_S)

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._is_answering():
            self._begin("answer", ANSWERED_WITHIN_S)
        else:
            self._begin("head", HEAD_WITHIN_S)

    def on_response_complete(self) -> None:
        """Go on with the next request, if it is there already."""
        super().on_response_complete()
        self._step = ""
        if self._is_answering():
            self._begin("answer", ANSWERED_WITHIN_S)
        else:
            self._begin("idle", READ_WITHIN_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: whoever likes can ask for another protocol, and would fill the log."""

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _make_room(self) -> bool:
        """End the connection that has asked nothing for the longest time; return False if none has waited long."""
        waiting = [one for one in self._others() if one.waits]
        longest = min(waiting, key=lambda one: one.since, default=None)
        if longest is None or self.loop.time() - longest.since < GIVES_WAY_AFTER_S:
            return False
        longest.waits = False
        longest.transport.abort()
        return True

    def _others(self) -> list[Connection]:
        return [one for one in self.connections if isinstance(one, Connection) and one is not self]

    def _begin(self, step: str, seconds: float) -> None:
        """Have the connection end unless the next step begins in time."""
        if step == self._step:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._step, self.waits, self.since = step, step != "answer", self.loop.time()
        self._timer = self.loop.call_later(seconds, self.transport.abort)


def _too_many() -> bytes:
    refused = problem(Refused(503, "there are too many connections: ask again"))
    fields = {**dict(refused.headers), "cache-control": "no-store", "connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 503 Service Unavailable\r\n{head}\r\n".encode("latin-1") + bytes(refused.body)
