"""Redis starts again while texts come in, also with a worker dead: everything is definite soon, and never wrong."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from consumer.guard import VerdictKind
from tests.parts.system import System, inbound, location_in, wait_for
from tests.parts.watching import Prober, patched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from consumer.embedded.redis_server import RedisServer
    from tests.parts.kafka import Kafka
    from tests.parts.redis import MakeRedis

BUCKETS = 4
LOCATIONS = [location_in(bucket, BUCKETS) for bucket in range(BUCKETS)]
PATIENT = "+12025550144"
SESSION = 3.0
JOINING = 2.0
"""What it takes a group to be joined anew: each member hears of it with its next heartbeat."""
REGULAR = 30.0
"""Seconds between two passes of vouching that nothing hurries. What is definite sooner did not wait for one."""
SOON = 12.0
"""Seconds that a busy machine may take for the next commit and what follows: far from that next pass all the same."""


@pytest.fixture
def server(own_redis: MakeRedis) -> RedisServer:
    return own_redis()


@pytest.fixture
def system(kafka: Kafka, server: RedisServer, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    with System(kafka.bootstrap, server.url, topic_prefix, tmp_path, buckets=BUCKETS) as system:
        system.command = patched(voucher__VOUCH_EVERY=REGULAR)
        del system.environment["OPTOUT_KAFKA_HEARTBEAT_INTERVAL_MS"]  # the product's own
        system.create_topics()
        yield system


@pytest.fixture
def texts(system: System) -> Iterator[None]:
    """Keep texts coming in: where nobody texts a time that begins anew is reached at once, and nothing is shown.

    Some are keywords: with such rare passes it is the applier who notices that Redis is another one.
    """
    stop = threading.Event()

    def send() -> None:
        producer = Producer({"bootstrap.servers": system.bootstrap, "linger.ms": 0})
        for number in itertools.count():
            if stop.wait(0.02):
                break
            body = "STOP" if number % 3 == 0 else "see you at 3"
            text = inbound(LOCATIONS[number % BUCKETS], f"+1202555{150 + number % 40:04d}", body)
            producer.produce(system.topics["inbound"], system.text(text), str(number))
            producer.poll(0)
        producer.flush(10)

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    yield
    stop.set()
    sending.join(20)


def definite(system: System) -> bool:
    guard = system.guard()
    try:
        return all(guard.check(location, PATIENT).kind is VerdictKind.SUPPRESSED for location in LOCATIONS)
    finally:
        guard.close()


@pytest.mark.usefixtures("texts")
def test_redis_starts_again_beside_a_dead_worker(system: System, server: RedisServer) -> None:
    """After a restart of Redis the next commit is enough; with a worker dead, its session's end and the next commit."""
    workers = [system.start_worker(), system.start_worker()]
    received = {"buckets received", "inbound partitions received"}
    wait_for("both have work", lambda: all(received <= {*worker.events()} for worker in workers), 60)
    system.append(*((location, PATIENT, "STOP") for location in LOCATIONS))
    wait_for("in force", lambda: definite(system), 60)
    with Prober(system) as prober:
        prober.ask_about(*((location, PATIENT) for location in LOCATIONS))
        for killed, bound in ((None, SOON), (workers[0], SESSION + JOINING + SOON)):
            if killed is not None:
                killed.kill()
            server.kill()
            server.start()
            began = time.monotonic()
            assert not definite(system)
            wait_for("definite again", lambda: definite(system), bound)
            print(f"definite after {time.monotonic() - began:.1f} s")  # noqa: T201 - beside the bound
    assert prober.kinds == {VerdictKind.SUPPRESSED, VerdictKind.UNKNOWN}
    assert not prober.allowed
