"""A guard over a client of redis-py that a producer has already: used as its owner made it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.guard import Guard, Unknown
from tests.parts.view import (
    ALLOWED,
    BUCKETS,
    FINE,
    HERE,
    MUCH,
    STOPPED,
    SUPPRESSED,
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
    import redis

    from tests.parts.redis import MakeRedis
    from tests.parts.view import Owner


def test_a_client_that_decodes_is_answered_alike(redis_url: str, owner: Owner) -> None:
    """A producer's own client may decode responses, or speak RESP3: the answers are the same."""
    for options in ({}, {"decode_responses": True}, {"protocol": 3}, {"protocol": 3, "decode_responses": True}):
        with connect(redis_url, **options) as client:
            guard = Guard(client, buckets=BUCKETS)
            assert answers(guard) == [SUPPRESSED, ALLOWED]
            assert [said(one) for one in guard.check_each([(HERE, STOPPED), (HERE, FINE)] * 9)] == [
                SUPPRESSED,
                ALLOWED,
            ] * 9
            assert guard.check(HERE, STOPPED, why=True).keyword == "OPT_OUT"


def test_a_client_of_ones_own_keeps_its_timeout(own_redis: MakeRedis) -> None:
    """A hung server is waited for as long as the client's owner said, whatever way the guard is asked."""
    server = own_redis()
    with connect(server.url) as client:
        set_up(client)
        guard = Guard(client, buckets=BUCKETS)
        assert answers(guard) == [SUPPRESSED, ALLOWED]
        with paused(server.pid), within(TIMEOUT + MUCH):
            assert answers(guard) == [unknown(Unknown.TIMEOUT)] * 2
        with paused(server.pid), within(TIMEOUT + MUCH):
            assert said(guard.check(HERE, FINE)) == unknown(Unknown.TIMEOUT)
        assert answers(guard) == [SUPPRESSED, ALLOWED]


def test_an_answer_that_was_left_unread_is_nobodys(redis_url: str, owner: Owner) -> None:
    """What somebody left unread on the client's connections is no verdict, and is gone with the next question."""
    with connect(redis_url) as client:
        guard = Guard(client, buckets=BUCKETS)
        assert said(guard.check(HERE, FINE)) == ALLOWED
        left: redis.Connection = client.connection_pool.get_connection()
        left.send_command("WAIT", 1, 200)  # type: ignore[no-untyped-call]
        client.connection_pool.release(left)
        assert said(guard.check(HERE, STOPPED)) == unknown(Unknown.GARBLED)
        assert said(guard.check(HERE, STOPPED)) == SUPPRESSED
        assert said(guard.check(HERE, FINE)) == ALLOWED
