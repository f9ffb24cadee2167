"""The Redis of the tests: which database they may empty, and servers of a test's own."""

from typing import TYPE_CHECKING, Protocol

import redis

from tests.parts.errors import PartRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.embedded.redis_server import RedisServer


class MakeRedis(Protocol):
    """Start a server that nobody else uses; it ends with the test. `settings` are directives of redis.conf."""

    def __call__(self, *, port: int | None = None, settings: "Mapping[str, str] | None" = None) -> "RedisServer": ...


def flush(url: str) -> None:
    """Empty the URL's database, and no other one: the server may be somebody's."""
    with redis.Redis.from_url(url) as client:
        client.flushdb()


def require_empty(url: str) -> None:
    """Raise PartRefused if the database holds anything: the tests empty it, and it may be somebody's."""
    with redis.Redis.from_url(url) as client:
        if keys := client.dbsize():
            raise PartRefused(
                f"OPTOUT_TEST_REDIS names a database with {keys} keys, and tests empty it: name an empty one"
            )
