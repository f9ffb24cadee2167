"""Connections that were left idle: what a firewall on the way forgot costs a sender one timeout at most, or none."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from consumer.guard import AsyncGuard, Unknown, lines
from tests.parts.fake_redis import FakeRedis, Firewall
from tests.parts.view import (
    ALLOWED,
    BUCKETS,
    FINE,
    HERE,
    MUCH,
    STOPPED,
    SUPPRESSED,
    TIMEOUT,
    connect,
    said,
    set_up,
    unknown,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.parts.guards import AnyGuard, MakeGuard

CONNECTIONS = 3


@pytest.fixture
def firewall(redis_url: str) -> Iterator[Firewall]:
    with connect(redis_url) as client:
        set_up(client)
        yield Firewall(client.connection_pool.connection_kwargs["port"], together=CONNECTIONS)


@pytest.fixture
def url(firewall: Firewall) -> Iterator[str]:
    with FakeRedis(firewall) as between:
        yield between.url


def ask_at_once(guard: AnyGuard) -> list[tuple[object, object]]:
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return list(pool.map(lambda _: said(guard.check(HERE, STOPPED)), range(CONNECTIONS)))


def test_idle_for_long_is_not_used(
    firewall: Firewall, url: str, make_guard: MakeGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a pause the first question is answered at once, although every connection was forgotten in it."""
    guard = make_guard(url)
    assert ask_at_once(guard) == [SUPPRESSED] * CONNECTIONS
    assert said(guard.check(HERE, FINE)) == ALLOWED
    assert firewall.count == CONNECTIONS
    firewall.forget()
    monkeypatch.setattr(lines, "IDLE_AT_MOST", 0.1)
    time.sleep(0.2)
    with within(MUCH):
        assert said(guard.check(HERE, FINE)) == ALLOWED
        assert said(guard.check(HERE, STOPPED)) == SUPPRESSED
    assert firewall.count == CONNECTIONS + 1


def test_one_timeout_for_all_that_were_forgotten(firewall: Firewall, url: str, make_guard: MakeGuard) -> None:
    """Forgotten sooner than that, they cost one timeout together."""
    guard = make_guard(url)
    assert ask_at_once(guard) == [SUPPRESSED] * CONNECTIONS
    firewall.forget()
    with within(TIMEOUT + MUCH):
        assert said(guard.check(HERE, STOPPED)) == unknown(Unknown.TIMEOUT)
    with within(MUCH):
        assert said(guard.check(HERE, STOPPED)) == SUPPRESSED
    assert firewall.count == CONNECTIONS + 1


def test_a_cancelled_question_closes_its_own_connection_only(firewall: Firewall, url: str) -> None:
    """A sender that gives up does not make the others connect anew."""

    async def ask() -> None:
        async with AsyncGuard.from_url(url, buckets=BUCKETS, timeout=TIMEOUT) as guard:
            found = await asyncio.gather(*(guard.check(HERE, STOPPED) for _ in range(CONNECTIONS)))
            assert [said(one) for one in found] == [SUPPRESSED] * CONNECTIONS
            given_up = asyncio.create_task(guard.check(HERE, STOPPED))
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.gather(given_up, return_exceptions=True)
            assert given_up.cancelled()
            others = await asyncio.gather(*(guard.check(HERE, FINE) for _ in range(CONNECTIONS - 1)))
            assert [said(one) for one in others] == [ALLOWED] * (CONNECTIONS - 1)

    asyncio.run(ask())
    assert firewall.count == CONNECTIONS
