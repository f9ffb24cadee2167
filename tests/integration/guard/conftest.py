"""What tests of the guard share: a vouched view, and guards of both kinds."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts import guards
from tests.parts.view import connect, set_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from tests.parts.guards import AnyGuard, MakeGuard
    from tests.parts.view import Owner


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def owner(client: redis.Redis) -> Owner:
    """The owner of the view in the shared server."""
    return set_up(client)


@pytest.fixture(params=guards.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of guard: every behaviour is that of both."""
    kind: str = request.param
    return kind


@pytest.fixture
def make_guard(kind: str) -> Iterator[MakeGuard]:
    """Make guards of either kind."""
    with ExitStack() as made:

        def make(url: str, **options: Any) -> AnyGuard:
            guard = guards.make(kind, url, **options)
            made.callback(guard.close)
            return guard

        yield make


@pytest.fixture
def guard(make_guard: MakeGuard, redis_url: str) -> AnyGuard:
    """A guard of the view in the shared server."""
    return make_guard(redis_url)
