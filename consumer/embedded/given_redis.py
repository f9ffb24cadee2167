"""A Redis that somebody names for the embedded stack. Its URL may hold a password: no sentence here quotes it."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consumer.embedded.errors import EmbeddedError
from consumer.nodes.url import BadURL, check_url

REDIS_TIMEOUT_S = 5.0


def client_of(url: str) -> redis.Redis:
    """Return a client for this URL, which connects when it is first used. Raises EmbeddedError for what is no URL."""
    written = url.replace("#", "%23")  # it would begin a fragment, and drop what follows: see settings
    try:
        check_url(written)
    except BadURL as problem:
        raise EmbeddedError(
            f"OPTOUT_REDIS_URL cannot be understood: {problem}; write redis://user:password@host:port/0, special "
            "characters of the password percent-encoded, or unset it"
        ) from None
    return redis.Redis.from_url(
        written,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


def where(client: redis.Redis) -> str:
    """Return the host, port and database of a client, or the path of its socket."""
    how = client.connection_pool.connection_kwargs
    if "path" in how:
        return f"{how['path']} database {how.get('db') or 0}"
    return f"{how.get('host', 'localhost')}:{how.get('port', 6379)}/{how.get('db') or 0}"


def require_empty(url: str) -> None:
    """Raise EmbeddedError if the database has a single key, or cannot be asked."""
    with client_of(url) as client:
        shown = f"the Redis of OPTOUT_REDIS_URL ({where(client)})"
        try:
            keys = client.dbsize()
        except (redis.RedisError, OSError) as problem:
            raise EmbeddedError(
                f"{shown} cannot be used ({type(problem).__name__}): start it, or unset the variable"
            ) from None
        if keys:
            raise EmbeddedError(
                f"{shown} holds {keys} keys, and the embedded stack touches nobody's data: name an empty database or "
                "unset the variable"
            )
