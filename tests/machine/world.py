"""The whole deployment of one run, and everything that may happen to it, as one step each."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from consumer.domain.events import InboundMessage, KeywordRecord
from consumer.ledger import Ledger
from tests.machine.servers import scripts
from tests.machine.truth import NUMBERS, Text, Truth
from tests.machine.worker import CLASSIFIERS, STEPS, Worker
from tests.parts.fake_kafka import Broker, Clock, Ending, Place, installed
from tests.parts.system import TOPICS, location_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from consumer.wire.codec import Codec
    from tests.machine.servers import Servers, Snapshot

BUCKETS = 2
MOST_WORKERS = 3
MOST_SNAPSHOTS = 20
LOCATIONS = {location_in(bucket, BUCKETS): bucket for bucket in range(BUCKETS)}
PATIENTS = [(location, number) for location in LOCATIONS for number in NUMBERS]
APPLIERS = "apply"
THREADS = {
    "classify": "classify",
    "commit": "classify",
    "keep": "keep",
    "apply": "apply",
    "publish": "publish",
    "vouch": "vouch",
}
"""The thread that does each step: a step of one may come between two questions of another's, not of its own."""

Action = tuple[Any, ...]


class Killed(BaseException):
    """The worker whose step this is dies here."""


class World:
    """One run. `do` is all that may be called from outside, besides `settle`."""

    def __init__(self, servers: Servers, codec: Codec, change: Callable[[str, str], str]) -> None:
        self.clock = Clock()
        self.broker = Broker(self.clock)
        self.servers = servers
        self.codec = codec
        servers.begin(self.clock)
        for role, partitions in {"inbound": 2, "ledger": BUCKETS, "changed": 2, "reviews": 1, "dead": 1}.items():
            self.broker.create_topic(TOPICS[role], partitions)
        self.ledger = Ledger(
            topic=TOPICS["ledger"],
            topic_id="the-ledger",
            buckets=BUCKETS,
            group=APPLIERS,
            decode=lambda value: codec.decode(KeywordRecord, value),
        )
        self.parts = ExitStack()
        self.parts.enter_context(installed(self.broker))
        self.parts.enter_context(scripts(change))
        self.truth = Truth(self.broker, servers, LOCATIONS)
        self.broker.before = servers.before = self._seam
        self.workers: list[Worker] = []
        self.sound = True
        self.snapshots: list[Snapshot] = []
        self._between: tuple[int, Action] | None = None
        self._busy: list[tuple[Worker, str]] = []
        self._last_sent: dict[tuple[str, str], int] = {}
        self.do(("start",))

    def close(self) -> None:
        """Give the product its clients and its clock back."""
        self.parts.close()

    # Steps, and what comes between

    def do(self, action: Action) -> None:
        """Do one thing, and look at what became of it."""
        self.clock.tick()
        self.sound = False
        name, *arguments = action
        getattr(self, f"_do_{name}")(*arguments)
        for worker in self.workers:
            for bucket, (_, when) in worker.voucher._audited.items():
                self.truth.counted(bucket, when)
        self.truth.look()
        self.truth.check_told()
        self.sound = True

    def step(self, index: int, what: str, between: tuple[int, Action] | None = None) -> None:
        """Let a worker do one of its steps; with something else after so many of its questions to Kafka or Redis."""
        worker = self._named(index)
        busy = (worker, THREADS[what])
        if not worker.alive or busy in self._busy:
            return
        self._between = between
        self._busy.append(busy)
        try:
            worker.step(what)
        except Killed:
            self._kill(worker)
        finally:
            self._busy.remove(busy)
            left, self._between = self._between, None
        if left is not None:
            self.do(left[1])

    def _seam(self, _what: str) -> None:
        """Hear that a client of the worker that takes a step is about to ask something."""
        if self._between is None:
            return
        count, action = self._between
        self._between = None if count == 0 else (count - 1, action)
        if count == 0:
            (worker, _), *_ = self._busy
            if action == ("kill_me",):
                raise Killed
            self.do(action)
            if not worker.alive:
                raise Killed

    def _named(self, index: int) -> Worker:
        return self.workers[index % len(self.workers)]

    # Everything that may happen, one method each

    def _do_pass(self) -> None:
        """Let time pass."""

    def _do_kill_me(self) -> None:
        """Too late: the step is over."""

    def _do_step(self, index: int, what: str, between: tuple[int, Action] | None = None) -> None:
        self.step(index, what, between)

    def _do_round(self, most: int, kept: int, texts: Sequence[Action] = ()) -> None:
        """Texts come in and everybody does everything once. What Redis holds before one of the steps is kept."""
        for text in texts:
            self.do(text)
        self.broker.most = most
        for number, what in enumerate(STEPS):
            if number == kept:
                self._do_snapshot()
            for index in range(len(self.workers)):
                self.step(index, what)
        self.broker.most = 1000

    def _do_most(self, most: int) -> None:
        self.broker.most = most

    def _do_text(self, patient: int, body: str, delay: int, partition: int) -> None:
        """Let a text come in that was sent `delay` ms ago; -1 for the time of that patient's last one."""
        location, number = key = PATIENTS[patient % len(PATIENTS)]
        sent = self._last_sent.get(key, self.clock.now_ms) if delay < 0 else self.clock.now_ms - delay
        self._last_sent[key] = sent
        text = InboundMessage(
            message_id=f"m{self.clock.now_ms}",
            location_id=location,
            patient_number=number,
            location_number="+12025550100",
            body=body,
            received_at=sent,
            provider="test",
            provider_opt_out_type=None,
        )
        topic = TOPICS["inbound"]
        place = Place(topic, partition % len(self.broker.topics[topic]))
        self.broker.append(place, self.codec.encode(text), number.encode())
        word = body.strip().upper()
        if word in ("STOP", "START"):
            self.truth.texts.append(Text(key, sent, word == "STOP", self.clock.now_ms))
            self.clock.tick()

    def _do_unreadable(self, partition: int) -> None:
        topic = TOPICS["inbound"]
        self.broker.append(Place(topic, partition % len(self.broker.topics[topic])), b"no record")

    def _do_upstream_opens(self, partition: int) -> None:
        """Let a producer of inbound write a text in a transaction that it leaves open."""
        topic = TOPICS["inbound"]
        producer = f"upstream-{len(self.broker.pending)}-{self.clock.now_ms}"
        self.broker.take_over(producer)
        place = Place(topic, partition % len(self.broker.topics[topic]))
        self.broker.append(place, b"not to be read before it ends", transaction=self.broker.begin(producer))

    def _do_upstream_ends(self, committed: bool) -> None:  # noqa: FBT001 - a choice of the strategies
        """Let the producers of inbound end what they left open."""
        for transaction in self.broker.pending:
            if transaction.producer.startswith("upstream-"):
                self.broker.finish(transaction, committed=committed)

    def _do_stranger(self, bucket: int) -> None:
        """Let somebody who must not write a record into the ledger that nobody can read."""
        self.broker.append(Place(TOPICS["ledger"], bucket), b"no record")

    def _do_partition(self) -> None:
        if len(self.broker.topics[TOPICS["inbound"]]) < 4:
            self.broker.add_partition(TOPICS["inbound"])

    def _do_start(self) -> None:
        if sum(worker.alive for worker in self.workers) < MOST_WORKERS:
            self.workers.append(Worker(self.broker, self.servers, self.codec, self.ledger))

    def _do_kill(self, index: int) -> None:
        self._kill(self._named(index))

    def _kill(self, worker: Worker) -> None:
        """Let a worker die; the groups have not noticed yet."""
        worker.alive = False
        worker.freeze()

    def _do_lose(self, index: int) -> None:
        """Let the groups take a worker for dead: it is, or it lives on and does not know."""
        self._named(index).be_taken_for_dead()
        self.workers = [worker for worker in self.workers if worker.alive or not worker.zombie]
        if not self.workers:
            self._do_start()

    def _do_hear(self, index: int) -> None:
        self._named(index).hear()

    def _do_hand_over(self, shift: int) -> None:
        """Let the buckets go to other workers, which go on with them."""
        self.do(("rebalance", APPLIERS, shift))
        for _ in range(2):
            self.do(("round", 1000, -1))

    def _do_lose_round(self, texts: Sequence[Action], how: str) -> None:
        """Let everybody do everything with what comes in now, and Redis forget it."""
        self.do(("snapshot",))
        self.do(("round", 1000, -1, texts))
        self.do(("fail_over", 1) if how == "fail_over" else ("flush",))

    def _do_several(self, actions: Sequence[Action]) -> None:
        for action in actions:
            self.do(action)

    def _do_rebalance(self, stage: str, shift: int | None) -> None:
        self.broker.group(stage).rebalance(shift)

    def _do_deliver(self, index: int, records: int) -> None:
        if self._named(index).alive:
            self._named(index).deliver(records)

    def _do_stuck(self, index: int, stuck: bool) -> None:  # noqa: FBT001 - a choice of the strategies
        self._named(index).stick(stuck=stuck)

    def _do_doubt(self, ending: str) -> None:
        """Let the next commit of a transaction end without its client knowing how."""
        self.broker.next_commit = Ending[ending]

    def _do_time_out(self) -> None:
        for transaction in self.broker.pending:
            self.broker.time_out(transaction)

    def _do_kafka_away(self, away: bool) -> None:  # noqa: FBT001
        self.broker.away = away

    def _do_redis_away(self, away: bool) -> None:  # noqa: FBT001
        self.servers.away = away

    def _do_answer_lost(self) -> None:
        self.servers.loses_answer = True

    def _do_wait(self, seconds: int) -> None:
        self.clock.tick(seconds * 1000)

    def _do_flush(self) -> None:
        self.truth.observe()
        self.servers.flush()
        self.truth.damaged.clear()

    def _do_snapshot(self) -> None:
        self.snapshots = [*self.snapshots, self.servers.snapshot()][-MOST_SNAPSHOTS:]

    def _do_fail_over(self, age: int) -> None:
        """Let another server answer: with what is there now (a restart), or was at an earlier snapshot."""
        self.truth.observe()
        lost = self.snapshots[-min(age, len(self.snapshots))] if age and self.snapshots else self.servers.snapshot()
        self.servers.fail_over(lost)
        self.truth.damaged.clear()

    def _do_delete(self, bucket: int, which: int) -> None:
        """Delete one key of a bucket, or one entry of its sets and of its outbox."""
        self.truth.observe()
        redis = self.servers.here
        keys = sorted(redis.keys(f"optout:{{{bucket}.{BUCKETS}}}:*"))
        if not keys:
            return
        key = keys[which % len(keys)]
        kind = redis.type(key)
        if which % 2 and kind == b"set":
            redis.spop(key)
        elif which % 2 and kind == b"zset":
            redis.zpopmin(key)
        else:
            redis.delete(key)
        if not key.endswith((b":meta", b":outbox")):
            self.truth.damaged[bucket] = self.clock.monotonic()

    # The end

    def settle(self) -> None:
        """Mend what is broken, and let the workers come to rest. Nothing is to be seen there of a run that failed."""
        if not self.sound:
            return
        self.broker.away = self.servers.away = self.servers.loses_answer = False
        self.broker.next_commit, self.broker.most = Ending.WELL, 1000
        for worker in self.workers:
            worker.hear()
            worker.stick(stuck=False)
        if len(self.truth.texts) % 3 == 0:  # now and then a worker that knows nothing has to do it alone
            for worker in self.workers:
                self._kill(worker)
        for worker in [worker for worker in self.workers if not worker.alive]:
            worker.be_taken_for_dead()
        self.workers = [worker for worker in self.workers if worker.alive]
        self._do_time_out()
        self._do_start()
        for group in (CLASSIFIERS, APPLIERS):
            self.broker.group(group).rebalance()
        for _ in range(12):
            self.do(("round", 1000, -1))
            if self._at_rest():
                break
            self.clock.tick(31_000)
        self._check_end()

    def _at_rest(self) -> bool:
        return not self._unrest()

    def _unrest(self) -> list[str]:
        """Return what is not as it must be in the end."""
        stopped = self._stopped()
        faults = []
        if not self.truth.all_told():
            faults.append(f"told {self.truth._told}, and the ledger says {self.truth.due()}")
        if not stopped and not self.truth.definite():
            faults.append("a guard does not know, or not of all that came in")
        faults += [f"bucket {bucket} is not counted yet since a key was deleted" for bucket in self.truth.damaged]
        committed = self.broker.group(CLASSIFIERS).committed
        faults += [
            f"{place} is not read to its end"
            for place in self.broker.places([TOPICS["inbound"]])
            if committed.get(place, (-1, ""))[0] != self.broker.log(place).end
        ]
        for bucket, log in enumerate(self.broker.topics[TOPICS["ledger"]]):
            end = str(stopped.get(bucket, log.end)).encode()
            found = self.servers.here.hmget(f"optout:{{{bucket}.{BUCKETS}}}:meta", "applied", "outbox")
            if found != [end, b"0"]:
                faults.append(f"bucket {bucket} has applied, and waits to tell, {found}; its ledger ends at {end!r}")
        return faults

    def _check_end(self) -> None:
        assert not self._unrest(), "; ".join(self._unrest())
        newest: dict[tuple[str, str], tuple[int, bool]] = {}
        for text in self.truth.texts:
            newest[text.key] = max(newest.get(text.key, (0, False)), (text.sent, text.opt_out))
        stopped = self._stopped()
        for location, bucket in LOCATIONS.items():
            found = self.servers.here.smembers(f"optout:{{{bucket}.{BUCKETS}}}:set:{location}")
            by_ledger = {
                k[1] for k, told in self.truth.due().items() if k[0] == location and told[-1].status == "OPTED_OUT"
            }
            assert {f"+{digits.decode()}" for digits in found} == by_ledger
            if bucket not in stopped:
                assert by_ledger == {k[1] for k, (_, out) in newest.items() if k[0] == location and out}

    def _stopped(self) -> dict[int, int]:
        """Return the offset of the first record of each bucket that cannot be read."""
        return {
            bucket: next(r.offset for r in log.records if r.value == b"no record")
            for bucket, log in enumerate(self.broker.topics[TOPICS["ledger"]])
            if any(r.value == b"no record" for r in log.records)
        }
