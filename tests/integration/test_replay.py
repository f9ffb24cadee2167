"""A long replay on a real Kafka and a real Redis: who is well does not wait for it, and it may be killed anywhere."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer import catching_up
from consumer.app import READING_LEDGER
from tests.parts import oracle
from tests.parts.system import Applying, System, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from consumer.embedded.redis_server import RedisServer
    from tests.parts.kafka import Kafka
    from tests.parts.redis import MakeRedis
    from tests.parts.system import Worker

BUCKETS = 8
RECORDS = int(os.environ.get("OPTOUT_TEST_REPLAY", "16000"))
"""How many records the ledger has."""
WELL = BUCKETS - 1
MOST_MIB = 40
"""How much more memory a worker may take for a replay of any length than one that waits."""


def fill(system: System) -> None:
    """Write a ledger all of which is classified and told: every eighth patient came back."""
    now = time.time_ns() // 1_000_000 - 2 * RECORDS
    places = [(bucket, location_in(bucket, BUCKETS)) for bucket in range(BUCKETS)]
    patients = RECORDS * 7 // 8
    keywords = [(number, "STOP") for number in range(patients)]
    keywords += [(number, "START") for number in range(0, patients, 7)]
    system.write(
        "ledger",
        *(
            (bucket, system.line(location, f"+1202{number:07}", word, now + i))
            for i, (number, word) in enumerate(keywords)
            for bucket, location in [places[number % BUCKETS]]
        ),
    )
    system.commit("apply", "ledger", system.ends("ledger"))


def right(system: System) -> None:
    """Assert that the view is what the ledger leads to, and that nothing was told again."""
    changes = oracle.changes_of(system.read("ledger"))
    assert system.members() == oracle.members_of(changes)
    assert system.metas("states") == {
        bucket: len({change.number for change in changes if change.partition == bucket}) for bucket in range(BUCKETS)
    }


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """A ledger of eight buckets; no worker."""
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.make_topics(ledger=BUCKETS, changed=1)
        fill(deployment)
        yield deployment


class Replaying:
    """A member that has applied all, and is then told that it lost buckets."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.doubts: set[int] = set()
        self.ends = system.ends("ledger")
        self.member = Applying(system, doubted=self._doubted, properties=READING_LEDGER)
        self.until(lambda: len(self.member.owned) == BUCKETS)
        assert self.member.publish()  # it knows what is told
        self.until(self.whole)

    def _doubted(self) -> set[int]:
        doubts, self.doubts = self.doubts, set()
        return doubts

    def until(self, condition: Callable[[], bool]) -> None:
        def holds() -> bool:
            self.member.apply()
            return condition()

        wait_for("it is applied", holds, 60)

    def whole(self) -> bool:
        return self.system.metas("applied") == self.system.ends("ledger")

    def lose(self, *buckets: int) -> None:
        """Lose these buckets, and be told so by the voucher."""
        with self.system.redis() as client:
            client.delete(*(f"optout:{{{bucket}.{BUCKETS}}}:meta" for bucket in buckets))
        self.doubts = set(buckets)

    def underway(self) -> list[int]:
        """Return the buckets that are read in part."""
        return [bucket for bucket, applied in self.system.metas("applied").items() if 0 < applied < self.ends[bucket]]


@pytest.fixture
def replaying(system: System) -> Iterator[Replaying]:
    member = Replaying(system)
    yield member
    member.member.die()


def test_buckets_are_definite_one_after_another(replaying: Replaying, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many buckets are lost, a few are read at a time, and each to its end; it is no news to anybody."""
    monkeypatch.setattr(catching_up, "AT_ONCE", 2)
    replaying.member.logger.calls.clear()
    replaying.lose(*range(BUCKETS))
    most = 0

    def done() -> bool:
        nonlocal most
        most = max(most, len(replaying.underway()))
        return replaying.whole()

    replaying.until(done)
    assert 1 <= most <= 2
    assert "applied" not in replaying.member.said()
    right(replaying.system)
    assert set(replaying.system.metas("outbox").values()) == {0}
    assert replaying.system.ends("changed") == {0: 0}


def test_who_is_well_does_not_wait(replaying: Replaying, monkeypatch: pytest.MonkeyPatch) -> None:
    """A STOP in a bucket that lost nothing is in force while most of the replay is still to come."""
    monkeypatch.setattr(catching_up, "AT_ONCE", 1)
    system = replaying.system
    location = location_in(WELL, BUCKETS)
    replaying.lose(*range(WELL))
    replaying.until(lambda: bool(replaying.underway()))
    system.append((location, "+13055550143", "STOP"))
    replaying.until(lambda: (location, "+13055550143") in system.members())
    left = sum(system.ends("ledger").values()) - sum(system.metas("applied").values())
    assert left > sum(system.ends("ledger").values()) / 2
    replaying.until(replaying.whole)
    right(system)


def test_rebalance_in_the_middle(replaying: Replaying) -> None:
    """Who gives buckets up or takes them over in a replay forgets who was to wait, and all is replayed."""
    system = replaying.system
    replaying.lose(*range(BUCKETS))
    replaying.until(lambda: bool(replaying.underway()))
    heir = Applying(system, properties=READING_LEDGER)

    def shared() -> bool:
        heir.apply()
        return len(heir.owned) == BUCKETS / 2 == len(replaying.member.owned)

    replaying.until(shared)
    replaying.until(lambda: heir.apply() is None and replaying.whole())  # type: ignore[func-returns-value]
    replaying.lose(*replaying.member.owned)
    replaying.until(lambda: bool(replaying.underway()))
    heir.die()
    replaying.until(lambda: len(replaying.member.owned) == BUCKETS and replaying.whole())
    right(system)


def test_bucket_that_stops_in_the_middle(replaying: Replaying, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that has the only turn and stops at a record that cannot be read leaves its turn to the others."""
    monkeypatch.setattr(catching_up, "AT_ONCE", 1)
    system = replaying.system
    system.write("ledger", (0, b"nonsense"))
    system.append(*((location_in(0, BUCKETS), f"+1305555{number:04}", "STOP") for number in range(2000)))
    replaying.lose(*range(BUCKETS))
    replaying.until(lambda: all(system.metas("applied")[b] == end for b, end in replaying.ends.items()))
    replaying.until(lambda: any("stops at offset" in said for said in replaying.member.said()))


@pytest.fixture
def deployment(
    own_redis: MakeRedis, kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> Iterator[tuple[System, RedisServer]]:
    """All topics and a Redis that may be killed."""
    server = own_redis()
    with System(kafka.bootstrap, server.url, topic_prefix, tmp_path, buckets=BUCKETS) as made:
        made.create_topics()
        fill(made)
        for role in ("inbound", "requests"):
            made.commit("classify", role, made.ends(role))
        yield made, server


def applied(system: System) -> int:
    return sum(max(0, position) for position in system.metas("applied").values())


def vouched(system: System) -> bool:
    return min(system.metas("fresh").values()) > 0


def peak_mib(worker: Worker) -> float:
    lines = Path(f"/proc/{worker.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def slowly(worker: Worker, until: Callable[[], bool]) -> None:
    """Let the worker run in small slices until it holds, so that it is caught in the middle."""
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        worker.process.send_signal(signal.SIGSTOP)
        time.sleep(0.02)
        worker.process.send_signal(signal.SIGCONT)
        time.sleep(0.01)


@pytest.mark.timeout(240)
def test_killed_at_any_point(deployment: tuple[System, RedisServer]) -> None:
    """Workers that are killed in a replay, and Redis with them, only delay it: it goes on where the view stands."""
    system, server = deployment
    total = sum(system.ends("ledger").values())
    killed_at = []
    for part in (1, 2, 3):
        worker = system.start_worker("--only", "apply")
        slowly(worker, lambda part=part: applied(system) > total * part / 5)  # type: ignore[misc]
        worker.kill()
        killed_at.append(applied(system))
    worker = system.start_worker("--only", "apply")
    slowly(worker, lambda: applied(system) > killed_at[-1])
    server.kill()
    server.start()
    killed_at.append(applied(system))
    assert killed_at == sorted(killed_at)
    assert killed_at[-1] < total
    wait_for("all is vouched for", lambda: applied(system) == total and vouched(system), 90)
    right(system)
    assert system.run("verify").returncode == 0
    assert set(system.ends("changed").values()) == {0}
    assert worker.stop() == 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is asked of /proc")
@pytest.mark.timeout(240)
def test_memory_is_bounded(deployment: tuple[System, RedisServer]) -> None:
    """A replay takes a worker hardly more memory than waiting does."""
    system, _ = deployment
    worker = system.start_worker("--only", "apply")
    wait_for("it has its buckets", lambda: "buckets received" in worker.events(), 60)
    idle = peak_mib(worker)
    wait_for(
        "all is vouched for", lambda: applied(system) == sum(system.ends("ledger").values()) and vouched(system), 120
    )
    assert peak_mib(worker) < idle + MOST_MIB
    assert worker.stop() == 0
