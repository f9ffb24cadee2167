"""Every kind of failing Redis: UNKNOWN within the timeout, with its reason, and right again as soon as Redis is."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from consumer.guard import Guard, Unknown, VerdictKind
from tests.parts.fake_redis import (
    BlackHole,
    FakeRedis,
    closing,
    commands,
    dripping,
    forwarding,
    saying,
    silent,
    slow,
    verdict,
)
from tests.parts.view import (
    ALLOWED,
    FINE,
    HERE,
    MUCH,
    NEXT_DOOR,
    STOPPED,
    SUPPRESSED,
    THERE,
    TIMEOUT,
    answers,
    connect,
    paused,
    said,
    set_up,
    unknown,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from consumer.embedded.redis_server import RedisServer
    from tests.parts.guards import MakeGuard
    from tests.parts.redis import MakeRedis

PAIRS = [(HERE, STOPPED), (THERE, FINE), (NEXT_DOOR, FINE)]
HTTP = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
PART = b"*11\r\n$1\r\n1\r\n$40\r\nabc"

FAULTS: dict[str, tuple[Callable[[socket.socket], None], Unknown]] = {
    "says nothing": (silent, Unknown.TIMEOUT),
    "is slow, each time within the timeout": (slow(0.9 * TIMEOUT), Unknown.TIMEOUT),
    "drips": (dripping(b"$9999\r\n"), Unknown.TIMEOUT),
    "drips its greeting": (dripping(b"+", greets=False), Unknown.TIMEOUT),
    "announces what never comes": (saying(b"$999999999\r\nabc"), Unknown.TIMEOUT),
    "closes": (closing(b""), Unknown.UNREACHABLE),
    "closes in the middle of an answer": (closing(PART), Unknown.UNREACHABLE),
    "is loading": (saying(b"-LOADING Redis is loading the dataset in memory\r\n"), Unknown.UNREACHABLE),
    "is busy": (saying(b"-BUSY Redis is busy running a script.\r\n"), Unknown.UNREACHABLE),
    "lost its primary": (saying(b"-MASTERDOWN Link with MASTER is down\r\n"), Unknown.UNREACHABLE),
    "is full": (saying(b"-ERR max number of clients reached\r\n", greets=False), Unknown.UNREACHABLE),
    "asks for a password": (saying(b"-NOAUTH Authentication required.\r\n", greets=False), Unknown.REFUSED),
    "does not permit": (saying(b"-NOPERM No permissions to access a key\r\n"), Unknown.REFUSED),
    "speaks HTTP": (saying(HTTP, greets=False), Unknown.GARBLED),
    "speaks HTTP after it greeted": (saying(HTTP), Unknown.GARBLED),
    "speaks in noise": (saying(b"\x16\x03\x01\x00\xee\xff\x00*\r\n", greets=False), Unknown.GARBLED),
    "agrees to everything": (saying(b"+OK\r\n"), Unknown.GARBLED),
    "answers eleven letters": (saying(b"$11\r\nABCDEFGHIJK\r\n"), Unknown.GARBLED),
    "answers a number": (saying(b":1\r\n"), Unknown.GARBLED),
    "answers nothing": (saying(b"$-1\r\n"), Unknown.GARBLED),
    "answers another shape": (saying(b"*3\r\n:1\r\n:0\r\n:1\r\n"), Unknown.GARBLED),
    "answers errors in lists": (saying(b"*11\r\n" + b"*1\r\n-ERR inner\r\n" * 11), Unknown.GARBLED),
    "answers lists without end": (saying(b"*1\r\n" * 10_000), Unknown.GARBLED),
    "is too old": (saying(b"-ERR unknown command 'EVALSHA_RO'\r\n"), Unknown.GARBLED),
    "answers another question": (saying(verdict(b"0", "0")), Unknown.GARBLED),
}


@pytest.fixture
def behind(redis_url: str) -> Iterator[FakeRedis]:
    """The shared server with a vouched view, behind something that can fail."""
    with connect(redis_url) as client:
        set_up(client)
        port: int = client.connection_pool.connection_kwargs["port"]
        with FakeRedis(forwarding(port)) as between:
            yield between


def in_time(ask: Callable[[], object], expected: object, *, timeout: float = TIMEOUT) -> None:
    with within(timeout + MUCH):
        found = ask()
    assert found == expected


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_unknown_in_time(behind: FakeRedis, make_guard: MakeGuard, fault: str) -> None:
    """Whatever fails, each question is UNKNOWN within the timeout and says why; afterwards the same guard is right."""
    does, reason = FAULTS[fault]
    guard = make_guard(behind.url)
    assert answers(guard) == [SUPPRESSED, ALLOWED]
    behind.turn(does)
    in_time(lambda: said(guard.check(HERE, FINE)), unknown(reason))
    in_time(lambda: answers(guard), [unknown(reason)] * 2)
    in_time(lambda: [said(one) for one in guard.check_each(PAIRS)], [unknown(reason)] * 3)
    behind.heal()
    assert said(guard.check(HERE, FINE)) == ALLOWED
    assert answers(guard) == [SUPPRESSED, ALLOWED]
    assert [said(one) for one in guard.check_each(PAIRS)] == [SUPPRESSED, ALLOWED, ALLOWED]


def test_a_whole_answer_of_another_is_none(make_guard: MakeGuard) -> None:
    """The same answer counts under the question's own word only, and only with an answer for each number."""

    def echo(members: str, *, own: bool = True) -> Callable[[socket.socket], None]:
        def serve(end: socket.socket) -> None:
            for command in commands(end):
                word = command[3 + int(command[2])] if command[0].startswith(b"EVAL") else b""
                end.sendall(verdict(word if own else b"x", members) if word else b"+OK\r\n")

        return serve

    for does, expected in (
        (echo("0"), ALLOWED),
        (echo("1"), SUPPRESSED),
        (echo("0", own=False), unknown(Unknown.GARBLED)),
        (echo("2"), unknown(Unknown.GARBLED)),
        (echo("00"), unknown(Unknown.GARBLED)),
        (echo(""), unknown(Unknown.GARBLED)),
    ):
        with FakeRedis(does) as other:
            assert said(make_guard(other.url).check(HERE, FINE)) == expected


def test_who_does_not_answer_to_being_connected_to(make_guard: MakeGuard) -> None:
    """An address that swallows everything is UNKNOWN (timeout) within the timeout, or within that for connecting."""
    with BlackHole() as nobody:
        in_time(lambda: answers(make_guard(nobody.url)), [unknown(Unknown.TIMEOUT)] * 2)
        impatient = make_guard(nobody.url, timeout=5, connect_timeout=0.3)
        in_time(lambda: said(impatient.check(HERE, FINE)), unknown(Unknown.TIMEOUT), timeout=0.3)


def test_a_script_that_runs_for_long(own_redis: MakeRedis, make_guard: MakeGuard) -> None:
    """A server that is kept busy by somebody's script is UNKNOWN, and right again when the script is gone."""
    server = own_redis(settings={"busy-reply-threshold": "100"})
    with connect(server.url) as client:
        set_up(client)
    guard = make_guard(server.url)
    assert answers(guard) == [SUPPRESSED, ALLOWED]
    busy = threading.Thread(target=loop_for_ever, args=(server,))
    busy.start()
    time.sleep(0.5)
    in_time(lambda: answers(guard), [unknown(Unknown.UNREACHABLE)] * 2)
    with connect(server.url) as client:
        client.script_kill()
    busy.join()
    assert answers(guard) == [SUPPRESSED, ALLOWED]


def loop_for_ever(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url) as client, pytest.raises(redis.ResponseError):
        client.eval("while true do end", 0)


def test_more_clients_than_it_takes(own_redis: MakeRedis, make_guard: MakeGuard) -> None:
    """A server that takes no more clients is UNKNOWN (unreachable), and answers when there is room."""
    server = own_redis()
    with connect(server.url) as client:
        set_up(client)
        client.config_set("maxclients", 1)
        guard = make_guard(server.url)
        in_time(lambda: answers(guard), [unknown(Unknown.UNREACHABLE)] * 2)
        client.config_set("maxclients", 100)
        assert answers(guard) == [SUPPRESSED, ALLOWED]


def test_a_verdict_quotes_nothing(make_guard: MakeGuard) -> None:
    """An UNKNOWN verdict, and what require raises of it, hold neither the URL nor the number."""
    with FakeRedis(saying(b"-ERR the secret was hunter2\r\n", greets=False)) as other:
        guard = make_guard(other.url.replace("redis://", "redis://someone:hunter2@"))
        shown = repr(guard.check(HERE, FINE))
        assert "hunter2" not in shown
        assert FINE[-4:] not in shown
        assert str(other.port) not in shown


@pytest.mark.parametrize("fault", ["says nothing", "speaks HTTP", "closes in the middle of an answer"])
def test_faults_leave_no_connection_behind(behind: FakeRedis, make_guard: MakeGuard, fault: str) -> None:
    """After hundreds of faults a guard has no more connections open than before."""
    guard = make_guard(behind.url, timeout=0.02 if FAULTS[fault][1] is Unknown.TIMEOUT else TIMEOUT)
    behind.turn(FAULTS[fault][0])
    for _ in range(200):
        assert guard.check(HERE, FINE).kind is VerdictKind.UNKNOWN
    behind.heal()
    assert open_to(behind) <= 1


def test_a_connection_that_is_made_too_late_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the timeout is over the moment that a server takes the connection, it is not left open."""
    connect_to = socket.socket.connect

    def late(self: socket.socket, address: Any) -> None:
        connect_to(self, address)
        time.sleep(2 * TIMEOUT)

    with FakeRedis(silent) as other, Guard.from_url(other.url, timeout=TIMEOUT) as guard:
        monkeypatch.setattr(socket.socket, "connect", late)
        assert said(guard.check(HERE, FINE)) == unknown(Unknown.TIMEOUT)
        assert open_to(other, most=0) == 0


def open_to(other: FakeRedis, most: int = 1) -> int:
    """Return how many connections of this process to a server are open, by the kernel's account of them."""
    deadline = time.monotonic() + 2
    while True:
        with open("/proc/self/net/tcp", encoding="ascii") as table:  # noqa: PTH123 - no file
            rows = [line.split() for line in table]
        count = sum(row[2].endswith(f":{other.port:04X}") and row[3] in ("01", "08") for row in rows)
        if count <= most or time.monotonic() > deadline:
            return count
        time.sleep(0.05)


def test_killed_and_hung_by_one_guard(own_redis: MakeRedis, make_guard: MakeGuard) -> None:
    """Killed and started again, hung and going on: each question within the timeout, with the reason that fits."""
    server = own_redis()
    with connect(server.url) as client:
        owner = set_up(client)
        guard = make_guard(server.url)
        assert answers(guard) == [SUPPRESSED, ALLOWED]
        with paused(server.pid):
            in_time(lambda: answers(guard), [unknown(Unknown.TIMEOUT)] * 2)
            in_time(lambda: said(guard.check(HERE, FINE)), unknown(Unknown.TIMEOUT))
        assert answers(guard) == [SUPPRESSED, ALLOWED]
        server.kill()
        in_time(lambda: answers(guard), [unknown(Unknown.UNREACHABLE)] * 2)
        server.start()
        assert answers(guard) == [unknown(Unknown.OTHER_SERVER)] * 2
        owner.vouch()
        assert answers(guard) == [SUPPRESSED, ALLOWED]
