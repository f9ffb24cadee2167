"""The strict question: no STOP that Kafka held when it was asked is missed, and it takes about a second."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from consumer.guard import AsyncGuard, Guard, Unknown, VerdictKind
from tests.parts.system import inbound, wait_for

if TYPE_CHECKING:
    from tests.parts.system import System

HERE = "loc-1"


def test_a_stop_that_kafka_has_is_in_the_answer(system: System) -> None:
    """Whoever asks right after Kafka took a STOP is told SUPPRESSED, by either guard; and after a START ALLOWED."""
    system.start_worker()
    guard = Guard.from_url(system.redis_url, buckets=system.buckets)
    other = AsyncGuard.from_url(system.redis_url, buckets=system.buckets)
    wait_for("ALLOWED", lambda: guard.check(HERE, "+12025550100").kind is VerdictKind.ALLOWED)
    took, early = [], 0
    with asyncio.Runner() as loop:
        for turn in range(8):
            number = f"+12025550{turn:03}"
            for body, kind in (("STOP", VerdictKind.SUPPRESSED), ("START", VerdictKind.ALLOWED)):
                system.send([inbound(HERE, number, body)])  # returns when Kafka has it
                early += guard.check(HERE, number).kind is not kind
                began = time.monotonic()
                if turn % 2:
                    verdict = guard.check(HERE, number, catch_up=10)
                else:
                    verdict = loop.run(other.check(HERE, number, catch_up=10))
                took.append(time.monotonic() - began)
                assert verdict.kind is kind
                assert verdict.fresh is not None
        loop.run(other.aclose())
    assert early, "the plain question never came too early: this test shows nothing"
    assert sorted(took)[len(took) // 2] < 2.0


def test_what_nobody_reads_is_never_caught_up_with(system: System) -> None:
    """While no worker runs the strict question ends at its deadline: who opted out is SUPPRESSED, nobody is ALLOWED."""
    worker = system.start_worker()
    guard = Guard.from_url(system.redis_url, buckets=system.buckets)
    wait_for("ALLOWED", lambda: guard.check(HERE, "+12025550100").kind is VerdictKind.ALLOWED)
    assert system.run("simulate", HERE, "+12025550100", "STOP").returncode == 0
    assert worker.stop() == 0
    began = time.monotonic()
    stopped, fine = guard.check_many(HERE, ["+12025550100", "+12025550101"], catch_up=1.5)
    assert 1.5 <= time.monotonic() - began < 3
    assert stopped.kind is VerdictKind.SUPPRESSED
    assert (fine.kind, fine.reason) == (VerdictKind.UNKNOWN, Unknown.BEHIND)
    assert guard.check(HERE, "+12025550101").kind is VerdictKind.ALLOWED
