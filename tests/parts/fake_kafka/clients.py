"""The client library's classes on a broker in memory, as far as the product calls them."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, Message, TopicPartition

from tests.parts.fake_kafka.broker import Ending, Place, State, failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.parts.fake_kafka.broker import Broker, Transaction
    from tests.parts.fake_kafka.group import Member


class Metadata(NamedTuple):
    """Who commits: what a group's coordinator checks offsets of a transaction by."""

    group: str
    member: str
    generation: int


class Consumer:
    """A consumer. `hears` is False while it does not hear that the group took it for dead."""

    def __init__(self, broker: Broker, config: Mapping[str, Any]) -> None:
        self._broker = broker
        self._group = broker.group(config["group.id"])
        self._on_commit: Callable[[KafkaError | None, list[TopicPartition]], None] | None = config.get("on_commit")
        self._answers: list[tuple[KafkaError | None, list[TopicPartition]]] = []
        self._waits = config.get("isolation.level", "read_committed") == "read_committed"
        self._topics: list[str] = []
        self._member: Member | None = None
        self._positions: dict[Place, int] = {}
        self._paused: set[Place] = set()
        self._starting: set[Place] = set()
        self._ends: dict[Place, int] = {}
        self._callbacks: dict[str, Callable[[Any, list[TopicPartition]], None]] = {}
        self.hears = True

    @property
    def member(self) -> Member:
        """Who this is to its group."""
        assert self._member is not None
        return self._member

    def subscribe(self, topics: list[str], *, on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self._topics = topics
        self._callbacks = {"assigned": on_assign, "revoked": on_revoke, "lost": on_lost}
        self._member = self._group.join(topics)

    def incremental_assign(self, places: Sequence[TopicPartition]) -> None:
        for asked in places:
            place = Place(asked.topic, asked.partition)
            self._positions[place] = asked.offset
            self._starting.add(place)
            self._ends.pop(place, None)

    def incremental_unassign(self, places: Sequence[TopicPartition]) -> None:
        for asked in places:
            self._positions.pop(Place(asked.topic, asked.partition), None)

    def pause(self, places: Sequence[TopicPartition]) -> None:
        self._paused.update(Place(p.topic, p.partition) for p in places)

    def resume(self, places: Sequence[TopicPartition]) -> None:
        self._paused.difference_update(Place(p.topic, p.partition) for p in places)

    def consumer_group_metadata(self) -> Metadata:
        if self._member is None:
            return Metadata(self._group.name, "", -1)
        return Metadata(self._group.name, self._member.id, self._member.generation)

    def poll(self, timeout: float) -> Message | None:
        return next(iter(self.consume(1, timeout)), None)

    def consume(self, number: int, timeout: float) -> list[Message]:
        answers, self._answers = self._answers, []
        for answer in answers:
            if self._on_commit is not None:
                self._on_commit(*answer)
        if self._broker.away:
            return []
        if self._member is not None:
            self._serve(self._member)
        found: list[Message] = []
        for place in sorted(self._positions):
            if place not in self._paused:
                found += self._fetch(place, min(number, self._broker.most) - len(found))
        self._starting.clear()
        return found

    def _serve(self, member: Member) -> None:
        """Tell the owner what its client heard from the group."""
        if member.id not in self._group.members:
            if not self.hears:
                return
            self._call("lost", sorted(self._positions))
            member = self._member = self._group.join(self._topics)
        while member.heard:
            what, places = member.heard.popleft()
            self._call(what, places)
            self._group.settle()

    def _call(self, what: str, places: Sequence[Place]) -> None:
        self._callbacks[what](self, [TopicPartition(place.topic, place.number) for place in places])

    def _fetch(self, place: Place, number: int) -> list[Message]:
        log = self._broker.log(place)
        found: list[Message] = []
        position = self._positions[place]
        if not log.start <= position <= log.end:
            return [self._event(place, position, KafkaError._AUTO_OFFSET_RESET)] if number > 0 else []
        while len(found) < number and position < log.stable_end:
            record = log.records[position]
            position += 1
            if record.readable:
                found.append(
                    Message(
                        topic=place.topic,
                        partition=place.number,
                        offset=record.offset,
                        key=record.key,
                        value=record.value,
                        headers=list(record.headers) or None,
                        timestamp=(1, record.timestamp),
                    )
                )
        self._positions[place] = position
        if len(found) < number and self._ends.get(place) != position:
            self._ends[place] = position
            found.append(self._event(place, position, KafkaError._PARTITION_EOF))
        return found

    @staticmethod
    def _event(place: Place, offset: int, code: int) -> Message:
        return Message(topic=place.topic, partition=place.number, offset=offset, error=KafkaError(code))

    def seek(self, asked: TopicPartition) -> None:
        place = Place(asked.topic, asked.partition)
        if place not in self._positions or place in self._starting:
            raise failure(KafkaError._STATE)
        self._positions[place] = asked.offset
        self._ends.pop(place, None)

    def committed(self, asked: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        self._broker.before("committed")
        places = [Place(p.topic, p.partition) for p in asked]
        if self._broker.away or (self._waits and self._broker.holds_offsets(self._group, places)):
            self._broker.clock.sleep(timeout)
            raise failure(KafkaError._TIMED_OUT, retriable=True)
        return [TopicPartition(*place, *self._group.committed.get(place, (-1001, ""))) for place in places]

    def get_watermark_offsets(
        self, asked: TopicPartition, timeout: float = 0, *, cached: bool = False
    ) -> tuple[int, int]:
        log = self._broker.log(Place(asked.topic, asked.partition))
        return log.start, log.end

    def list_topics(self, topic: str, timeout: float) -> Any:
        return Admin(self._broker).list_topics(topic, timeout)

    def commit(self, *, offsets: Sequence[TopicPartition], asynchronous: bool) -> list[TopicPartition] | None:
        """Commit; an asynchronous one is heard of with the next read, however it ends."""
        if not asynchronous:
            return self._commit(offsets)
        try:
            self._answers.append((None, self._commit(offsets)))
        except KafkaException as problem:
            self._answers.append((problem.args[0], list(offsets)))
        return None

    def _commit(self, offsets: Sequence[TopicPartition]) -> list[TopicPartition]:
        self._broker.before("commit")
        if self._broker.away:
            raise failure(KafkaError._TRANSPORT, retriable=True)
        metadata = self.consumer_group_metadata()
        stranger = not metadata.member and not self._group.members
        code = None if stranger else self._group.error(metadata.member, metadata.generation)
        if code is not None:
            raise failure(code)
        self._group.committed.update({Place(p.topic, p.partition): (p.offset, p.metadata or "") for p in offsets})
        return list(offsets)

    def close(self) -> None:
        if self._member is not None:
            if self._positions:
                self._call("revoked" if self._member.id in self._group.members else "lost", sorted(self._positions))
            self._group.remove(self._member)
            self._member = None


class Producer:
    """A producer, transactional where its properties name an id. What is produced arrives with `deliver` or `flush`."""

    def __init__(self, broker: Broker, config: Mapping[str, Any]) -> None:
        self._broker = broker
        self._id: str = config.get("transactional.id", "")
        self._epoch = -1
        self._transaction: Transaction | None = None
        self._queue: list[tuple[Place, dict[str, Any], Any]] = []
        self.stuck = False
        """Nothing is acknowledged."""

    def __len__(self) -> int:
        return len(self._queue)

    def produce(  # noqa: PLR0917 - the library's
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,
        timestamp: int = 0,
        headers: Sequence[tuple[str, Any]] = (),
        on_delivery: Any = None,
    ) -> None:
        if partition < 0:
            partition = crc32(key or b"") % len(self._broker.topics[topic])
        fields = {"value": value, "key": key, "timestamp": timestamp, "headers": headers}
        self._queue.append((Place(topic, partition), fields, on_delivery))

    def deliver(self, most: int) -> None:
        """Let the first records that wait arrive, and be acknowledged."""
        arrived, self._queue = self._queue[:most], self._queue[most:]
        for place, fields, on_delivery in arrived:
            self._broker.append(place, transaction=self._transaction, **fields)
            if on_delivery is not None:
                on_delivery(None, None)

    def poll(self, timeout: float) -> int:
        """Let arrive what the client's own thread sends meanwhile, unless nothing is acknowledged."""
        if not self.stuck and not self._broker.away:
            self.deliver(len(self._queue))
        return 0

    def flush(self, timeout: float) -> int:
        self._broker.before("flush")
        if self.stuck or self._broker.away:
            self._broker.clock.sleep(timeout)
        else:
            if self._transaction is not None:
                self._check()
            self.deliver(len(self._queue))
        return len(self._queue)

    def purge(self) -> None:
        self._queue.clear()

    # Transactions

    def _check(self) -> None:
        self._broker.check_epoch(self._id, self._epoch)

    def _reach(self, what: str, timeout: float) -> None:
        self._broker.before(what)
        if self._broker.away:
            self._broker.clock.sleep(timeout + 1)
            raise failure(KafkaError._TIMED_OUT, retriable=True)

    def init_transactions(self, timeout: float) -> None:
        self._reach("init_transactions", timeout)
        self._epoch = self._broker.take_over(self._id)

    def begin_transaction(self) -> None:
        self._transaction = self._broker.begin(self._id)

    def send_offsets_to_transaction(
        self, offsets: Sequence[TopicPartition], metadata: Metadata, timeout: float
    ) -> None:
        self._reach("send_offsets", timeout)
        self._check()
        group = self._broker.group(metadata.group)
        code = None if metadata.generation < 0 else group.error(metadata.member, metadata.generation)
        if code is not None:
            raise failure(code, abort=True)
        assert self._transaction is not None
        self._transaction.offsets.append(
            (group, {Place(p.topic, p.partition): (p.offset, p.metadata or "") for p in offsets})
        )

    def commit_transaction(self, timeout: float) -> None:
        self._reach("commit_transaction", timeout)
        self._check()
        transaction, self._broker.next_commit, ending = self._transaction, Ending.WELL, self._broker.next_commit
        assert transaction is not None
        if ending in (Ending.WELL, Ending.DONE):
            self._broker.finish(transaction, committed=True)
        elif ending in (Ending.LATE, Ending.DECIDED):
            transaction.state = State.COMMITTING
        if ending not in (Ending.WELL, Ending.LATE):
            self._broker.clock.sleep(timeout + 1)
            raise failure(KafkaError._TIMED_OUT, retriable=True)
        self._transaction = None

    def abort_transaction(self, timeout: float) -> None:
        if self._transaction is None:
            raise failure(KafkaError._STATE)
        self._reach("abort_transaction", timeout)
        self._check()
        self._queue.clear()
        self._broker.finish(self._transaction, committed=False)
        self._transaction = None


class Admin:
    """An admin client."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def list_topics(self, topic: str, timeout: float) -> Any:
        self._broker.before("list_topics")
        if self._broker.away:
            raise failure(KafkaError._TRANSPORT, retriable=True)
        partitions = dict.fromkeys(range(len(self._broker.topics[topic])))
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions=partitions)})

    def list_offsets(
        self, asked: Mapping[TopicPartition, Any], *, isolation_level: Any, request_timeout: float
    ) -> dict[TopicPartition, Future[Any]]:
        self._broker.before("list_offsets")
        answers = {}
        for place, spec in asked.items():
            answer = answers[place] = Future[Any]()
            if self._broker.away:
                answer.set_exception(failure(KafkaError._TRANSPORT, retriable=True))
            else:
                log = self._broker.log(Place(place.topic, place.partition))
                end = log.end if isolation_level is IsolationLevel.READ_UNCOMMITTED else log.stable_end
                offset = log.start if spec._value == EARLIEST else end
                answer.set_result(SimpleNamespace(offset=offset))
        return answers


EARLIEST = -2
__all__ = ["Admin", "Consumer", "KafkaException", "Metadata", "Producer"]
