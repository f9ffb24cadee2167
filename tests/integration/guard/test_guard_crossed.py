"""Whose answer it is: threads, tasks that are cancelled, signals and forks never give a question another's verdict."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import random
import signal
import threading
import time
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Connection as AsyncConnection

from consumer.domain.events import Action
from consumer.guard import AsyncGuard, Guard, Unknown, VerdictKind
from consumer.nodes.deadline import BoundedConnection
from tests.parts.fake_redis import FakeRedis, commands, verdict
from tests.parts.view import ALLOWED, BUCKETS, FINE, HERE, STOPPED, SUPPRESSED, THERE, said, unknown

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from types import FrameType

    import redis

    from tests.parts.guards import AnyGuard, MakeGuard
    from tests.parts.view import Owner

NUMBERS = [f"+120255502{n:02}" for n in range(40)]
OPTED_OUT = set(NUMBERS[::2])


@pytest.fixture
def halves(owner: Owner) -> Owner:
    """A view in which every second number has opted out here, and the others there."""
    owner.write(Action.OPT_OUT, HERE, *NUMBERS[::2])
    owner.write(Action.OPT_OUT, THERE, *NUMBERS[1::2])
    owner.vouch()
    return owner


def right(location: str, number: str) -> VerdictKind:
    return VerdictKind.SUPPRESSED if (number in OPTED_OUT) is (location == HERE) else VerdictKind.ALLOWED


def test_many_threads_share_a_guard(guard: AnyGuard, halves: Owner) -> None:
    """Thirty-two threads that ask at once in every way get each its own verdicts."""
    wrong: list[object] = []

    def ask(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(30):
            location, number = chance.choice((HERE, THERE)), chance.choice(NUMBERS)
            if guard.check(location, number).kind is not right(location, number):
                wrong.append((location, number))
            pairs = [(chance.choice((HERE, THERE)), chance.choice(NUMBERS)) for _ in range(12)]
            if [one.kind for one in guard.check_each(pairs)] != [right(*pair) for pair in pairs]:
                wrong.append(pairs)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_cancelled_questions_leave_no_answer_behind(redis_url: str, halves: Owner) -> None:
    """Of a thousand questions that are cancelled at any moment none goes on, or leaves its answer."""

    async def ask_all() -> tuple[int, int, list[object]]:
        chance = random.Random(7)
        cancelled, answered, wrong = 0, 0, list[object]()

        async def ask(guard: AsyncGuard) -> None:
            nonlocal answered
            location, number = chance.choice((HERE, THERE)), chance.choice(NUMBERS)
            if chance.random() < 0.5:
                found, expected = [(await guard.check(location, number)).kind], [right(location, number)]
            else:
                pairs = [(chance.choice((HERE, THERE)), chance.choice(NUMBERS)) for _ in range(12)]
                found = [one.kind for one in await guard.check_each(pairs)]
                expected = [right(*pair) for pair in pairs]
            answered += 1
            if found != expected:
                wrong.append((found, expected))

        async with AsyncGuard.from_url(redis_url, buckets=BUCKETS, timeout=20) as guard:
            for _ in range(1000):
                doomed, other = asyncio.create_task(ask(guard)), asyncio.create_task(ask(guard))
                for _ in range(chance.randrange(12)):
                    await asyncio.sleep(0)
                in_time = not doomed.done()
                doomed.cancel()
                results = await asyncio.gather(doomed, other, return_exceptions=True)
                assert isinstance(results[0], asyncio.CancelledError) is in_time
                cancelled += in_time
        return cancelled, answered, wrong

    cancelled, answered, wrong = asyncio.run(ask_all())
    assert wrong == []
    assert cancelled > 300
    assert answered >= 1000


class Interrupted(Exception):
    """Raised by a signal's handler."""


@pytest.fixture
def interrupts() -> Iterator[Callable[[float], None]]:
    """Have a timer's signal raise an exception wherever the main thread is then."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    def start(seconds: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.signal(signal.SIGALRM, handle)
    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupted_questions_leave_no_answer_behind(
    redis_url: str, halves: Owner, interrupts: Callable[[float], None]
) -> None:
    """An exception out of a signal's handler, at any moment of a question, leaves nothing for the next question."""
    chance = random.Random(11)
    interrupted = 0
    with Guard.from_url(redis_url, buckets=BUCKETS) as guard:
        for _ in range(1500):
            try:
                interrupts(chance.uniform(0.00002, 0.0003))
                guard.check(HERE, NUMBERS[0])
                guard.check_each([(HERE, NUMBERS[0])] * 12)
                interrupts(0)
            except Interrupted:
                interrupted += 1
            number = chance.choice(NUMBERS)
            assert guard.check(HERE, number).kind is right(HERE, number)
            assert {one.kind for one in guard.check_each([(HERE, number)] * 12)} == {right(HERE, number)}
    assert interrupted > 50


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_question_that_was_sent_and_not_read(guard: AnyGuard, halves: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception between sending and reading ends the question, and the next one is answered as if nothing were."""
    kind = BoundedConnection if isinstance(guard, Guard) else AsyncConnection

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt if isinstance(guard, Guard) else asyncio.CancelledError

    asks: list[Callable[[], object]] = [
        lambda: guard.check(HERE, NUMBERS[0]),
        lambda: guard.check_each([(HERE, NUMBERS[0]), (THERE, NUMBERS[0])]),
    ]
    for ask in asks:
        ask()
        with monkeypatch.context() as patched:
            patched.setattr(kind, "read_response", interrupted)
            with pytest.raises((KeyboardInterrupt, CancelledError)):
                ask()
        assert guard.check(HERE, NUMBERS[1]).kind is right(HERE, NUMBERS[1])
        assert guard.check(HERE, NUMBERS[2]).kind is right(HERE, NUMBERS[2])


def test_a_connection_that_is_one_answer_late_is_dropped(make_guard: MakeGuard) -> None:
    """A connection over which an answer too many came gives nobody another's, and is used for no third question."""

    def twice(end: socket.socket) -> None:
        for command in commands(end):
            word = command[3 + int(command[2])] if command[0].startswith(b"EVAL") else b""
            end.sendall(verdict(word, "0") + verdict(word, "1") if word else b"+OK\r\n")

    with FakeRedis(twice) as other:
        guard = make_guard(other.url)
        found = [said(guard.check(HERE, FINE)) for _ in range(4)]
    assert found == [ALLOWED, unknown(Unknown.GARBLED)] * 2


# Forks


def in_child(asks: Callable[[], object]) -> Callable[[], Any]:
    """Begin a call in a forked process; return what waits for it and tells what it returned."""
    context = multiprocessing.get_context("fork")
    near, far = context.Pipe()

    def run(end: Connection) -> None:
        end.send(asks())

    child = context.Process(target=run, args=(far,))
    child.start()

    def told() -> Any:
        assert near.poll(20), "the child does not answer"
        found = near.recv()
        child.join()
        return found

    return told


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_process_asks_by_itself(redis_url: str, halves: Owner) -> None:
    """After a fork parent and child ask at the same time, each over connections of its own, and both are right."""
    with Guard.from_url(redis_url, buckets=BUCKETS) as guard:

        def ask() -> list[bool]:
            found = [guard.check(HERE, number).kind is right(HERE, number) for number in NUMBERS * 5]
            many = guard.check_each([(THERE, number) for number in NUMBERS])
            return [*found, [one.kind for one in many] == [right(THERE, number) for number in NUMBERS]]

        assert all(ask())  # leaves a connection behind, which each of the others finds
        children = [in_child(ask) for _ in range(3)]
        assert all(ask())
        assert all(all(told()) for told in children)
        # And while threads are asking, whose locks and connections are in use at that moment.
        answers: list[list[bool]] = []
        beside = [threading.Thread(target=lambda: answers.extend(ask() for _ in range(5))) for _ in range(4)]
        for thread in beside:
            thread.start()
        assert all(in_child(ask)())
        for thread in beside:
            thread.join()
        assert all(map(all, answers))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_process_has_its_own_event_loop(redis_url: str, halves: Owner) -> None:
    """An AsyncGuard that was used before a fork is right in parent and child."""
    guard = AsyncGuard.from_url(redis_url, buckets=BUCKETS)

    async def ask() -> bool:
        found = [(await guard.check(HERE, number)).kind is right(HERE, number) for number in NUMBERS]
        await guard.aclose()
        return all(found)

    assert asyncio.run(ask())
    assert in_child(lambda: asyncio.run(ask()))()
    assert asyncio.run(ask())


# Event loops


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_loops_that_are_over_leave_no_connection(redis_url: str, owner: Owner, client: redis.Redis) -> None:
    """A guard that is asked in one event loop after the other keeps no connections of those that are over."""
    guard = AsyncGuard.from_url(redis_url, buckets=BUCKETS)
    for _ in range(20):
        assert said(asyncio.run(guard.check(HERE, STOPPED))) == SUPPRESSED
        gc.collect()
    assert len(guard._lines) == 1
    deadline = time.monotonic() + 2
    while (connected := int(client.info("clients")["connected_clients"])) > 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert connected <= 4
    guard._lines.clear()
    gc.collect()  # those of the last one, while nobody minds that they were not closed
