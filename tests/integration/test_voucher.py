"""When a bucket is vouched for: every question of a pass, and what may happen between two of them, on real parts."""

from __future__ import annotations

import math
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined] # public all the same
from structlog.testing import CapturingLogger

from consumer import voucher as module
from consumer.domain.buckets import bucket_prefix, locations_key, meta_key, outbox_key, set_key, state_key
from consumer.guard import Unknown, VerdictKind
from consumer.inbound import Inbound
from consumer.kafka import topics
from consumer.kafka.committed import KeptOffsets, Partition
from consumer.kafka.offsets import Offsets
from consumer.kafka.topics import topic_ids
from consumer.ledger import LedgerFault
from consumer.suppression.answers import Batch, Status
from consumer.suppression.scripts import ViewUnavailable
from consumer.suppression.view import View
from consumer.voucher import Voucher
from tests.parts.fake_kafka.installed import one_after_another
from tests.parts.kafka import wait_until
from tests.parts.system import Classifying, Ops, System, Watched, inbound, location_in, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from consumer.embedded.redis_server import RedisServer
    from consumer.kafka.inbox import Inbox
    from consumer.suppression.answers import Server as Answering
    from tests.parts.kafka import Kafka
    from tests.parts.redis import MakeRedis

PATIENT = "+12025550143"
HERE = location_in(0, 1)


@dataclass
class Owner:
    """Stands in for the inbox: all that the voucher asks of it is what it owns."""

    owned: frozenset[Partition]
    joined: bool = True


def offsets(system: System) -> Offsets:
    return Offsets(system.admin, KeptOffsets(system.client(), f"{system.group}.classify"))


@dataclass
class Bench:
    """A deployment of one bucket with a voucher, and the hands of everybody else: upstream, classifier, applier."""

    system: System
    view: Any
    offsets: Any
    published: int = 0
    logger: CapturingLogger = field(default_factory=CapturingLogger)

    def __post_init__(self) -> None:
        self.plain_view = self.system.view()
        self.voucher = self.new_voucher()

    def new_voucher(self, **settings: Any) -> Voucher:
        """Return another process's voucher: it has counted nothing and knows no sample."""
        owned = frozenset(Partition(self.system.topics["ledger"], bucket) for bucket in range(self.system.buckets))
        values: dict[str, Any] = {
            "view": self.view,
            "inbox": cast("Inbox", Owner(owned)),
            "offsets": self.offsets,
            "ledger": self.system.ledger,
            "inbound": Inbound(
                [self.system.topics["inbound"]],
                self.system.ledger.topic_id,
                lambda names: topic_ids(self.system.admin, names),
            ),
            "published": lambda _bucket: self.published,
            "topic_id": None,
            "unsafe": list,
            "log": self.logger,
            **Ops(self.logger).everywhere(),
        }
        return Voucher(**values | settings)

    def text(self, body: str, number: str = PATIENT, partition: int = 0) -> int:
        """Send a text to the location, and return when Kafka had it, in ms."""
        self.system.write("inbound", (partition, self.system.text(inbound(HERE, number, body))))
        return time.time_ns() // 1_000_000

    def classify(self, *keywords: tuple[str, str], commit: dict[int, int] | None = None) -> None:
        """Do what a classifier does: keywords into the ledger, then the commit of everything that inbound holds."""
        self.system.append(*((HERE, number, word) for number, word in keywords))
        self.system.commit("classify", "inbound", commit or self.system.ends("inbound"))

    def apply(self) -> None:
        """Do what the bucket's owner does: begin it if it is not there, and apply the whole ledger."""
        ledger, view = self.system.ledger, self.plain_view
        view.begin(0)
        records = [(m.partition(), m.offset(), m.value()) for m in self.system.messages("ledger")]
        entries = [ledger.entry(value, partition or 0, offset or 0, None) for partition, offset, value in records]
        if entries:
            assert view.apply([Batch(0, 0, len(entries), entries)])[0].status is Status.OK

    def verdict(self, number: str = PATIENT) -> tuple[VerdictKind, Unknown | None]:
        """Return what the guard answers."""
        verdict = self.system.guard().check(HERE, number)
        return verdict.kind, verdict.reason

    def fresh(self) -> int:
        """Return the time up to which the bucket is vouched for, -1 if it is not."""
        return self.system.metas("fresh")[0]


def bench_of(system: System) -> Bench:
    system.make_topics(inbound=1, ledger=1)
    bench = Bench(system, system.view(), offsets(system))
    bench.classify()
    bench.apply()
    return bench


@pytest.fixture
def bench(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[Bench]:
    """One bucket, begun and empty; everything that inbound holds, which is nothing, is committed."""
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=1) as system:
        yield bench_of(system)


@dataclass
class Server:
    """A bench on a Redis that the test may restart."""

    bench: Bench
    redis: RedisServer


@pytest.fixture
def own(kafka: Kafka, own_redis: MakeRedis, topic_prefix: str, tmp_path: Path) -> Iterator[Server]:
    """The same on a Redis of its own."""
    server = own_redis()
    with System(kafka.bootstrap, server.url, topic_prefix, tmp_path, buckets=1) as system:
        yield Server(bench_of(system), server)


OK, CHANGED, BEHIND, EVICTS = ({0: status} for status in (Status.OK, Status.CHANGED, Status.BEHIND, Status.EVICTS))
ALLOWED = (VerdictKind.ALLOWED, None)
SUPPRESSED = (VerdictKind.SUPPRESSED, None)
UNVOUCHED = (VerdictKind.UNKNOWN, Unknown.UNVOUCHED)
OTHER_SERVER = (VerdictKind.UNKNOWN, Unknown.OTHER_SERVER)


def test_empty_bucket_is_vouched_for(bench: Bench) -> None:
    """A bucket to which nobody ever texted a keyword answers ALLOWED, and its time goes on while nothing comes in."""
    assert bench.verdict() == UNVOUCHED
    assert bench.voucher.vouch() == OK
    assert bench.verdict() == ALLOWED
    first = bench.fresh()
    assert 0 <= time.time() * 1000 - first < 5000
    time.sleep(0.05)
    assert bench.voucher.vouch() == OK
    assert bench.fresh() >= first + 50


@one_after_another()
def test_no_stop_slips_in_between_two_questions(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever in a pass a waiting STOP reaches ledger and commit, it is never ALLOWED at a time that covers it."""
    monkeypatch.setattr(module, "AUDIT_EVERY", 0.0)  # each pass asks the same
    pending: list[Callable[[], None]] = []
    left = 0

    def asked() -> None:
        nonlocal left
        left -= 1
        if left == 0 and pending:
            pending.pop()()

    questions = dict.fromkeys(("servers", "metas", "audit", "kept", "partitions", "starts", "ends"), asked)
    bench.view = Watched(bench.plain_view, after=questions)
    bench.offsets = Watched(offsets(bench.system), after=questions)
    bench.voucher = bench.new_voucher()
    assert bench.voucher.vouch() == OK
    left = 0  # the first pass asks for the partitions once more
    assert bench.voucher.vouch() == OK
    asked_in_all = -left
    assert asked_in_all >= 8
    for between in range(1, asked_in_all + 1):
        patient = f"+12025550{between:03d}"
        sent = bench.text("STOP", patient)
        pending.append(lambda patient=patient: bench.classify((patient, "STOP")))  # type: ignore[misc]
        time.sleep(0.002)  # the pass begins after the STOP was sent
        left = between
        bench.voucher.vouch()
        assert not pending, f"nothing came after question {between}"
        verdict = bench.system.guard().check(HERE, patient)
        told = verdict.kind is VerdictKind.ALLOWED and verdict.fresh is not None and verdict.fresh >= sent
        assert not told, f"a STOP of {sent} is ALLOWED at {verdict.fresh}: it came after question {between}"
        bench.apply()
        assert bench.voucher.vouch() == OK
        assert bench.verdict(patient) == SUPPRESSED


def test_end_is_reached_before_vouching(bench: Bench) -> None:
    """A bucket that has not read its ledger to the end is not vouched for; its owner is told to look, once."""
    bench.text("STOP")
    bench.classify((PATIENT, "STOP"))
    assert bench.voucher.vouch() == BEHIND
    assert bench.verdict() == UNVOUCHED
    assert bench.voucher.take_doubts() == {0}
    assert bench.voucher.take_doubts() == set()
    bench.apply()
    assert bench.voucher.vouch() == OK
    assert bench.verdict() == SUPPRESSED
    assert bench.voucher.take_doubts() == set()


class SetBack:
    """A view whose server's clock is ahead by so many ms, until it is set right."""

    def __init__(self, view: View, ahead: int) -> None:
        self._view, self.ahead = view, ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def servers(self, buckets: Sequence[int]) -> dict[int, Answering]:
        return {b: replace(one, time=one.time + self.ahead) for b, one in self._view.servers(buckets).items()}

    def vouch(self, server: Answering, fresh: int, ends: dict[int, tuple[str, int]]) -> dict[int, Status]:
        """Say what the server said by that clock, while it was ahead."""
        return BEHIND if self.ahead else self._view.vouch(server, fresh, ends)


def test_time_that_waits_for_the_end_does_not_outlive_its_clock(bench: Bench) -> None:
    """Where Redis's clock is set back, nothing that was learned before is vouched for once it has caught up."""
    ahead = 700
    bench.text("STOP", "+12025550144")
    bench.classify(("+12025550144", "STOP"))
    bench.view = SetBack(bench.plain_view, ahead)
    voucher = bench.new_voucher()
    assert voucher.vouch() == BEHIND
    bench.view.ahead = 0
    assert voucher.vouch() == BEHIND
    sent = bench.text("STOP")
    time.sleep(2 * ahead / 1000)
    bench.apply()
    voucher._catch_up()
    assert 0 <= bench.fresh() < sent


def test_passes_read_the_clock_in_their_order(bench: Bench) -> None:
    """A pass whose offsets came late does not read a later clock than the next one: that would look set back."""
    asked = [threading.Event(), threading.Event()]
    released = threading.Event()

    class Slow:
        """The first question for what is committed is answered last."""

        def __getattr__(self, name: str) -> Any:
            return getattr(bench.offsets, name)

        def kept(self, partitions: Sequence[Partition], notes: Mapping[str, str]) -> Any:
            number = int(asked[0].is_set())
            asked[number].set()
            if number == 0:
                released.wait(30)
            return bench.offsets.kept(partitions, notes)

    voucher = bench.new_voucher(offsets=Slow())
    for each in asked:
        voucher._begun_at = -math.inf  # the next one is due
        voucher._go_on()
        assert each.wait(30)
    first, second = (begun for begun, _ in voucher._passes)
    time.sleep(0.2)
    assert not first.answered.is_set()
    assert not second.answered.is_set()
    released.set()
    wait_for("both are answered", lambda: first.answered.is_set() and second.answered.is_set())


def test_bucket_that_is_not_there_is_named(bench: Bench) -> None:
    """A bucket that Redis lost is not vouched for, and its owner is told to begin it."""
    assert bench.voucher.vouch() == OK
    bench.system.flush_redis()
    assert bench.voucher.vouch() == {}
    assert bench.verdict() == UNVOUCHED
    assert bench.voucher.take_doubts() == {0}


def test_bucket_begun_anew_in_between_is_not_vouched_for(bench: Bench) -> None:
    """Where Redis is flushed and another owner begins the bucket after its epoch was read, nothing is vouched for."""

    def lose_everything() -> None:
        bench.classify((PATIENT, "STOP"))
        bench.apply()
        bench.system.flush_redis()
        bench.plain_view.begin(0)

    bench.voucher = bench.new_voucher(view=Watched(bench.plain_view, before={"vouch": lose_everything}))
    assert bench.voucher.vouch() == CHANGED
    assert bench.verdict() == UNVOUCHED
    assert bench.voucher.take_doubts() == {0}


@pytest.mark.parametrize("marked", [False, True])
def test_rolled_back_server_is_not_vouched_for(own: Server, marked: bool) -> None:  # noqa: FBT001
    """A server that comes back with older data after its identity was read is not vouched for, nor is its old mark."""
    bench, redis = own.bench, own.redis
    if marked:
        assert bench.voucher.vouch() == OK
    redis.stop()
    older = shutil.copytree(redis.folder / "appendonlydir", redis.folder / "older")
    redis.start()
    if marked:
        assert bench.verdict() == OTHER_SERVER
    assert bench.new_voucher().vouch() == OK

    def roll_back() -> None:
        bench.classify((PATIENT, "STOP"))
        bench.apply()
        assert bench.verdict() == SUPPRESSED
        redis.kill()
        shutil.rmtree(redis.folder / "appendonlydir")
        shutil.copytree(older, redis.folder / "appendonlydir")
        redis.start()

    voucher = bench.new_voucher(view=Watched(bench.plain_view, before={"vouch": roll_back}))
    with suppress(ViewUnavailable):  # the connection was cut: not vouched for either
        assert voucher.vouch() == CHANGED
    assert bench.verdict()[0] is VerdictKind.UNKNOWN
    assert bench.voucher.vouch() == BEHIND
    bench.apply()
    assert bench.voucher.vouch() == OK
    assert bench.verdict() == SUPPRESSED


def test_evicting_server_is_not_vouched_for(own: Server) -> None:
    """A Redis that may evict keys is not vouched for, in words, until it may not."""
    with own.bench.system.redis() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert own.bench.voucher.vouch() == EVICTS
        assert own.bench.verdict() == UNVOUCHED
        assert any("set maxmemory-policy to noeviction" in call.args[0] for call in own.bench.logger.calls)
        client.config_set("maxmemory-policy", "noeviction")
    assert own.bench.voucher.vouch() == OK
    assert own.bench.verdict() == ALLOWED


def test_time_waits_for_every_inbound_partition(bench: Bench) -> None:
    """A partition that nobody commits, an offset past its end and partitions added later hold the time back."""
    system, topic = bench.system, bench.system.topics["inbound"]
    assert bench.voucher.vouch() == OK
    system.admin.create_partitions([NewPartitions(topic, 3)])[topic].result(10)
    wait_until(lambda: len(system.ends("inbound")) == 3, "the partitions are there", 30)
    there = time.time_ns() // 1_000_000
    for _ in range(2):
        bench.voucher.vouch()
        assert bench.fresh() <= there
    assert bench.new_voucher().vouch() == {}  # one that knows no time of before
    held = next(call.kwargs["partitions"] for call in reversed(bench.logger.calls) if "partitions" in call.kwargs)
    assert held == [f"{topic} [1]", f"{topic} [2]"]

    bench.classify(commit={0: 0, 1: 0, 2: 5})
    assert bench.voucher.vouch() == {}
    assert bench.fresh() <= there
    bench.classify(commit={0: 0, 1: 0, 2: 0})
    assert bench.voucher.vouch() == OK
    assert bench.fresh() > there

    last = bench.text("see you at 3", partition=2)
    bench.voucher.vouch()
    assert bench.fresh() <= last
    bench.classify()
    assert bench.voucher.vouch() == OK
    assert bench.fresh() > last


def test_offset_for_another_ledger_holds_the_time_back(bench: Bench) -> None:
    """An inbound offset that was committed for another ledger, or of another inbound, tells nothing of these."""
    assert bench.voucher.vouch() == OK
    before = bench.text("STOP")
    bench.system.commit("classify", "inbound", {0: 1}, note="another ledger's id")
    bench.voucher.vouch()
    assert bench.fresh() < before
    assert bench.new_voucher().vouch() == {}
    bench.system.commit("classify", "inbound", {0: 1}, note=f"{bench.system.ledger.topic_id}/another-inbound")
    bench.voucher.vouch()
    assert bench.fresh() < before
    bench.system.commit("classify", "inbound", {0: 1})
    assert bench.voucher.vouch() == OK
    assert bench.fresh() >= before


def test_deleted_unread_texts_hold_the_time_back(bench: Bench) -> None:
    """An inbound offset below what its partition still holds says nothing: what was deleted was never read."""
    system, topic = bench.system, bench.system.topics["inbound"]
    assert bench.voucher.vouch() == OK
    before = bench.text("STOP")
    bench.text("hello")
    deleted = TopicPartition(topic, 0, 1)
    system.admin.delete_records([deleted])[deleted].result(10)
    assert bench.voucher.vouch() == {}
    assert bench.new_voucher().vouch() == {}
    assert bench.fresh() < before


def test_shortened_front_of_the_ledger_is_a_fault(bench: Bench) -> None:
    """A ledger that lost its first records ends the voucher, in words that say what to do."""
    bench.classify(*((f"+1202555010{i}", "STOP") for i in range(3)))
    bench.apply()
    assert bench.voucher.vouch() == OK
    deleted = TopicPartition(bench.system.topics["ledger"], 0, 1)
    bench.system.admin.delete_records([deleted])[deleted].result(10)
    with pytest.raises(LedgerFault, match=r"keyword-ledger \[0\] begins at offset 1: .*restore them"):
        bench.voucher.vouch()


@pytest.mark.parametrize("told", [0, 7])
def test_shortened_end_of_the_ledger_is_a_fault(bench: Bench, told: int) -> None:
    """A ledger that ends below what was read of it, or below what was told of it, ends the voucher in words."""
    if not told:
        bench.plain_view.apply([Batch(0, 0, 7, [])])
    bench.published = told
    with pytest.raises(LedgerFault, match=r"ends at offset 0, but 7 records of it were read: .*restore it"):
        bench.voucher.vouch()


def test_ledger_made_anew_is_a_fault(bench: Bench) -> None:
    """A ledger that was deleted and created again under its name ends the voucher, however it looks."""
    system, name = bench.system, bench.system.topics["ledger"]
    first = system.ledger.topic_id
    voucher = bench.new_voucher(topic_id=lambda: topics.topic_id(system.admin, name))
    assert voucher.vouch() == OK
    system.admin.delete_topics([name], operation_timeout=15)[name].result()
    wait_for("deleted", lambda: name not in system.admin.list_topics(timeout=10).topics)
    system.make_topics(ledger=1)
    wait_for("another id", lambda: topics.topic_id(system.admin, name) != first)
    voucher = bench.new_voucher(topic_id=lambda: topics.topic_id(system.admin, name))  # the other one asks each 30 s
    with pytest.raises(LedgerFault, match=rf"is another topic \(id \S+ instead of {first}\): it was deleted"):
        voucher.vouch()


PREFIX = bucket_prefix(0, 1)
LOSSES = {
    "the set": ("delete", set_key(PREFIX, HERE)),
    "the state": ("delete", state_key(PREFIX, HERE)),
    "the outbox": ("delete", outbox_key(PREFIX)),
    "the locations": ("delete", locations_key(PREFIX)),
    "a member": ("srem", set_key(PREFIX, HERE), PATIENT[1:]),
    "a record": ("hdel", state_key(PREFIX, HERE), PATIENT[1:]),
    "a type": ("type", set_key(PREFIX, HERE)),
}


@pytest.mark.parametrize("lost", LOSSES)
def test_lost_keys_are_found_by_counting(bench: Bench, lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a bucket loses of what it held, it is begun anew at the next count, and vouched for once it is whole."""
    bench.classify((PATIENT, "STOP"), ("+12025550144", "STOP"))
    bench.apply()
    assert bench.voucher.vouch() == OK
    command, key, *member = LOSSES[lost]
    with bench.system.redis() as client:
        before = client.hget(meta_key(PREFIX), "epoch")
        if command == "type":
            client.delete(key)
            client.set(key, "somebody else's")
        else:
            getattr(client, command)(key, *member)
        monkeypatch.setattr(module, "AUDIT_EVERY", 0.0)
        assert bench.voucher.vouch() == {}
        assert client.hget(meta_key(PREFIX), "epoch") != before
    assert bench.verdict()[0] is VerdictKind.UNKNOWN
    assert any(call.kwargs.get("loss") == "view-damaged" for call in bench.logger.calls)
    assert bench.voucher.vouch() == BEHIND
    bench.apply()
    assert bench.voucher.vouch() == OK
    assert bench.verdict() == SUPPRESSED


def test_time_passes_control_records(bench: Bench) -> None:
    """Time goes on where inbound is written by transactions: behind what they commit and what they abort."""
    system, topic = bench.system, bench.system.topics["inbound"]
    producer = Producer({"bootstrap.servers": system.bootstrap, "transactional.id": topic, "retry.backoff.ms": 5})
    producer.init_transactions(10)
    for finish in (producer.commit_transaction, producer.abort_transaction, producer.abort_transaction):
        producer.begin_transaction()
        producer.produce(topic, system.text(inbound(HERE, PATIENT, "talk")), partition=0)
        producer.flush(10)
        finish(10)
    wait_for("the markers are written", lambda: system.ends("inbound") == {0: 6})
    last = time.time_ns() // 1_000_000
    classifier = Classifying(system)
    try:
        classifier.until(lambda: system.committed("classify", "inbound") == {0: 6})
    finally:
        classifier.die()
    assert bench.voucher.vouch() == OK
    assert bench.fresh() >= last
    assert isinstance(bench.plain_view, View)
