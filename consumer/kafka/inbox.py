"""A member of a consumer group: reads in batches, says who owns what, commits only what it is told to."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from confluent_kafka import (
    OFFSET_END,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    Message,
    TopicPartition,
)

from consumer.kafka.cluster import PRODUCERS_ONLY, without
from consumer.kafka.committed import Committed, CommittedReader, OffsetsCopy, Partition, committed
from consumer.kafka.errors import (
    CLIENT_ERRORS,
    REFUSED,
    KafkaGone,
    Triage,
    is_unreadable,
    name_of,
    or_gone,
    sentence,
    triage,
    unreadable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from consumer.kafka.errors import OnError

__all__ = [
    "NO_TOKEN",
    "Committed",
    "CommittedReader",
    "Inbox",
    "Listener",
    "Message",
    "Partition",
    "Read",
    "Token",
    "appended_at",
]

MOST_NAMED = 20
"""Partitions that one sentence names."""
NO_NOTES: Mapping[str, str] = {}
TRY_AGAIN = 30.0
"""Seconds after which a partition is read again that could not be: each try costs what unpacking a batch costs."""
GIVE_WAY = 5.0
"""Seconds for which a read lets another thread's commit go first."""


def appended_at(message: Message) -> int | None:
    """Return when the broker appended a record, by its own clock, in ms; None where the topic kept its writer's time.

    The type stands in the record's batch: it is that of the topic at the time when the record was written.
    """
    kind, at = message.timestamp()
    return int(at) if kind == TIMESTAMP_LOG_APPEND_TIME else None


@dataclass(frozen=True, eq=False)
class Token:
    """One assignment: the partitions, and the group metadata captured in the callback that made it.

    The broker checks the member and its generation but never who owns a partition, so what was taken under one token
    may not be sent under a later one. Tokens are compared by identity. `copy_metadata` is that of the group's copy.
    """

    partitions: frozenset[Partition]
    group_metadata: Any
    copy_metadata: Any


NO_TOKEN = Token(frozenset(), None, None)


class Listener(Protocol):
    """Hears of the partitions that this member receives and loses. Called from within `read` and `close` alone."""

    def assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Return the offset to begin each new partition at. Must not block for long: the group waits.

        One that is left out is not read, and does not count as owned.
        """
        ...

    def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> None:
        """Finish what concerns these partitions; if `lost`, somebody else may have them already."""
        ...


@dataclass(frozen=True, slots=True)
class Blocked:
    """A partition that cannot be read from an offset on, and why, in a sentence that names both."""

    offset: int
    why: str


@dataclass(slots=True)
class Read:
    """What one `read` brought: messages, the end of each partition whose end was reached, and where none goes on."""

    messages: list[Message] = field(default_factory=list)
    ends: dict[Partition, int] = field(default_factory=dict)
    blocked: dict[Partition, Blocked] = field(default_factory=dict)


class NotHeld(KafkaGone):
    """A partition does not hold the offset to read on at: its first or its last records are gone."""


class Inbox:
    """A consumer within a group.

    Partitions are assigned at explicit offsets, never at a default. Raises KafkaGone when the client is of no use any
    more; passing errors are counted to `on_error` and waited out by the client itself. A partition whose next records
    cannot be unpacked is left alone and tried again now and then: the others are read.
    """

    def __init__(self, config: Mapping[str, Any], on_error: OnError) -> None:
        self._on_error = on_error
        self._held: set[Partition] = set()
        self._try_at: dict[Partition, float] = {}
        self.blocked: dict[Partition, Blocked] = {}
        """Partitions that cannot be read on, each until something of it is read."""
        self._listener: Listener
        self._owned: set[Partition] = set()
        self._ended: dict[Partition, int] = {}
        self._leaving = False
        self._free = threading.Event()
        self._free.set()
        self._heard: Callable[[Mapping[Partition, int | None]], None] | None = None
        self._on_their_way = 0
        self._raised: Exception | None = None
        self.joined = False
        """Whether the group has us in: not before the first assignment, and not from a lost one to the next."""
        self._group = str(config["group.id"])
        self.copy = OffsetsCopy(config, self._group)
        """Where what the group has committed is kept as well."""
        self.token = NO_TOKEN
        """The assignment in force. Replaced, never changed, so that another thread can hold on to the one it saw."""
        settings = {
            **without(config, PRODUCERS_ONLY),
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "on_commit": self._kept(self._committed),
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky",
            "fetch.queue.backoff.ms": 5,  # the default sleeps for a second when the local queue is full
        }
        with or_gone(REFUSED):
            self._consumer = Consumer(settings)

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None:
        """Join the group for these topics."""
        self._listener = listener
        with or_gone("the group cannot be joined"):
            self._consumer.subscribe(
                list(topics),
                on_assign=self._kept(self._assigned),
                on_revoke=self._kept(self._revoked),
                on_lost=self._kept(self._lost),
            )

    def _kept(self, callback: Callable[..., None]) -> Callable[..., None]:
        """Return a callback that raises nothing into the client: it would be lost there, or come out as a SystemError.

        The call of ours that it was called from raises it instead.
        """

        def call(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception as problem:  # noqa: BLE001 - raised again by `_raise`
                self._raised = self._raised or problem

        return call

    def _raise(self) -> None:
        raised, self._raised = self._raised, None
        if isinstance(raised, CLIENT_ERRORS):
            raise KafkaGone(f"Kafka cannot be read any more: {sentence(raised)}")
        if raised is not None:
            raise raised

    def _polled(self, call: Callable[..., Any], *arguments: float) -> Any:
        """Make a call from within which the client calls back. Returns None where it failed and may be made again."""
        try:
            return call(*arguments)
        except CLIENT_ERRORS as problem:
            if triage(problem) is Triage.FATAL:
                self._raise()  # what a callback raised says it better
                raise KafkaGone(f"Kafka cannot be read any more: {sentence(problem)}") from None
            self._complain(problem)
            return None
        finally:
            self._raise()

    def _assigned(self, consumer: Consumer, received: list[TopicPartition]) -> None:
        partitions = [Partition(p.topic, p.partition) for p in received]
        if self._leaving:  # a client that leaves answers no question about offsets, and each would wait its time out
            consumer.incremental_assign([TopicPartition(p.topic, p.number, OFFSET_END) for p in partitions])
            return
        starts = self._listener.assigned(partitions) if partitions else {}
        consumer.incremental_assign([TopicPartition(p.topic, p.number, starts.get(p, OFFSET_END)) for p in partitions])
        # The client remembers a pause of a partition that left and came back; whoever paused it has forgotten.
        consumer.resume([TopicPartition(p.topic, p.number) for p in starts])
        if unread := [TopicPartition(p.topic, p.number) for p in partitions if p not in starts]:
            consumer.pause(unread)
        self._owned.update(starts)
        self._renew_token()
        self.joined = True

    def _revoked(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        self._give_up(consumer, given, lost=False)

    def _lost(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        self.joined = False
        self._give_up(consumer, given, lost=True)

    def _give_up(self, consumer: Consumer, given: list[TopicPartition], *, lost: bool) -> None:
        partitions = [place for p in given if (place := Partition(p.topic, p.partition)) in self._owned]
        self._owned.difference_update(partitions)
        self._held.difference_update(partitions)
        for partition in partitions:
            self._unblocked(partition)
        self.token = NO_TOKEN
        if partitions:
            self._listener.revoked(partitions, lost=lost)
        consumer.incremental_unassign(given)
        self._renew_token()

    def _renew_token(self) -> None:
        try:
            metadata = self._consumer.consumer_group_metadata() if self._owned else None
        except (
            RuntimeError
        ):  # on leaving, the client has forgotten the group while it gives up one part after the other
            self.token = NO_TOKEN
        else:
            self.token = Token(frozenset(self._owned), metadata, self.copy.metadata)

    @property
    def owned(self) -> frozenset[Partition]:
        """Return the partitions that this member owns, as far as it knows."""
        return self.token.partitions

    def read(self, limit: int, wait: float) -> Read:
        """Return up to `limit` messages: at once where there are any, after `wait` seconds at most."""
        self._free.wait(GIVE_WAY)
        self._try_blocked()
        first = self._polled(self._consumer.poll, wait)
        if first is None:
            return Read()
        return self._sorted([first, *(self._polled(self._consumer.consume, limit - 1, 0) or ())])

    def read_batch(self, limit: int, wait: float) -> Read:
        """Return when `limit` messages are there or `wait` seconds are over: cheaper a message under load."""
        self._free.wait(GIVE_WAY)
        self._try_blocked()
        return self._sorted(self._polled(self._consumer.consume, limit, wait) or ())

    def _sorted(self, messages: Iterable[Message]) -> Read:
        read = Read()
        for message in messages:
            error = message.error()
            if error is None:
                read.messages.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                topic, number, offset = message.topic(), message.partition(), message.offset()
                assert topic is not None and number is not None and offset is not None  # noqa: PT018
                read.ends[Partition(topic, number)] = self._ended[Partition(topic, number)] = offset
            elif is_unreadable(error) and message.partition() is not None:
                self._block(read, message, error)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
                raise NotHeld(
                    f"{self._where(message)} does not hold the offset to read on at any more ({error.str()}): records "
                    "were deleted before they were read"
                )
            elif triage(error) is Triage.FATAL:
                raise KafkaGone(f"{self._where(message)} cannot be read any more: {sentence(error)}")
            else:
                self._complain(error)
        if self.blocked:
            for partition in [*read.ends, *(Partition(m.topic() or "", m.partition() or 0) for m in read.messages)]:
                if partition not in read.blocked:
                    self._unblocked(partition)
        return read

    def _where(self, message: Message) -> str:
        """Return in words which place an error comes from; where it does not say, where reading stands everywhere."""
        if message.topic() is not None and message.partition() is not None:
            return f"{message.topic()} [{message.partition()}] at offset {message.offset()}"
        asked = [TopicPartition(p.topic, p.number) for p in sorted(self._owned)[:MOST_NAMED]]
        try:
            places = self._consumer.position(asked)
        except CLIENT_ERRORS:  # the error that is to be named counts, not this one
            places = []
        standing = ", ".join(f"{p.topic} [{p.partition}] at {p.offset}" for p in places if p.offset >= 0)
        return f"Kafka (reading stands in {standing})" if standing else "Kafka"

    def _block(self, read: Read, message: Message, error: KafkaError) -> None:
        """Leave a partition alone for a while: the client would unpack the same batch twice a second for ever."""
        topic, number, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None and number is not None and offset is not None  # noqa: PT018 - asked before
        partition = Partition(topic, number)
        if partition not in self._owned or partition in read.blocked:
            return
        self._switch(self._consumer.pause, [partition])
        self._try_at[partition] = time.monotonic() + TRY_AGAIN
        why = f"{unreadable(topic, number, offset, error)}; nothing behind it is in force"
        self.blocked[partition] = read.blocked[partition] = Blocked(offset, why)

    def _try_blocked(self) -> None:
        now = time.monotonic()
        due = [partition for partition, at in self._try_at.items() if at <= now]
        for partition in due:
            del self._try_at[partition]
        if due:
            self._switch(self._consumer.resume, set(due) - self._held)

    def _unblocked(self, partition: Partition) -> None:
        self.blocked.pop(partition, None)
        self._try_at.pop(partition, None)

    def seek(self, partition: Partition, offset: int) -> bool:
        """Go on reading at an offset; False if the client cannot yet (just assigned): try again after a read.

        Messages that were fetched before may still be handed out: drop those with another offset than expected.
        """
        try:
            self._consumer.seek(TopicPartition(partition.topic, partition.number, offset))
        except CLIENT_ERRORS as problem:
            if triage(problem) is Triage.FATAL:
                raise KafkaGone(f"{partition.topic} cannot be read at another offset: {sentence(problem)}") from None
            return False
        return True

    def go_past(self, partition: Partition, offset: int) -> bool:
        """Read on at an offset behind what could not be read; False if the client cannot yet."""
        if not self.seek(partition, offset):
            return False
        self._unblocked(partition)
        self._switch(self._consumer.resume, {partition} - self._held)
        return True

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Stop fetching these partitions; the group keeps us as long as we go on calling `read`."""
        held = set(partitions)
        self._held |= held & self._owned
        self._switch(self._consumer.pause, held)

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Fetch these partitions again, but for those that cannot be read now."""
        free = set(partitions)
        self._held -= free
        self._switch(self._consumer.resume, free - self._try_at.keys())

    def _switch(self, switch: Callable[[list[TopicPartition]], None], partitions: Iterable[Partition]) -> None:
        try:
            switch([TopicPartition(p.topic, p.number) for p in partitions if p in self._owned])
        except CLIENT_ERRORS as problem:  # given up meanwhile; what is fetched for nothing is dropped
            self._complain(problem)

    def committed(self, partitions: Sequence[Partition], timeout: float) -> dict[Partition, Committed | None]:
        """Return the group's committed offsets, None where there is none yet. Raises TimeoutError.

        Read_committed: it waits while a transaction that holds offsets of these partitions is pending.
        """
        return committed(self._consumer, self._group, [TopicPartition(p.topic, p.number) for p in partitions], timeout)

    def known_end(self, partition: Partition, position: int) -> int | None:
        """Return where reading can get to, as the last fetch told it, None if none has: costs no request.

        That is the high watermark; or `position`, if reading has come there and nothing more may be read for now, as
        where a transaction is open.
        """
        if self._ended.get(partition) == position:
            return position
        place = TopicPartition(partition.topic, partition.number)
        try:
            _, high = self._consumer.get_watermark_offsets(place, cached=True)
        except CLIENT_ERRORS:  # given up meanwhile
            return None
        return int(high) if high >= 0 else None

    def commit(self, offsets: Mapping[Partition, int], notes: Mapping[str, str] = NO_NOTES) -> bool:
        """Commit these offsets, each with its topic's note, which stays with it, and wait.

        False if they could not be committed: not ours any more, or Kafka is away.
        """
        if not offsets:
            return True
        try:
            done = self._consumer.commit(offsets=_places(offsets, notes), asynchronous=False)
        except CLIENT_ERRORS as problem:
            self._not_committed(problem)
            return False
        return len(self._taken(done or [])) == len(done or [])

    def commit_soon(
        self,
        offsets: Mapping[Partition, int],
        notes: Mapping[str, str],
        heard: Callable[[Mapping[Partition, int | None]], None],
    ) -> None:
        """Commit these offsets as `commit` does, and do not wait.

        `heard` is called once, from within a read, with the offset that Kafka took of each partition, None where it
        took none. Commits that are on their way at the same time have the same `heard`: answers may come in any order.
        """
        self._heard, self._on_their_way = heard, self._on_their_way + 1
        try:
            self._consumer.commit(offsets=_places(offsets, notes), asynchronous=True)
        except CLIENT_ERRORS as problem:
            self._on_their_way -= 1
            self._not_committed(problem)
            heard(dict.fromkeys(offsets))

    def _committed(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        if self._heard is None or not self._on_their_way:
            return
        self._on_their_way -= 1
        taken = frozenset() if error is not None else self._taken(places)
        asked = {Partition(place.topic, place.partition): place.offset for place in places}
        self._heard({partition: offset if partition in taken else None for partition, offset in asked.items()})
        if error is not None:
            self._not_committed(error)

    def _taken(self, places: Iterable[TopicPartition]) -> frozenset[Partition]:
        """Return those that Kafka took the offset of, and complain of the others."""
        taken = set()
        for place in places:
            if place.error is None:
                taken.add(Partition(place.topic, place.partition))
            else:
                self._complain(place.error)
        return frozenset(taken)

    def _not_committed(self, problem: BaseException | KafkaError) -> None:
        if triage(problem) is Triage.FATAL:
            raise KafkaGone(f"offsets cannot be committed in the group {self._group}: {sentence(problem)}") from None
        self._complain(problem)

    def _complain(self, problem: BaseException | KafkaError) -> None:
        self._on_error(name_of(problem), sentence(problem))

    def commit_beside(self, offsets: Mapping[Partition, int], notes: Mapping[str, str] = NO_NOTES) -> bool:
        """Commit in the group and in its copy, from another thread than the one that reads.

        The client lets one thread in at a time and knows no queue: one that polls in a loop would never let us in. The
        copy has a client of its own, so nobody reads any later for a copy that Kafka is slow to take.
        """
        self._free.clear()
        try:
            done = self.commit(offsets, notes)
        finally:
            self._free.set()
        if done:  # a copy that somebody joined is behind, and written again later
            self.copy.write(offsets, notes)
        return done

    def close(self) -> None:
        """Leave the group; what is owned is revoked first, what comes meanwhile is given back unseen.

        May hang within the client: give it a deadline.
        """
        self._leaving = True
        try:
            self._polled(self._consumer.close)
        finally:
            self.copy.close()


def _places(offsets: Mapping[Partition, int], notes: Mapping[str, str]) -> list[TopicPartition]:
    return [TopicPartition(p.topic, p.number, offset, notes.get(p.topic, "")) for p, offset in offsets.items()]
