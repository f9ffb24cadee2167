"""What a guard counts: each verdict once, by kind and reason, and what each check took; Prometheus shows the same."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import prometheus_client

from consumer.guard import Unknown, VerdictKind
from consumer.guard.counts import register
from tests.parts.view import FINE, HERE, STOPPED

if TYPE_CHECKING:
    import redis

    from tests.parts.guards import AnyGuard
    from tests.parts.view import Owner

ALLOWED, SUPPRESSED = (VerdictKind.ALLOWED, None), (VerdictKind.SUPPRESSED, None)
UNVOUCHED = (VerdictKind.UNKNOWN, Unknown.UNVOUCHED)


def test_each_verdict_counts_once(guard: AnyGuard, owner: Owner, client: redis.Redis) -> None:
    """One check, many, mixed ones, those that wait, those that are UNKNOWN: each counts once, as does each number."""
    guard.check(HERE, FINE)
    guard.check(HERE, STOPPED, why=True)
    guard.check_many(HERE, [FINE] * 20 + [STOPPED] * 3)
    guard.check_each([(HERE, STOPPED), ("loc-77", STOPPED)])
    guard.check(HERE, FINE, catch_up=0.12)
    client.flushdb()
    guard.check_many(HERE, [FINE, STOPPED])
    counts = guard.tally.counts()
    behind = (VerdictKind.UNKNOWN, Unknown.BEHIND)
    assert counts.verdicts == {ALLOWED: 22, SUPPRESSED: 5, behind: 1, UNVOUCHED: 2}
    assert counts.checks == 6
    assert 0.12 <= counts.seconds < 5
    assert counts.slower_than[0.1] >= 1
    assert list(counts.slower_than.values()) == sorted(counts.slower_than.values(), reverse=True)


def test_claims_count_apart(guard: AnyGuard, owner: Owner) -> None:
    """A claim of a confirmation is no check."""
    guard.claim_confirmation(HERE, STOPPED, "0" * 32)
    assert guard.tally.counts().claims == {SUPPRESSED: 1}
    assert guard.tally.counts().checks == 0


def test_prometheus_shows_what_is_counted(guard: AnyGuard, owner: Owner) -> None:
    """Where prometheus-client is there a registry shows the counts, under labels of one's own, and no number."""
    registry = prometheus_client.CollectorRegistry()
    register(guard.tally, registry, sender="reminders")
    guard.check_many(HERE, [FINE, STOPPED])
    guard.claim_confirmation(HERE, STOPPED, "0" * 32)
    shown = prometheus_client.generate_latest(registry).decode()
    assert 'optout_guard_verdicts_total{reason="",sender="reminders",verdict="ALLOWED"} 1.0' in shown
    assert 'optout_guard_claims_total{reason="",sender="reminders",verdict="SUPPRESSED"} 1.0' in shown
    assert 'optout_guard_check_seconds_count{sender="reminders"} 1.0' in shown
    assert 'optout_guard_check_seconds_bucket{le="+Inf",sender="reminders"} 1.0' in shown
    assert "555" not in shown


def test_threads_lose_no_count(guard: AnyGuard, owner: Owner) -> None:
    """Many threads that share a guard are all counted."""

    def ask() -> None:
        for _ in range(50):
            guard.check(HERE, FINE)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert guard.tally.counts().verdicts == {ALLOWED: 400}
    assert guard.tally.counts().checks == 400
