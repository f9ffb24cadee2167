"""What servers tell of other servers' addresses: one that is none leads nowhere, least of all to another Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis.crc import key_slot

from consumer.guard import VerdictKind
from tests.parts.fake_redis import FakeRedis, commands, saying
from tests.parts.view import ALLOWED, FINE, HERE, META, MUCH, SUPPRESSED, TIMEOUT, answers, connect, set_up, within

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tests.parts.guards import AnyGuard, MakeGuard

SLOT = key_slot(META.encode())
NOT_MOVED_TO = [
    "?:99999",
    "?:0",
    "#:1",
    "[:1",
    "a/b:1",
    "a@b:1",
    "x?db=3&y=1:5",
    "127.0.0.1:99999",
    "127.0.0.1:-5",
    "a b:1",
    "::::1:1",
]


def bulk(text: str) -> bytes:
    return f"${len(text)}\r\n{text}\r\n".encode()


def node(answer: str, first: int = 0, last: int = 16383) -> Callable[[socket.socket], None]:
    """Be a node that says to serve these slots, and answers whoever asks about a key so."""

    def serve(end: socket.socket) -> None:
        port = end.getsockname()[1]
        slots = f"*1\r\n*3\r\n:{first}\r\n:{last}\r\n*2\r\n".encode() + bulk("127.0.0.1") + f":{port}\r\n".encode()
        for command in commands(end):
            if command[0].upper() == b"CLUSTER":
                end.sendall(slots)
            else:
                end.sendall(b"-" + answer.encode() + b"\r\n" if command[0].startswith(b"EVAL") else b"+OK\r\n")

    return serve


def kinds(guard: AnyGuard) -> set[VerdictKind]:
    with within(2 * (TIMEOUT + MUCH)):
        return {kind for kind, _ in [*answers(guard), *answers(guard)]} | {guard.check(HERE, FINE).kind}


@pytest.mark.parametrize("address", NOT_MOVED_TO)
def test_a_slot_that_moved_to_no_address(make_guard: MakeGuard, address: str) -> None:
    """Told that a slot is at an address that is none, a guard says UNKNOWN, and raises nothing."""
    with FakeRedis(node(f"MOVED {SLOT} {address}")) as told:
        assert kinds(make_guard(told.url, mode="cluster")) == {VerdictKind.UNKNOWN}


@pytest.mark.parametrize("slot", [-1, 16384, 99999])
def test_a_slot_that_there_is_not(make_guard: MakeGuard, slot: int) -> None:
    """Told of a slot that there is not, a guard says UNKNOWN; a node that says to serve it knows no slots."""
    with FakeRedis(node(f"MOVED {slot} 127.0.0.1:1")) as told:
        assert kinds(make_guard(told.url, mode="cluster")) == {VerdictKind.UNKNOWN}
    for first, last in ((0, 200_000_000), (-1, 16383), (5, 4), (16384, 16384)):
        with FakeRedis(node("", first, last)) as told:
            assert kinds(make_guard(told.url, mode="cluster")) == {VerdictKind.UNKNOWN}


def test_a_slot_that_moved_to_a_node_without_a_name(redis_url: str, make_guard: MakeGuard) -> None:
    """A node whose name is not known is at the host that told of it, at the port that it told."""
    with connect(redis_url) as client:
        set_up(client)
        port = client.connection_pool.connection_kwargs["port"]
        for host in ("?", ""):
            with FakeRedis(node(f"MOVED {SLOT} {host}:{port}")) as told:
                assert answers(make_guard(told.url, mode="cluster")) == [SUPPRESSED, ALLOWED]


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("?", "26379"),
        ("#", "26379"),
        ("", "26379"),
        ("[", "26379"),
        ("127.0.0.1/", "26379"),
        ("127.0.0.1?db=3&x=", "26379"),
        ("a@127.0.0.1", "26379"),
        ("127.0.0.1", "0"),
        ("127.0.0.1", "-1"),
        ("127.0.0.1", "99999"),
        ("127.0.0.1", "x"),
    ],
)
def test_a_primary_at_no_address(make_guard: MakeGuard, host: str, port: str) -> None:
    """Told by Sentinels that the primary is at an address that is none, a guard says UNKNOWN, and raises nothing."""
    state = ["name", "any", "ip", host, "port", port, "flags", "master", "runid", "x" * 40, "num-other-sentinels", "0"]
    answer = f"*{len(state)}\r\n".encode() + b"".join(map(bulk, state))
    with FakeRedis(saying(answer)) as told:
        guard = make_guard(told.url, mode="sentinel", service="any")
        assert kinds(guard) == {VerdictKind.UNKNOWN}
