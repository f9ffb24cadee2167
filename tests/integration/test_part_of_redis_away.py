"""Redis answers for some buckets and not for others: those that it answers for are served as if nothing were wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
import redis
from structlog.testing import CapturingLogger

from consumer.inbound import Inbound
from consumer.kafka.committed import KeptOffsets, Partition
from consumer.kafka.offsets import Offsets
from consumer.suppression.answers import Batch, Status
from consumer.suppression.scripts import ViewUnavailable
from consumer.voucher import Voucher
from tests.parts.system import Applying, Ops, Rounds, System, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from consumer.kafka.inbox import Inbox
    from consumer.suppression.view import View
    from tests.parts.kafka import Kafka
    from tests.parts.redis import MakeRedis

BUCKETS = 2
HERE, THERE = location_in(0, BUCKETS), location_in(1, BUCKETS)
PATIENT, OTHER = "+12025550143", "+12025550144"


class Halved:
    """A Redis that refuses one user the keys of bucket 1, as a cluster does that lost a shard."""

    def __init__(self, url: str) -> None:
        self._admin = redis.Redis.from_url(url)
        self.url = url.replace("redis://", "redis://halved:any@")
        self.whole()

    def whole(self) -> None:
        self._admin.acl_setuser("halved", enabled=True, nopass=True, categories=["+@all"], keys=["*"])

    def halve(self) -> None:
        self._admin.acl_setuser("halved", enabled=True, reset_keys=True, keys=[f"optout:{{0.{BUCKETS}}}:*"])


@pytest.fixture
def halved(own_redis: MakeRedis) -> Halved:
    """A Redis that can lose the keys of bucket 1 for a while."""
    return Halved(own_redis().url)


@pytest.fixture
def system(kafka: Kafka, halved: Halved, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """Two buckets on it, for parts in this process."""
    with System(kafka.bootstrap, halved.url, topic_prefix, tmp_path, buckets=BUCKETS) as deployment:
        deployment.make_topics(inbound=1, ledger=BUCKETS, changed=1)
        yield deployment


def until(member: Applying, condition: Callable[[], bool]) -> None:
    def holds() -> bool:
        member.apply()
        member.publish()
        return condition()

    wait_for("it is applied and told", holds)


def told(system: System) -> set[tuple[str, str, int]]:
    return {(r["location_id"], r["patient_number"], r["version"]) for *_, r in system.read("changed")}


def test_other_buckets_are_applied_and_told(system: System, halved: Halved) -> None:
    """Only the buckets that cannot be asked pause; changes of the others are applied and published, theirs later."""
    system.append((HERE, PATIENT, "STOP"), (THERE, PATIENT, "STOP"))
    member = Applying(system)
    before = {(HERE, PATIENT, 1), (THERE, PATIENT, 1)}
    until(member, lambda: told(system) == before)
    halved.halve()
    system.append((HERE, OTHER, "STOP"), (THERE, OTHER, "STOP"), (HERE, PATIENT, "START"), (THERE, PATIENT, "START"))
    here = {(HERE, OTHER, 1), (HERE, PATIENT, 2)}
    until(member, lambda: told(system) == before | here)
    halved.whole()
    until(member, lambda: told(system) == before | here | {(THERE, OTHER, 1), (THERE, PATIENT, 2)})
    assert len(system.read("changed")) == 6
    assert system.members() == {(HERE, OTHER), (THERE, OTHER)}
    paused = [call.kwargs for call in member.logger.calls if "applying pauses" in str(call.args)]
    assert all((line["buckets"], line["owned"]) == (1, 2) for line in paused)
    member.die()


def test_an_owner_begins_while_part_is_away(system: System, halved: Halved) -> None:
    """A worker that takes its buckets over meanwhile serves those that can be asked, and the others when they can."""
    system.append((HERE, PATIENT, "STOP"), (THERE, PATIENT, "STOP"))
    halved.halve()
    member = Applying(system)
    until(member, lambda: told(system) == {(HERE, PATIENT, 1)})
    halved.whole()
    until(member, lambda: told(system) == {(HERE, PATIENT, 1), (THERE, PATIENT, 1)})
    member.die()


def voucher_of(system: System) -> Voucher:
    """Begin both buckets, and return who vouches for them."""
    view = system.view()
    assert [view.begin(bucket) for bucket in range(BUCKETS)] == [0, 0]
    system.commit("classify", "inbound", {0: 0}, system.ledger.topic_id)
    owned = frozenset(Partition(system.topics["ledger"], bucket) for bucket in range(BUCKETS))
    log = CapturingLogger()
    return Voucher(
        view=view,
        inbox=cast("Inbox", type("Owner", (), {"owned": owned, "joined": True})()),
        offsets=Offsets(system.admin, KeptOffsets(system.client(), f"{system.group}.classify")),
        ledger=system.ledger,
        inbound=Inbound([system.topics["inbound"]], system.ledger.topic_id),
        published=lambda _bucket: 0,
        topic_id=None,
        unsafe=list,
        log=cast("Any", log),
        **Ops(log).everywhere(),
    )


def test_other_buckets_are_vouched_for(system: System, halved: Halved) -> None:
    """Those that can be asked are counted and vouched for; the others are again as soon as they can be."""
    voucher = voucher_of(system)
    halved.halve()
    assert voucher.vouch() == {0: Status.OK}
    assert voucher.take_doubts() == {1}
    halved.whole()
    assert voucher.vouch() == {0: Status.OK, 1: Status.OK}


def test_what_cannot_be_asked_is_missing_in_the_answer(system: System, halved: Halved) -> None:
    """Each method answers for the buckets that it can, and raises ViewUnavailable only where there is none."""
    view: View = system.view()
    assert view.begin_all({0: None, 1: None}, {}) == {0: 0, 1: 0}
    halved.halve()
    assert view.metas([0, 1]).keys() == {0}
    assert view.take({0: 0, 1: 0}, 9).keys() == {0}
    assert view.begin_all({0: None, 1: None}, {}) == {0: 0}
    view.trim({0: 0, 1: 0})
    assert view.vouch(view.server(), 1, {0: ("", 0), 1: ("", 0)}) == {0: Status.CHANGED}
    assert [one.status for one in view.apply([Batch(0, 0, 0, []), Batch(1, 0, 0, [])])] == [Status.OK, Status.AWAY]
    for alone in (lambda: view.metas([1]), lambda: view.trim({1: 0}), lambda: view.apply([Batch(1, 0, 0, [])])):
        with pytest.raises(ViewUnavailable):
            alone()


def test_a_bucket_that_is_away_while_it_is_behind(
    system: System, halved: Halved, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where what waits for the ledger's end cannot be asked, the other buckets are vouched for, and nothing flaps."""
    voucher = voucher_of(system)
    system.append((THERE, PATIENT, "STOP"))
    assert voucher.vouch() == {0: Status.OK, 1: Status.BEHIND}
    paused: list[str] = []
    monkeypatch.setattr(voucher, "_pause", lambda kind, reason: paused.append(f"{kind}: {reason}"))
    before = system.metas("fresh")[0]
    halved.halve()
    voucher.run(Rounds(20))
    assert not paused
    halved.whole()
    assert system.metas("fresh")[0] > before
    assert voucher.vouch() == {0: Status.OK, 1: Status.BEHIND}
