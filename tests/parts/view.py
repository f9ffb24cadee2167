"""A small view of a test's own: who keeps and vouches for its buckets, and who has opted out where."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consumer.domain.bucket import Entry
from consumer.domain.buckets import bucket_of, bucket_prefix, digits_of, meta_key, set_key, state_key
from consumer.domain.events import Action
from consumer.guard import VerdictKind
from consumer.suppression.answers import Batch, Status
from consumer.suppression.view import View

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from consumer.guard import Unknown, Verdict
    from consumer.nodes import Nodes
    from tests.parts.guards import AnyGuard

BUCKETS = 8
LOG = "topic-id/appliers"
HERE = "loc-1"
NEXT_DOOR = next(f"loc-{n}" for n in range(2, 99) if bucket_of(f"loc-{n}", BUCKETS) == bucket_of(HERE, BUCKETS))
THERE = next(f"loc-{n}" for n in range(2, 99) if bucket_of(f"loc-{n}", BUCKETS) != bucket_of(HERE, BUCKETS))
META = meta_key(bucket_prefix(bucket_of(HERE, BUCKETS), BUCKETS))
SET = set_key(bucket_prefix(bucket_of(HERE, BUCKETS), BUCKETS), HERE)
STATE = state_key(bucket_prefix(bucket_of(HERE, BUCKETS), BUCKETS), HERE)
STOPPED, FINE = "+12025550143", "+12025550144"
TIMEOUT = 0.5
MUCH = 0.4
"""Seconds that a busy machine may add to a timeout."""
ALLOWED, SUPPRESSED = (VerdictKind.ALLOWED, None), (VerdictKind.SUPPRESSED, None)
REPLICATING = {"repl-diskless-sync-delay": "0", "shutdown-timeout": "0", "appendonly": "no"}
"""A replica is served at once, and in the end nobody waits for it or for its first file."""


def connect(url: str, **options: Any) -> redis.Redis:
    """Return a client as an outbound producer would have it: one short timeout, no retries."""
    return redis.Redis.from_url(
        url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0), **options
    )


class Owner:
    """Keeps and vouches for the buckets of one ledger, as the worker does; here the ledger is a list a bucket."""

    def __init__(self, client: redis.Redis | Nodes) -> None:
        self.view = View(client, buckets=BUCKETS, ledger=LOG)
        self.ledgers: dict[int, list[Entry]] = {}

    def write(self, action: Action, location_id: str, *numbers: str, apply: bool = True) -> None:
        """Append keywords to the ledger, and apply them."""
        ledger = self.ledgers.setdefault(bucket_of(location_id, BUCKETS), [])
        for number in numbers:
            ledger.append(Entry(len(ledger), location_id, digits_of(number), action, len(ledger), action))
        if apply:
            self.catch_up()

    def catch_up(self, *, up_to: int | None = None) -> None:
        """Apply what the buckets lack, beginning those that are not there."""
        for bucket, ledger in self.ledgers.items():
            position = self.view.begin(bucket)
            end = len(ledger) if up_to is None else up_to
            assert self.view.apply([Batch(bucket, position, end, ledger[position:end])])[0].status is Status.OK

    def vouch(self, *, age: float = 0.0) -> None:
        """Vouch for all buckets, as of `age` seconds ago by Redis's clock."""
        server = self.view.server()
        metas = self.view.metas(range(BUCKETS))
        ends = {
            bucket: (meta.epoch, len(self.ledgers.get(bucket, ())))
            for bucket, meta in metas.items()
            if meta is not None
        }
        assert set(self.view.vouch(server, server.time - int(age * 1000), ends).values()) <= {Status.OK}


def set_up(client: redis.Redis | Nodes) -> Owner:
    """Make a vouched view in which one patient has opted out here, another next door and a third there."""
    owner = Owner(client)
    for bucket in range(BUCKETS):
        owner.view.begin(bucket)
    owner.write(Action.OPT_OUT, HERE, STOPPED)
    owner.write(Action.OPT_OUT, NEXT_DOOR, "+12025550145")
    owner.write(Action.OPT_OUT, THERE, "+12025550146")
    owner.vouch()
    return owner


def said(verdict: Verdict) -> tuple[VerdictKind, Unknown | None]:
    return verdict.kind, verdict.reason


def unknown(reason: Unknown) -> tuple[VerdictKind, Unknown]:
    return VerdictKind.UNKNOWN, reason


def answers(guard: AnyGuard) -> list[tuple[VerdictKind, Unknown | None]]:
    """Return what is said of the patient who opted out here and of one who did not."""
    return [said(verdict) for verdict in guard.check_many(HERE, [STOPPED, FINE])]


@contextmanager
def within(seconds: float) -> Generator[None]:
    """Hold what is done to this time."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"it took {took:.2f} s"


@contextmanager
def paused(pid: int) -> Generator[None]:
    """Stop a process as a hung host would: connections are accepted and nothing is answered."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def follow(replica: Any, port: int) -> None:
    """Make the client's server a replica of the one on that port, and wait until it holds its data."""
    replica.execute_command("REPLICAOF", "127.0.0.1", port)
    wait_for(lambda: replica.info("replication").get("master_link_status") == "up")


def promote(replica: Any) -> None:
    """Make the client's server a primary, as a failover does."""
    replica.execute_command("REPLICAOF", "NO", "ONE")


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
