"""What inbound holds and nobody has read keeps answers from being fresh, however it came to be unread."""

from __future__ import annotations

import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from consumer.guard import Guard, Unknown, VerdictKind
from consumer.open_transactions import INBOUND
from tests.parts.kafka import Kafka
from tests.parts.ports import free_ports
from tests.parts.system import System, inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from consumer.guard import Verdict

HERE, STOPPED, FINE = "loc-1", "+12025550143", "+12025550144"


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=4) as system:
        system.create_topics()
        yield system


def verdict(system: System, number: str = FINE) -> Verdict:
    return system.guard().check(HERE, number)


def is_fresh(system: System) -> bool:
    """Whether what was known a moment ago is vouched for."""
    age = verdict(system).age
    return age is not None and age < 2.5


def test_nobody_classifies(system: System) -> None:
    """Appliers alone vouch for nothing: no partition of inbound was ever read."""
    worker = system.start_worker("--only", "apply")
    wait_for("begun", lambda: min(system.metas("applied").values()) == 0)
    wait_for("said", lambda: any("freshness is held back" in event for event in worker.events()))
    assert verdict(system).reason is Unknown.UNVOUCHED
    system.start_worker("--only", "classify")
    wait_for("fresh", lambda: is_fresh(system))
    assert verdict(system).kind is VerdictKind.ALLOWED


def test_partitions_are_added(system: System) -> None:
    """Partitions that inbound gets while workers run hold the time back until they are read, which is soon."""
    system.start_worker()
    wait_for("fresh", lambda: is_fresh(system))
    topic, before = system.topics["inbound"], len(system.ends("inbound"))
    system.admin.create_partitions([NewPartitions(topic, before + 2)])[topic].result(10)
    wait_for("there", lambda: len(system.ends("inbound")) == before + 2)
    stop = system.text(inbound(HERE, STOPPED, "STOP"))
    system.write("inbound", (before + 1, stop))
    written = verdict(system).at or 0
    wait_for("told of them", lambda: (verdict(system, STOPPED).fresh or 0) > written or not is_fresh(system))
    while verdict(system, STOPPED).kind is not VerdictKind.SUPPRESSED:
        assert (verdict(system, STOPPED).fresh or 0) <= written
    wait_for("fresh again", lambda: is_fresh(system))
    assert verdict(system, STOPPED).kind is VerdictKind.SUPPRESSED


def test_a_topic_that_nobody_reads(system: System) -> None:
    """Where appliers know of a topic that no classifier reads, nothing is vouched for until one does."""
    second = f"{system.prefix}sms.inbound.second"
    Kafka(system.bootstrap).create_topic(second, 2)
    both = f"{system.topics['inbound']},{second}"
    system.start_worker("--only", "classify")
    wait_for("classified", lambda: system.committed("classify", "inbound") == system.ends("inbound"))
    applier = system.start_worker("--only", "apply", OPTOUT_INBOUND_TOPICS=both)
    wait_for("said", lambda: any("freshness is held back" in event for event in applier.events()))
    (line,) = [line for line in applier.log() if "freshness is held back" in line["event"]][:1]
    assert all(second in partition for partition in line["partitions"])
    assert verdict(system).reason is Unknown.UNVOUCHED
    system.start_worker("--only", "classify", OPTOUT_INBOUND_TOPICS=both)
    wait_for("fresh", lambda: is_fresh(system))


def test_a_transaction_that_stays_open(system: System) -> None:
    """A STOP behind it is never ALLOWED as if it were known; log and metric name the partition; then it is in force."""
    (port,) = free_ports(1)
    worker = system.start_worker(OPTOUT_OPS_LISTEN=f"127.0.0.1:{port}")
    wait_for("fresh", lambda: is_fresh(system))
    talk, stop = system.text(inbound(HERE, FINE, "talk")), system.text(inbound(HERE, STOPPED, "STOP"))
    upstream = system.transaction("inbound", talk, partition=1)
    system.write("inbound", (1, stop))
    written = verdict(system).at or 0
    named = f"{system.topics['inbound']} [1] for "
    guard = Guard(system.redis(), buckets=system.buckets, max_staleness=3.0)

    def said() -> list[dict[str, Any]]:
        return [line for line in worker.log() if line["event"] == INBOUND and line["partitions"][0].startswith(named)]

    while not said():
        answer = verdict(system, STOPPED)
        assert answer.kind is not VerdictKind.ALLOWED or (answer.fresh or 0) <= written
        assert guard.check(HERE, STOPPED, catch_up=0.5).reason in (Unknown.BEHIND, Unknown.STALE)
    assert guard.check(HERE, STOPPED).reason is Unknown.STALE
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        metrics = answer.read().decode()
    (row,) = [line for line in metrics.splitlines() if line.startswith("optout_open_transaction_seconds{")]
    assert f'partition="1",topic="{system.topics["inbound"]}"' in row
    assert float(row.split()[-1]) >= 5
    upstream.abort_transaction(10)
    wait_for("in force", lambda: verdict(system, STOPPED).kind is VerdictKind.SUPPRESSED)
    wait_for("fresh", lambda: is_fresh(system))
    assert "a transaction that was open has ended: reading goes on" in worker.events()


@pytest.mark.parametrize("how", ["to the beginning", "expired"])
def test_a_group_that_was_reset(system: System, how: str) -> None:
    """Offsets set back, or gone, are read anew before anything is fresh, and what is read twice changes nothing."""
    worker = system.start_worker()
    system.send([inbound(HERE, STOPPED, "STOP"), *(inbound(HERE, FINE, "see you") for _ in range(50))])
    wait_for("settled", system.settled)
    assert worker.stop() == 0
    told = len(system.read("changed"))
    if how == "expired":
        system.expire("classify")
    else:
        system.commit_both("classify", "inbound", dict.fromkeys(system.ends("inbound"), 0))
    before = verdict(system, STOPPED)
    applier = system.start_worker("--only", "apply")
    wait_for("said", lambda: any("freshness is held back" in event for event in applier.events()))
    assert verdict(system, STOPPED).fresh == before.fresh
    system.start_worker("--only", "classify")
    wait_for("fresh", lambda: is_fresh(system))
    assert verdict(system, STOPPED).kind is VerdictKind.SUPPRESSED
    wait_for("settled", system.settled)
    assert len(system.read("changed")) == told


@pytest.mark.parametrize(
    ("pause", "more"), [(0.0, 10), (0.0, 0), (12.0, 10)], ids=["at once", "shorter than it was", "after a while"]
)
def test_inbound_is_made_anew(system: System, pause: float, more: int) -> None:
    """Offsets that were reached in an inbound that was deleted say nothing of its successor, which is read whole."""
    worker = system.start_worker()
    patients = [f"+12025550{number}" for number in range(200, 230)]
    partitions = len(system.ends("inbound"))
    for partition in range(partitions):
        system.write("inbound", *((partition, system.text(inbound(HERE, FINE, "see you"))) for _ in range(5)))
    wait_for("settled", system.settled)
    wait_for("fresh", lambda: is_fresh(system))
    topic = system.topics["inbound"]
    system.make_anew("inbound", pause=pause)
    stops = [system.text(inbound(HERE, number, "STOP")) for number in patients]
    system.write("inbound", *((place % partitions, stop) for place, stop in enumerate(stops)))
    hello = system.text(inbound(HERE, FINE, "see you"))
    system.write("inbound", *((place, hello) for place in [*range(partitions)] * more))
    written = system.guard().check(HERE, FINE).at or 0
    ended = time.monotonic() + 60
    while worker.process.poll() is None and time.monotonic() < ended:
        for answer in system.guard().check_many(HERE, patients):  # never as if it knew of the new one
            assert answer.kind is not VerdictKind.ALLOWED or (answer.fresh or 0) <= written
    assert worker.process.poll() == 1
    assert f"{topic} is another topic than it was" in worker.log_file.read_text()
    system.start_worker()
    wait_for(
        "all in force", lambda: all(v.kind is VerdictKind.SUPPRESSED for v in system.guard().check_many(HERE, patients))
    )
    wait_for("fresh", lambda: is_fresh(system))
