"""The guard over HTTP before rude clients, who hold up nobody, and at its end."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.parts.serving import IMPATIENT, Serving, read_all
from tests.parts.system import wait_for
from tests.parts.view import BUCKETS, FINE, HERE, STOPPED, connect, set_up

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.view import Owner

BODY = b'{"location_id": "loc-1", "number": "+12025550144"}'
HEAD = b"POST /v1/verdict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
REQUEST = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture(scope="module")
def process(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A process with no time to lose and room for few."""
    log = tmp_path_factory.mktemp("serve") / "log"
    with Serving(redis_server, log, {"OPTOUT_BUCKETS": str(BUCKETS)}, patch=IMPATIENT) as serving:
        yield serving


@pytest.fixture
def serving(owner: Owner, process: Serving) -> Iterator[Serving]:
    yield process
    wait_for("it answers as before", lambda: process.ask("/v1/verdict", BODY).status == 200)
    assert {line["event"] for line in process.log()} <= {"answering", "Invalid HTTP request received."}


@pytest.fixture
def owner(redis_url: str) -> Iterator[Owner]:
    with connect(redis_url) as client:
        yield set_up(client)


def ends_within(connection: socket.socket, seconds: float) -> bytes:
    """Return what was answered until the connection was ended, which is in time."""
    began = time.monotonic()
    answered = read_all(connection)
    assert time.monotonic() - began < seconds
    return answered


@pytest.mark.parametrize("sent", [b"", b"P", HEAD, HEAD + b"Content-Length: 5\r\n"], ids=len)
def test_a_head_that_does_not_come(serving: Serving, sent: bytes) -> None:
    """A connection whose request does not begin in time is ended, however little of it is missing."""
    with serving.connect() as connection:
        connection.sendall(sent)
        assert ends_within(connection, 2) == b""


def test_another_protocol_is_not_spoken(serving: Serving) -> None:
    """Who asks for WebSocket is answered over HTTP, and the log says nothing of it."""
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    with serving.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + upgrade + b"\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_a_head_in_drops(serving: Serving) -> None:
    """Bytes that come one by one make no time of their own."""
    with serving.connect() as connection:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in HEAD * 10:
                connection.sendall(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - began < 2


def test_a_head_that_is_too_long(serving: Serving) -> None:
    """A head without end is refused when it is long enough."""
    with serving.connect() as connection, contextlib.suppress(OSError):
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"x" * 70_000)
        assert b" 400 " in ends_within(connection, 2)


@pytest.mark.parametrize("body", [b"", BODY[:-1]], ids=len)
def test_a_body_that_does_not_come(serving: Serving, body: bytes) -> None:
    """A body that is not whole in time is a 408, and no question."""
    with serving.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 50\r\n\r\n" + body)
        answered = ends_within(connection, 2)
    assert answered.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive" in answered


def test_a_client_that_goes_away(serving: Serving) -> None:
    """A client that leaves in the middle of its body or of its answer is no fault of the server's."""
    for sent in (HEAD, HEAD + b"Content-Length: 50\r\n\r\n{", REQUEST, REQUEST * 20):
        with serving.connect() as connection:
            connection.sendall(sent)


def test_an_answer_that_nobody_reads(serving: Serving) -> None:
    """A client that asks and asks and reads no answer is ended, and holds up nobody."""
    one = b'{"location_id": "loc-1", "number": "+12025550144"},' * 999
    body = b'{"questions": [' + one + BODY + b"]}"
    request = HEAD.replace(b"verdict ", b"verdicts ") + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with serving.connect() as connection:
        connection.settimeout(20)
        with pytest.raises(OSError, match=r"reset|[Bb]roken|[Pp]ipe"):
            connection.sendall(request * 500)


def test_several_requests_at_once(serving: Serving) -> None:
    """Requests that are sent without waiting are answered in turn, each its own."""
    other = BODY.replace(FINE.encode(), STOPPED.encode())
    with serving.connect() as connection:
        connection.sendall(REQUEST + REQUEST.replace(BODY, other) + REQUEST)
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        statuses = [part[:3] for part in ends_within(connection, 2).split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"403", b"200", b"200"]


HIDDEN = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
        HEAD + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(HIDDEN)) + HIDDEN,
        HEAD + b"Expect: 100-continue\r\nContent-Length: 99999\r\n\r\n" + HIDDEN,
    ],
    ids=["refused", "two lengths", "expecting"],
)
def test_a_body_is_no_request(serving: Serving, sent: bytes) -> None:
    """What others may take for the body of a request that is refused is never answered as the next one."""
    with serving.connect() as connection:
        connection.sendall(sent)
        answered = ends_within(connection, 2)
    assert answered.count(b"HTTP/1.1 ") == 1
    assert answered.startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 50\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        HEAD + b" folded\x00: 1\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[-24:]),
)
def test_what_is_no_http(serving: Serving, sent: bytes) -> None:
    """What is no HTTP is refused, and the connection ended."""
    with serving.connect() as connection:
        connection.sendall(sent)
        assert b" 200 " not in ends_within(connection, 2)


def test_more_connections_than_there_is_room_for(serving: Serving) -> None:
    """Where there are too many connections one more is told so and ended, and when they are gone all is as before."""
    held = [serving.connect() for _ in range(20)]
    try:
        with serving.connect() as connection:
            answered = ends_within(connection, 2)
        assert answered.startswith(b"HTTP/1.1 503 ")
        assert b"too many connections" in answered
    finally:
        for one in held:
            one.close()


@pytest.mark.parametrize("sent", [b"", b"P", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"], ids=len)
def test_idle_connections_give_way(serving: Serving, sent: bytes) -> None:
    """Connections on which nobody asks keep out nobody who does: the one that waited longest is ended."""
    held = [serving.connect() for _ in range(20)]
    try:
        for one in held:
            one.sendall(sent)
        time.sleep(0.4)
        for _ in range(5):
            assert serving.ask("/livez").status == 200
            assert serving.ask("/v1/verdict", BODY).json["verdict"] == "ALLOWED"
    finally:
        for one in held:
            one.close()


def test_more_requests_than_there_is_room_for(serving: Serving) -> None:
    """Where too many are being answered one more is told to ask again, at once; probes are answered all the same."""
    waits = {"location_id": HERE, "number": FINE, "catch_up": 1.0}
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(serving.ask, "/v1/verdict", waits) for _ in range(5)]
        time.sleep(0.4)
        answer = serving.ask("/v1/verdict", BODY)
        assert (answer.status, answer.json["status"]) == (503, 503)
        assert "being answered already" in answer.json["detail"]
        assert serving.ask("/livez").status == 200
        assert {one.result().json["reason"] for one in waiting} == {"behind"}


def test_an_error_that_nobody_foresaw(redis_server: str, tmp_path: Path) -> None:
    """What nobody foresaw is a 500 that quotes nothing, and a line of the log with its type and place."""
    broken = """
from consumer.guard import AsyncGuard
def check(*arguments, **options): raise KeyError(arguments)
AsyncGuard.check = check
"""
    with Serving(redis_server, tmp_path / "log", patch=broken) as serving:
        answer = serving.ask("/v1/verdict", BODY)
        assert (answer.status, answer.headers["content-type"]) == (500, "application/problem+json")
        wait_for("said", lambda: len(serving.log()) == 2)
        assert serving.log()[1]["event"].startswith("an unexpected KeyError at ")
        for said in (answer.body.decode(), serving.log_file.read_text()):
            assert FINE[1:] not in said
            assert HERE not in said


def test_it_ends_when_it_is_told_to(owner: Owner, redis_url: str, tmp_path: Path) -> None:
    """SIGTERM ends it with exit code 0: who asked is answered, and who only holds a connection is not waited for."""
    with (
        Serving(redis_url, tmp_path / "log", {"OPTOUT_BUCKETS": str(BUCKETS)}) as serving,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(serving.ask, "/v1/verdict", {"location_id": HERE, "number": FINE, "catch_up": 2})
        with serving.connect(), serving.connect() as begun:
            begun.sendall(HEAD)
            time.sleep(0.5)
            began = time.monotonic()
            assert serving.stop() == 0
            assert time.monotonic() - began < 5
        assert waiting.result().json["reason"] == "behind"
        assert [line["event"] for line in serving.log()] == ["answering", "stopping", "stopped"]


def test_it_ends_in_time(owner: Owner, redis_url: str, tmp_path: Path) -> None:
    """What takes longer than the deadline is answered with a 503 and not waited for."""
    settings = {"OPTOUT_BUCKETS": str(BUCKETS), "OPTOUT_SHUTDOWN_SECONDS": "1"}
    with Serving(redis_url, tmp_path / "log", settings) as serving, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(serving.ask, "/v1/verdict", {"location_id": HERE, "number": FINE, "catch_up": 30})
        time.sleep(0.5)
        began = time.monotonic()
        assert serving.stop() == 0
        assert time.monotonic() - began < 5
        answer = waiting.result()
        assert (answer.status, answer.json["detail"]) == (503, "this process ends: ask again")
        assert "Traceback" not in serving.log_file.read_text()
