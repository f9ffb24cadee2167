"""What takes a second each takes one for all, and no failure is lost."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any, NoReturn

import pytest

from consumer.inbound import Inbound, TopicWatch
from consumer.kafka.committed import KeptOffsets, KeptOffsetsPool, Partition
from consumer.kafka.errors import KafkaGone
from consumer.nodes.asking import _sent_together
from consumer.together import together


def raised(problem: Exception) -> None:
    raise problem


def test_all_are_asked_at_the_same_time() -> None:
    """Each of these calls returns only when all are being made; their answers come in the order of the calls."""
    all_there = threading.Barrier(8, timeout=5)

    def answer(number: int) -> int:
        all_there.wait()
        return number

    assert together(*(partial(answer, number) for number in range(8))) == list(range(8))


def test_the_first_failure_is_raised_when_nobody_asks_any_more() -> None:
    """A failure is raised as it was, that of the first call that failed, and not before the others have ended."""
    ended: list[float] = []
    first, second = ValueError("first"), KeyError("second")

    def late() -> None:
        time.sleep(0.05)
        ended.append(time.monotonic())

    with pytest.raises(ValueError, match="first") as found:
        together(late, partial(raised, first), late, partial(raised, second))
    assert found.value is first
    assert len(ended) == 2


def no_thread(_thread: threading.Thread) -> NoReturn:
    raise RuntimeError("can't start new thread")


def test_where_no_thread_starts_calls_are_made_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that allows no further thread for now makes an answer late, and ends no worker."""
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert together(*(partial(int, number) for number in range(3))) == [0, 1, 2]
    watch = TopicWatch(Inbound(["sms.inbound"], "ledger"))
    watch.look()
    servers: Any = {server: [("PING",)] for server in ("one", "two")}
    answers: Any = _sent_together(servers, lambda server, _commands: [server])
    assert answers == {"one": ["one"], "two": ["two"]}


def test_a_client_that_cannot_be_made_is_silence() -> None:
    """Whoever asks while all clients are asked makes one more; a machine without room for it ends no worker."""

    class Slow:
        def both(self, *_: Any) -> str:
            with pytest.raises(TimeoutError, match="no further client can be made"):
                pool.both([], 1.0)
            return "an answer"

    made: Any = iter([Slow()])

    def make() -> Any:
        try:
            return next(made)
        except StopIteration:
            raise KafkaGone("no room") from None

    pool = KeptOffsetsPool(make)
    answers: Any = [pool.both([], 1.0) for _ in range(2)]
    assert answers == ["an answer"] * 2


def test_first_offsets_are_asked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that takes over partitions that nobody read waits for one answer, not for each in turn."""
    kept = KeptOffsets({"bootstrap.servers": "127.0.0.1:1"}, "g")
    all_there = threading.Barrier(16, timeout=5)

    def first(partition: Partition, _timeout: float) -> int:
        all_there.wait()
        return partition.number

    monkeypatch.setattr(kept._group, "first", first)
    monkeypatch.setattr(kept._group, "hear_of", lambda _topics, _timeout: None)
    places = [Partition("sms.inbound", number) for number in range(16)]
    assert kept.firsts(places, 10.0) == {place: place.number for place in places}
    kept.close()
