"""The cluster's side: logs, transactions, and the offsets that groups commit."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException

from tests.parts.fake_kafka.group import Group

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.parts.fake_kafka.clock import Clock


class Place(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


class State(Enum):
    """How far a transaction is. COMMITTING: decided, and its markers are not written yet."""

    OPEN = auto()
    COMMITTING = auto()
    COMMITTED = auto()
    ABORTED = auto()


class Ending(Enum):
    """What becomes of the next commit of a transaction.

    LATE: it is well, and its markers are not written when the client hears so. The others: the client hears nothing,
    and the commit never arrived, is decided, or is done.
    """

    WELL = auto()
    LATE = auto()
    NEVER_ARRIVED = auto()
    DECIDED = auto()
    DONE = auto()


@dataclass(slots=True)
class Record:
    """One record of a log; `transaction` is None for one that was written outside of any."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, Any]]
    transaction: Transaction | None
    control: bool = False

    @property
    def readable(self) -> bool:
        """Whether a read_committed reader that gets this far is given it."""
        return not self.control and (self.transaction is None or self.transaction.state is State.COMMITTED)


@dataclass(eq=False)
class Log:
    """One partition."""

    start: int = 0
    records: list[Record] = field(default_factory=list)
    open: dict[Transaction, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The offset after the last record."""
        return len(self.records)

    @property
    def stable_end(self) -> int:
        """The offset up to which a read_committed reader reads."""
        return min(self.open.values(), default=len(self.records))


@dataclass(eq=False)
class Transaction:
    """One transaction: what it wrote to, and the offsets that it will commit."""

    producer: str
    state: State = State.OPEN
    logs: list[Log] = field(default_factory=list)
    offsets: list[tuple[Group, dict[Place, tuple[int, str]]]] = field(default_factory=list)

    @property
    def pending(self) -> bool:
        """Whether readers and committed offsets wait for its end."""
        return self.state in (State.OPEN, State.COMMITTING)


def failure(code: int, *, fatal: bool = False, retriable: bool = False, abort: bool = False) -> KafkaException:
    """Return the client's exception for an error."""
    return KafkaException(KafkaError(code, "as the test has it", fatal, retriable, abort))


class Broker:
    """All brokers of a cluster at once. `before` is called before each question that a client puts to it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.topics: dict[str, list[Log]] = {}
        self.groups: dict[str, Group] = {}
        self.away = False
        self.most = 1000
        """How many messages one read brings at most."""
        self.next_commit = Ending.WELL
        self.before: Callable[[str], None] = lambda _what: None
        self._epochs: dict[str, int] = {}
        self._running: dict[str, Transaction] = {}
        self._members = 0

    # Topics

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Create a topic."""
        self.topics[name] = [Log() for _ in range(partitions)]

    def add_partition(self, name: str) -> None:
        """Give a topic one partition more. Groups hear of it with their next rebalance."""
        self.topics[name].append(Log())

    def places(self, topics: Sequence[str]) -> list[Place]:
        """Return every partition of these topics."""
        return [Place(topic, number) for topic in topics for number in range(len(self.topics[topic]))]

    def log(self, place: Place) -> Log:
        """Return one partition."""
        return self.topics[place.topic][place.number]

    def append(
        self,
        place: Place,
        value: bytes | None,
        key: bytes | None = None,
        *,
        timestamp: int = 0,
        headers: Sequence[tuple[str, Any]] = (),
        transaction: Transaction | None = None,
    ) -> Record:
        """Append a record, now unless a time is given."""
        log = self.log(place)
        record = Record(log.end, timestamp or self.clock.now_ms, key, value, headers, transaction)
        if transaction is not None and log not in transaction.logs:
            transaction.logs.append(log)
            log.open[transaction] = log.end
        log.records.append(record)
        return record

    def committed_records(self, place: Place, start: int = 0) -> list[Record]:
        """Return what a read_committed reader sees from an offset on."""
        log = self.log(place)
        return [record for record in log.records[start : log.stable_end] if record.readable]

    # Groups

    def group(self, name: str) -> Group:
        """Return a group, which may have no member."""
        if name not in self.groups:
            self.groups[name] = Group(name, self)
        return self.groups[name]

    def member_id(self) -> str:
        """Return a name that no other member has."""
        self._members += 1
        return f"member-{self._members:04}"

    # Transactions

    @property
    def pending(self) -> list[Transaction]:
        """The transactions that are not over."""
        return [transaction for transaction in self._running.values() if transaction.pending]

    def take_over(self, producer: str) -> int:
        """Fence the earlier producers of a transactional id, end what they left, and return the new epoch."""
        if (left := self._running.get(producer)) is not None:
            self._end_left(left)
        self._epochs[producer] = self._epochs.get(producer, -1) + 1
        return self._epochs[producer]

    def time_out(self, transaction: Transaction) -> None:
        """End a transaction that took too long: it is aborted and its producer fenced, unless its end was decided."""
        self._end_left(transaction)
        self._epochs[transaction.producer] += 1

    def _end_left(self, transaction: Transaction) -> None:
        if transaction.pending:
            self.finish(transaction, committed=transaction.state is State.COMMITTING)

    def begin(self, producer: str) -> Transaction:
        """Begin a transaction, when the one before has its markers."""
        if (last := self._running.get(producer)) is not None and last.state is State.COMMITTING:
            self.finish(last, committed=True)
        self._running[producer] = Transaction(producer)
        return self._running[producer]

    def check_epoch(self, producer: str, epoch: int) -> None:
        """Raise the fatal error that a producer gets when another has its id, or its transaction timed out."""
        if self._epochs[producer] != epoch:
            raise failure(KafkaError._FENCED, fatal=True)

    def finish(self, transaction: Transaction, *, committed: bool) -> None:
        """End a transaction: markers in its logs, offsets in their groups."""
        transaction.state = State.COMMITTED if committed else State.ABORTED
        for log in transaction.logs:
            del log.open[transaction]
            log.records.append(Record(log.end, self.clock.now_ms, None, None, (), transaction, control=True))
        if committed:
            for group, offsets in transaction.offsets:
                group.committed.update(offsets)

    def holds_offsets(self, group: Group, places: Sequence[Place]) -> bool:
        """Whether a pending transaction holds offsets of these partitions."""
        return any(
            holder is group and not offsets.keys().isdisjoint(places)
            for transaction in self.pending
            for holder, offsets in transaction.offsets
        )
