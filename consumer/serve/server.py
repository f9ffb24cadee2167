"""Listens, answers until somebody says stop, and ends within a deadline."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

import uvicorn

from consumer.guarding import async_guard
from consumer.ops import logs
from consumer.ops.complaints import Complaints
from consumer.serve.app import application
from consumer.serve.connection import IDLE_S, LONGEST_HEAD, Connection
from consumer.serve.errors import CannotListen
from consumer.settings import ConfigurationError

if TYPE_CHECKING:
    from types import FrameType

    from consumer.settings import Settings

BACKLOG = 128


def serve(settings: Settings) -> int:
    """Answer until SIGTERM or SIGINT; return the exit code. Raises ConfigurationError and CannotListen."""
    log = logs.logger("serve")
    guard = async_guard(settings)
    token = None if settings.serve_token is None else settings.serve_token.get_secret_value()
    complaints = Complaints(log)
    _forward_to(complaints)
    app = application(guard, buckets=settings.buckets, region=settings.region, token=token, complaints=complaints)
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,  # it would name clients and whatever they put into a URL
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_seconds)),
        h11_max_incomplete_event_size=LONGEST_HEAD,
    )
    with _listening(*settings.serve_listen, is_guarded=token is not None) as listener:
        host, port = listener.getsockname()[:2]
        log.info("answering", host=host, port=port, token="asked for" if token else "not asked for")
        asyncio.run(_Server(config).serve(sockets=[listener]))
    log.info("stopped")
    return 0


class _Server(uvicorn.Server):
    """uvicorn's, for which a signal is a reason to end well and not an end by that signal."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the base's
        logs.logger("serve").info("stopping", because=signal.Signals(sig).name)
        self.should_exit = True


def _listening(host: str, port: int, *, is_guarded: bool) -> socket.socket:
    """Return a socket that listens on this address. Raises ConfigurationError and CannotListen."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise ConfigurationError(
            f"OPTOUT_SERVE_LISTEN: there is no address {host}: write host:port, with a host of this machine"
        ) from None
    if not (is_guarded or ip_address(str(address[0]).partition("%")[0]).is_loopback):
        raise ConfigurationError(
            f"OPTOUT_SERVE_TOKEN is not set, and other machines can ask at {host}: set it, or listen on 127.0.0.1"
        )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as problem:
        listener.close()
        raise CannotListen(
            f"OPTOUT_SERVE_LISTEN: {host}:{port} cannot be listened on ({problem.strerror or problem}): name another "
            "port, or an address of this machine"
        ) from None
    return listener


def _forward_to(complaints: Complaints) -> None:
    """Have what the server's own loggers warn of be lines of our log, now and then, without tracebacks."""

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[1] if record.exc_info else None
            fields = {} if error is None else {"error": type(error).__name__}
            complaints.say(str(record.msg).strip().partition("\n")[0], **fields)

    for name in ("uvicorn.error", "asyncio"):
        lines = logging.getLogger(name)
        lines.handlers = [Forward(logging.WARNING)]
        lines.propagate = False
