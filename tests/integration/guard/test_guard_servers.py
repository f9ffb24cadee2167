"""Servers that go away, come back, or are others than they were: UNKNOWN in time, and right again by itself."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import redis

from consumer.domain.events import Action
from consumer.guard import AsyncGuard, Guard, Unknown
from consumer.suppression.view import View
from tests.parts.view import (
    ALLOWED,
    BUCKETS,
    FINE,
    HERE,
    LOG,
    META,
    MUCH,
    REPLICATING,
    SET,
    SUPPRESSED,
    TIMEOUT,
    answers,
    connect,
    follow,
    paused,
    promote,
    said,
    set_up,
    unknown,
    wait_for,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.parts.guards import MakeGuard
    from tests.parts.redis import MakeRedis

pytestmark = pytest.mark.every_server


def test_a_user_who_can_only_read_is_enough(own_redis: MakeRedis, make_guard: MakeGuard) -> None:
    """The guard works under a Redis user that may write nothing, and changes nothing by asking."""
    server = own_redis()
    with connect(server.url) as client:
        set_up(client)
        commands = "+eval_ro +evalsha_ro +hmget +smismember +info +time"
        client.execute_command("ACL", "SETUSER", "sender", "on", ">secret", "%R~optout:*", *commands.split())
        with connect(server.url, username="sender", password="secret") as sender:
            assert answers(make_guard(server.url.replace("redis://", "redis://sender:secret@"))) == [
                SUPPRESSED,
                ALLOWED,
            ]
            with pytest.raises(redis.exceptions.NoPermissionError):
                sender.sadd(SET, "1")


def test_nobody_there_is_unknown(own_redis: MakeRedis, make_guard: MakeGuard) -> None:
    """Where nothing listens the answer is UNKNOWN, at once; when the server is back the same guard answers again."""
    server = own_redis()
    with connect(server.url) as client:
        owner = set_up(client)
        guard = make_guard(server.url)
        assert answers(guard) == [SUPPRESSED, ALLOWED]
        server.stop()
        with within(TIMEOUT + MUCH):
            assert answers(guard) == [unknown(Unknown.UNREACHABLE)] * 2
        server.start()
        assert answers(guard) == [unknown(Unknown.OTHER_SERVER)] * 2
        owner.vouch()
        assert answers(guard) == [SUPPRESSED, ALLOWED]


def test_a_hung_server_is_unknown_in_time(own_redis: MakeRedis, make_guard: MakeGuard) -> None:
    """A server that accepts and does not answer is UNKNOWN within the timeout, on an old connection or a new one."""
    server = own_redis()
    with connect(server.url) as client:
        set_up(client)
        guard = make_guard(server.url)
        assert answers(guard) == [SUPPRESSED, ALLOWED]
        with paused(server.pid):
            for asking in (guard, make_guard(server.url)):
                with within(TIMEOUT + MUCH):
                    assert answers(asking) == [unknown(Unknown.TIMEOUT)] * 2
        assert answers(guard) == [SUPPRESSED, ALLOWED]


def test_a_guard_of_a_url_answers_in_time(own_redis: MakeRedis, make_guard: MakeGuard) -> None:
    """A guard made from a URL keeps its timeout, asks no hung server twice, and makes a lost connection once more."""
    server = own_redis()
    with connect(server.url) as client:
        set_up(client)
    guard = make_guard(server.url, timeout=1.0)
    assert answers(guard) == [SUPPRESSED, ALLOWED]
    with paused(server.pid), within(1.0 + MUCH):
        assert answers(guard) == [unknown(Unknown.TIMEOUT)] * 2
    assert answers(guard) == [SUPPRESSED, ALLOWED]
    server.kill()
    server.start()
    assert answers(guard) == [unknown(Unknown.OTHER_SERVER)] * 2


def test_a_server_that_refuses_us_is_unknown(own_redis: MakeRedis, make_guard: MakeGuard) -> None:
    """A server that refuses the guard's user, or has no such database, is UNKNOWN, and not taken to be away."""
    server = own_redis()
    with connect(server.url) as client:
        set_up(client)
        elsewhere = make_guard(f"{server.url.removesuffix('/0')}/99")
        assert answers(elsewhere) == [unknown(Unknown.REFUSED)] * 2
        client.config_set("requirepass", "secret")
        assert answers(make_guard(server.url)) == [unknown(Unknown.REFUSED)] * 2
        wrong = make_guard(server.url.replace("redis://", "redis://:wrong@"))
        assert answers(wrong) == [unknown(Unknown.REFUSED)] * 2


@pytest.mark.parametrize("url", ["redis://localhost:1/abc", "redis://localhost:1/1_0", "rediss://localhost/%C2%B2"])
def test_a_database_without_a_number_is_refused(make_guard: MakeGuard, url: str) -> None:
    """A database that is named wrongly is not quietly number 0."""
    with pytest.raises(ValueError, match="database is named by its number"):
        make_guard(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://someone:hun/ter2@localhost:6379/0",
        "redis://:hun[ter2@localhost",
        "redis://localhost/0?hunter2=1",
        "redis://localhost:hunter2/0",
        "http://hunter2@localhost",
        "hunter2",
    ],
)
@pytest.mark.parametrize("mode", ["standalone", "cluster", "sentinel"])
def test_what_is_no_url_is_not_quoted(make_guard: MakeGuard, url: str, mode: str) -> None:
    """A URL that cannot be understood is refused in a sentence that holds nothing of it: it could be a password."""
    with pytest.raises(ValueError, match=r"URL|host|Sentinel|database") as raised:
        make_guard(url, mode=mode, service="any")
    told = "".join(traceback.format_exception(raised.value))
    assert "hunter2" not in str(raised.value)
    assert "ter2" not in told.rpartition("Error: ")[2]
    assert "During handling" not in told
    assert "cause" not in told


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restarted_server_is_another_one(own_redis: MakeRedis, make_guard: MakeGuard, how: str) -> None:
    """A server started again has its data and is not believed, not even for members, until it is vouched for."""
    server = own_redis(settings={"appendfsync": "always"})
    with connect(server.url) as client:
        owner = set_up(client)
        getattr(server, how)()
        server.start()
        guard = make_guard(server.url)
        assert client.exists(SET)
        assert answers(guard) == [unknown(Unknown.OTHER_SERVER)] * 2
        owner.vouch()
        assert answers(guard) == [SUPPRESSED, ALLOWED]


def test_a_promoted_replica_is_another_server(own_redis: MakeRedis, make_guard: MakeGuard) -> None:
    """A replica does not answer for its primary, nor does it when it is promoted without the last opt-outs.

    Once its buckets are caught up from the ledger and vouched for, it does; the old primary, demoted, does not.
    """
    primary, replica = own_redis(settings=REPLICATING), own_redis(settings=REPLICATING)
    with connect(primary.url) as old, connect(replica.url) as new:
        follow(new, primary.port)  # the first replica gives a primary another replication id
        owner = set_up(old)
        wait_for(lambda: new.hgetall(META) == old.hgetall(META))
        guard = make_guard(replica.url)
        assert answers(make_guard(primary.url)) == [SUPPRESSED, ALLOWED]
        assert answers(guard) == [unknown(Unknown.OTHER_SERVER)] * 2

        promote(new)
        owner.write(Action.OPT_OUT, HERE, FINE)  # still into the old one, which nobody follows any more
        owner.vouch()
        primary.kill()
        assert answers(guard) == [unknown(Unknown.OTHER_SERVER)] * 2

        owner.view = View(new, buckets=BUCKETS, ledger=LOG)
        owner.catch_up()
        assert answers(guard) == [unknown(Unknown.OTHER_SERVER)] * 2
        owner.vouch()
        assert answers(guard) == [SUPPRESSED, SUPPRESSED]

        primary.start()
        follow(old, replica.port)
        assert answers(make_guard(primary.url)) == [unknown(Unknown.OTHER_SERVER)] * 2
        assert answers(guard) == [SUPPRESSED, SUPPRESSED]


def test_a_demoted_primary_is_another_server(own_redis: MakeRedis, make_guard: MakeGuard) -> None:
    """A primary that has swapped roles with its replica answers no more, though it never restarted.

    Its run id is still the one in the marker that came back to it.
    """
    first, second = own_redis(settings=REPLICATING), own_redis(settings=REPLICATING)
    with connect(first.url) as old, connect(second.url) as new:
        follow(new, first.port)
        run = set_up(old).view.server().run
        wait_for(lambda: new.hgetall(META) == old.hgetall(META))
        guard = make_guard(first.url)
        assert answers(guard) == [SUPPRESSED, ALLOWED]
        promote(new)
        follow(old, second.port)
        assert old.hget(META, "run") == run.encode()
        assert View(old, buckets=BUCKETS, ledger=LOG).server().run == run
        assert answers(guard) == [unknown(Unknown.OTHER_SERVER)] * 2


class Resolver:
    """The system's, which hangs for a while where it is asked for a name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._look_up = socket.getaddrinfo
        self.answers = threading.Event()
        self.asked = 0
        monkeypatch.setattr(socket, "getaddrinfo", self._late)

    def _late(self, host: str, *arguments: Any, **options: Any) -> Any:
        if host == "localhost":
            self.asked += 1
            self.answers.wait(30)
        return self._look_up(host, *arguments, **options)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    hung = Resolver(monkeypatch)
    yield hung
    hung.answers.set()


def named(url: str) -> str:
    return url.replace("127.0.0.1", "localhost")


def test_a_resolver_that_hangs(redis_url: str, make_guard: MakeGuard, resolver: Resolver) -> None:
    """While names are not looked up each question is UNKNOWN within the timeout, and right when they are again."""
    with connect(redis_url) as client:
        set_up(client)
    guard = make_guard(named(redis_url))
    for _ in range(2):
        with within(TIMEOUT + MUCH):
            assert [said(guard.check(HERE, FINE))] == [unknown(Unknown.TIMEOUT)]
    resolver.answers.set()
    assert answers(guard) == [SUPPRESSED, ALLOWED]


def test_tasks_have_a_name_looked_up_once_for_all(redis_url: str, resolver: Resolver) -> None:
    """However many tasks ask while the resolver hangs, one look-up is under way, and the program's threads are free."""
    with connect(redis_url) as client:
        set_up(client)

    async def ask() -> None:
        async with AsyncGuard.from_url(named(redis_url), timeout=TIMEOUT, buckets=BUCKETS) as guard:
            with within(TIMEOUT + MUCH):
                asking = asyncio.gather(*(guard.check(HERE, FINE) for _ in range(20)))
                await asyncio.sleep(0)
                await asyncio.wait_for(asyncio.to_thread(int), TIMEOUT / 2)
                found = await asking
            assert [said(verdict) for verdict in found] == [unknown(Unknown.TIMEOUT)] * 20
            assert resolver.asked == 1
            resolver.answers.set()
            assert said(await guard.check(HERE, FINE)) == ALLOWED

    asyncio.run(ask())


def test_a_thread_that_cannot_be_started(
    redis_url: str, make_guard: MakeGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be started for a look-up the answer is UNKNOWN, and right as soon as one can."""
    with connect(redis_url) as client:
        set_up(client)
    guard = make_guard(named(redis_url))
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name == "redis-lookup":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert answers(guard) == [unknown(Unknown.UNREACHABLE)] * 2
    monkeypatch.undo()
    assert answers(guard) == [SUPPRESSED, ALLOWED]


def test_an_address_of_a_kind_that_there_is_not(
    redis_url: str, make_guard: MakeGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the addresses of a name one that this machine cannot speak to keeps it from none of the others."""
    with connect(redis_url) as client:
        set_up(client)
    look_up, make = socket.getaddrinfo, socket.socket.__init__

    def both(host: str, port: int, *arguments: Any, **options: Any) -> Any:
        foreign = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))
        return (
            [foreign, *look_up("127.0.0.1", port, *arguments, **options)]
            if host == "localhost"
            else (look_up(host, port, *arguments, **options))
        )

    def without(self: socket.socket, family: int = -1, *arguments: Any, **options: Any) -> None:
        if family == socket.AF_INET6:
            raise OSError("Address family not supported by protocol")
        make(self, family, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", both)
    monkeypatch.setattr(socket.socket, "__init__", without)
    assert answers(make_guard(named(redis_url))) == [SUPPRESSED, ALLOWED]


def test_a_name_is_looked_up_once_for_all(redis_url: str, resolver: Resolver) -> None:
    """However many threads ask while the resolver hangs, one look-up is under way."""
    with connect(redis_url) as client:
        set_up(client)
    with Guard.from_url(named(redis_url), timeout=TIMEOUT, buckets=BUCKETS) as guard, ThreadPoolExecutor(20) as pool:
        with within(TIMEOUT + MUCH):
            found = list(pool.map(lambda _: said(guard.check(HERE, FINE)), range(20)))
        assert found == [unknown(Unknown.TIMEOUT)] * 20
        assert resolver.asked == 1
        resolver.answers.set()
        assert answers(guard) == [SUPPRESSED, ALLOWED]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_fork_looks_up_by_itself(redis_url: str, resolver: Resolver) -> None:
    """A process that was forked while a look-up hung does not wait for the one of its parent."""
    with connect(redis_url) as client:
        set_up(client)
    with Guard.from_url(named(redis_url), timeout=TIMEOUT, buckets=BUCKETS) as guard:
        assert said(guard.check(HERE, FINE)) == unknown(Unknown.TIMEOUT)
        context = multiprocessing.get_context("fork")
        near, far = context.Pipe()

        def look() -> None:
            resolver.answers = threading.Event()
            resolver.answers.set()
            far.send(said(guard.check(HERE, FINE)))

        child = context.Process(target=look)
        child.start()
        assert near.poll(20)
        assert near.recv() == ALLOWED
        child.join()
