"""Redis behind TLS: asked like any other, and a certificate that is not to be trusted is a refusal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from consumer.guard import Unknown
from tests.parts.certificates import HOST, Authority
from tests.parts.fake_redis import FakeRedis, dripping, forwarding, silent
from tests.parts.view import (
    ALLOWED,
    FINE,
    HERE,
    MUCH,
    SUPPRESSED,
    TIMEOUT,
    answers,
    connect,
    said,
    set_up,
    unknown,
    within,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from tests.parts.guards import MakeGuard
    from tests.parts.redis import MakeRedis

PATIENT = 5.0
"""Seconds that a handshake may take on a machine that does other things besides."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority that nobody trusts who is not told to."""
    return Authority(tmp_path)


def trusting(server: FakeRedis, authority: Authority, credentials: str = "") -> str:
    return server.url.replace("://", f"://{credentials}") + f"?ssl_ca_certs={authority.file}"


def test_tls_with_user_and_password(own_redis: MakeRedis, make_guard: MakeGuard, authority: Authority) -> None:
    """Behind TLS a guard answers as ever, under a user that may only read; a wrong password is refused."""
    server = own_redis()
    with connect(server.url) as client:
        set_up(client)
        commands = ["+eval_ro", "+evalsha_ro", "+hmget", "+smismember", "+info", "+time"]
        client.execute_command("ACL", "SETUSER", "sender", "on", ">p%ss", "%R~optout:*", *commands)
    with FakeRedis(forwarding(server.port), authority.server()) as terminator:
        known = make_guard(trusting(terminator, authority, "sender:p%25ss@"), timeout=PATIENT)
        assert answers(known) == [SUPPRESSED, ALLOWED]
        stranger = make_guard(trusting(terminator, authority, "sender:no@"), timeout=PATIENT)
        assert answers(stranger) == [unknown(Unknown.REFUSED)] * 2


@pytest.mark.parametrize("fault", ["unknown authority", "another host", "over"])
def test_a_certificate_that_is_not_trusted(
    make_guard: MakeGuard, authority: Authority, tmp_path: Path, fault: str
) -> None:
    """A certificate of an unknown authority, for another host, or whose time is over is UNKNOWN (refused)."""
    context = authority.server(host="127.0.0.2" if fault == "another host" else HOST, days=-1 if fault == "over" else 2)
    (tmp_path / "other").mkdir()
    trusted = Authority(tmp_path / "other") if fault == "unknown authority" else authority
    with FakeRedis(silent, context) as terminator, within(PATIENT):
        guard = make_guard(trusting(terminator, trusted), timeout=PATIENT)
        assert said(guard.check(HERE, FINE)) == unknown(Unknown.REFUSED)


def test_plain_and_tls_mixed_up(redis_url: str, make_guard: MakeGuard, authority: Authority) -> None:
    """Who speaks TLS to a plain Redis, or the other way round, is told that nobody is reached, in time."""
    with within(2 * (TIMEOUT + MUCH)):
        speaking = make_guard(redis_url.replace("redis://", "rediss://"))
        assert said(speaking.check(HERE, FINE)) in (unknown(Unknown.UNREACHABLE), unknown(Unknown.TIMEOUT))
        with FakeRedis(silent, authority.server()) as terminator:
            plain = make_guard(terminator.url.replace("rediss://", "redis://"))
            assert said(plain.check(HERE, FINE)) in (unknown(Unknown.UNREACHABLE), unknown(Unknown.GARBLED))


@pytest.mark.parametrize("does", [silent, dripping(b"$9999\r\n"), dripping(b"+", greets=False)])
def test_a_failing_redis_behind_tls(
    make_guard: MakeGuard, authority: Authority, does: Callable[[socket.socket], None]
) -> None:
    """What says nothing, or drips, over TLS is UNKNOWN within the timeout too."""
    with FakeRedis(does, authority.server()) as terminator:
        guard = make_guard(trusting(terminator, authority))
        for _ in range(2):
            with within(TIMEOUT + MUCH):
                assert answers(guard) == [unknown(Unknown.TIMEOUT)] * 2


def test_a_handshake_that_does_not_go_on(make_guard: MakeGuard) -> None:
    """A server that never says its part of the handshake, or drips it, is UNKNOWN (timeout) within the timeout."""
    for does in (silent, dribble):
        with FakeRedis(does) as nobody, within(TIMEOUT + MUCH):
            guard = make_guard(nobody.url.replace("redis://", "rediss://"))
            assert said(guard.check(HERE, FINE)) == unknown(Unknown.TIMEOUT)


def dribble(end: socket.socket) -> None:
    """Begin a record of the handshake that is long, and give a byte of it each tenth of a second."""
    end.sendall(b"\x16\x03\x03\x20\x00")
    while True:
        end.sendall(b"\x02")
        time.sleep(0.1)
