"""The three ways in which we write: to the ledger, and changes with their offsets in a transaction or without one."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from confluent_kafka import KafkaError, Producer, TopicPartition

from consumer.kafka.cluster import CONSUMERS_ONLY, without
from consumer.kafka.errors import (
    CLIENT_ERRORS,
    REFUSED,
    KafkaGone,
    Triage,
    error_of,
    name_of,
    or_gone,
    sentence,
    triage,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from confluent_kafka import KafkaException, Message

    from consumer.kafka.errors import OnError
    from consumer.kafka.inbox import Inbox, Partition, Token

MISSING = frozenset(
    {
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)
"""What the client says of a topic that was deleted, half a minute after it was."""
WAIT = {
    **dict.fromkeys(MISSING, "there is no such topic: `optout topics create`"),
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "this user may not write there: `optout kafka-acl` says what it needs",
}
"""Why what is for a topic waits, by what the client says of it: an operator can mend it."""
WRITE_AGAIN, ASK_RIGHTS_AGAIN = 1.0, 10.0
"""Seconds after which what a topic did not take is written to it again. A missing topic the client knows of; a missing
right the broker refuses, and the producer begins anew with everything that is on its way."""
GRACE = 5.0
"""Seconds after a call's own timeout after which it is taken for one that will not return."""

LARGEST_REQUEST = 16 * 1024 * 1024
"""Bytes of a record that is sent to a broker to be refused there: a larger one is refused by the client."""

Headers = Sequence[tuple[str, str | bytes | None]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to be written. Without a partition the key decides, without a timestamp the clock.

    `source` says where it comes from, to be named where it cannot be written.
    """

    topic: str
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    partition: int = -1
    timestamp: int = 0
    headers: Headers = field(default=(), repr=False)
    source: object = None

    def reduced(self) -> Outgoing | None:
        """Return what is to be written instead where the topic takes no record of this size; None: nothing else is."""
        return None


class NotPublished(Exception):
    """A transaction did not happen, or nobody knows whether it did: learn the committed offsets and begin again."""


def _nobody() -> None:
    """Hear that a record is acknowledged, and do nothing about it."""


class Refused(NotPublished):
    """It did not happen, for the broker or the client never takes one of these records. `name` is that of the error.

    `topic` is whose record was not taken; None where that is not known.
    """

    def __init__(self, problem: BaseException | KafkaError, topic: str | None = None) -> None:
        super().__init__(sentence(problem))
        self.name = name_of(problem)
        self.topic = topic
        error = error_of(problem)
        self.too_large = error is not None and error.code() in TOO_LARGE


REFUSALS = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
    }
)
"""What is said of a record that is not taken, today or tomorrow, whatever becomes of the others."""
TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})


class LedgerProducer:
    """Idempotent and acknowledged by all replicas in sync; it retries for as long as it takes.

    Not transactional, so that a position in the ledger is a count of records. Raises KafkaGone when it is of no use
    any more: what was not acknowledged is read and written again after a restart. What is for a topic of
    `may_be_missing` waits where somebody deleted that one, or took the right to write there: the others' records are
    not to wait with it. Of a record that its topic does not take as a whole, `on_reduced` hears, and what it has to
    give instead is written.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        on_error: OnError,
        *,
        may_be_missing: Collection[str] = frozenset(),
        on_reduced: Callable[[Outgoing], None] = lambda _record: None,
    ) -> None:
        self._on_reduced = on_reduced
        self._failed: str | None = None
        self._may_be_missing = frozenset(may_be_missing)
        self._again: list[tuple[Outgoing, Callable[[], None]]] = []
        self._tried = 0.0
        self._pause = WRITE_AGAIN
        self._on_error = on_error
        settings = {
            **without(config, CONSUMERS_ONLY),
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": 0,  # never give up on a keyword
            # A dead letter is as large as what came in: the topic decides, not the client.
            "message.max.bytes": max(LARGEST_REQUEST, int(config.get("message.max.bytes", 0))),
            "linger.ms": 5,
            "partitioner": "murmur2_random",  # keys land where a Java client puts them
            "error_cb": self._error,
        }
        with or_gone(REFUSED):
            self._producer = Producer(settings)

    def _error(self, error: KafkaError) -> None:
        if triage(error) is Triage.FATAL:
            self._failed = self._failed or f"Kafka cannot be written to: {sentence(error)}"
        else:
            self._on_error(name_of(error), sentence(error))

    def _delivered(
        self, record: Outgoing, acknowledged: Callable[[], None], error: KafkaError | None, _message: Message
    ) -> None:
        if error is None:
            acknowledged()
        elif not self._is_kept(record, acknowledged, error):
            self._failed = self._failed or refusal(record.topic, record.source, error)

    def _is_kept(self, record: Outgoing, acknowledged: Callable[[], None], error: KafkaError | None) -> bool:
        """Keep a record that is to be written again when its topic takes it; False for one that nothing helps."""
        if error is not None and error.code() in TOO_LARGE and (less := record.reduced()) is not None:
            self._again.append((less, acknowledged))
            self._on_reduced(less)
            return True
        if error is None or error.code() not in WAIT or record.topic not in self._may_be_missing:
            return False
        self._again.append((record, acknowledged))
        self._pause = WRITE_AGAIN if error.code() in MISSING else ASK_RIGHTS_AGAIN
        self._on_error(error.name(), f"what is for {record.topic} waits, for {WAIT[error.code()]}")
        return True

    def _write_again(self) -> None:
        if self._again and time.monotonic() - self._tried > self._pause:
            self._tried, self._pause = time.monotonic(), WRITE_AGAIN
            waiting, self._again = self._again, []
            for number, (record, acknowledged) in enumerate(waiting):
                try:
                    self.write(record, acknowledged)
                except KafkaGone:  # what is left is not acknowledged: nobody may commit behind it while we end
                    self._again += waiting[number:]
                    raise

    def write(self, record: Outgoing, acknowledged: Callable[[], None] = _nobody) -> None:
        """Queue a record; waits while the queue is full. `acknowledged` is called once, from within another call."""
        while True:
            try:
                self._producer.produce(
                    record.topic,
                    key=record.key,
                    value=record.value,
                    partition=record.partition,
                    timestamp=record.timestamp,
                    headers=list(record.headers),
                    on_delivery=partial(self._delivered, record, acknowledged),
                )
            except BufferError:
                self._served(self._producer.poll, 0.1)
            except CLIENT_ERRORS as problem:
                if self._is_kept(record, acknowledged, error_of(problem)):
                    return
                raise KafkaGone(refusal(record.topic, record.source, problem)) from None
            else:
                return

    def flush(self, timeout: float) -> bool:
        """Wait until everything queued is acknowledged; False if it is not within `timeout` seconds."""
        self._write_again()
        left = self._served(self._producer.flush, timeout)
        return left == 0 and not self._again

    def waiting(self) -> int:
        """Return how many records are not acknowledged yet."""
        self._served(self._producer.poll, 0)
        self._write_again()
        return len(self._producer) + len(self._again)

    def _served(self, call: Callable[[float], int], timeout: float) -> int:
        """Make a call from within which the client calls back. Raises KafkaGone, also for what it heard there."""
        try:
            left = call(timeout)
        except CLIENT_ERRORS as problem:  # a fatal error; what is not acknowledged is written again after a restart
            self._failed = self._failed or f"Kafka cannot be written to: {sentence(problem)}"
            left = 0
        self._check()
        return left

    def _check(self) -> None:
        if self._failed is not None:
            raise KafkaGone(self._failed)


def refusal(topic: str, source: object, problem: BaseException | KafkaError) -> str:
    """Return what is to be said where a topic does not take a record, and what to do where that is known."""
    error = error_of(problem)
    what = topic if source is None else f"{topic}, with the record of {source},"
    if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return f"{what} cannot be written to, for the record is too large: raise max.message.bytes of {topic}"
    return f"{what} cannot be written to: {sentence(problem)}"


class Publishing(Protocol):
    """Tells changes and how far they go."""

    def settle(self) -> None:
        """End what an earlier publishing left in doubt, before anybody asks how it ended. Raises NotPublished."""
        ...

    def publish(
        self, records: Sequence[Outgoing], offsets: Mapping[Partition, int], token: Token, note: str = ""
    ) -> None:
        """Write the records and commit the offsets, under the assignment that they were taken with.

        Each carries the note, in the group and in its copy. Raises NotPublished where it did not happen or nobody
        knows, KafkaGone when the client is of no use any more.
        """
        ...

    def close(self) -> None:
        """Give up whatever is not done."""
        ...


class TransactionalOutbox:
    """Records and offsets in one transaction: both or neither, for readers with read_committed.

    `transactional.id` begins with `ids` and goes on at random. Each object has its own, which is kept when the producer
    has to be replaced: the new one then settles at once what the old one left in doubt.
    """

    def __init__(self, config: Mapping[str, Any], *, timeout: float = 10.0, ids: str = "optout-") -> None:
        self._timeout = timeout
        self._config = {
            **without(config, CONSUMERS_ONLY),
            "transactional.id": f"{ids}{secrets.token_hex(8)}",
            "transaction.timeout.ms": int(timeout * 1000),
            "message.timeout.ms": int(timeout * 1000),
            "linger.ms": 5,
            "retry.backoff.ms": 5,  # the broker completes one transaction while the next begins; 100 ms is the default
            "partitioner": "murmur2_random",
        }
        self._producer: Producer | None = None

    def settle(self) -> None:
        """See Publishing: a new producer under the same transactional id ends what the last one left pending."""
        self._ready()

    def _ready(self) -> Producer:
        if self._producer is None:
            with or_gone(REFUSED):  # values that do not go together
                producer = Producer(self._config)
            try:
                producer.init_transactions(self._timeout)
            except CLIENT_ERRORS as problem:
                if triage(problem) is Triage.FATAL and not _passing(problem):
                    raise KafkaGone(f"transactions cannot be begun: {sentence(problem)}") from None
                raise NotPublished(sentence(problem)) from None
            self._producer = producer
        return self._producer

    def publish(
        self, records: Sequence[Outgoing], offsets: Mapping[Partition, int], token: Token, note: str = ""
    ) -> None:
        """See Publishing. The copy's offsets go first: nobody is fenced there.

        Who was replaced is refused by the group, which is sent to last, with the copy's still pending: whoever asks
        the copy meanwhile waits, and whoever asked before has made the group refuse us.
        """
        producer = self._ready()
        places = [TopicPartition(p.topic, p.number, offset, note) for p, offset in offsets.items()]
        failures: Failures = []
        try:
            producer.begin_transaction()
            for record in records:
                _produce(producer, record, failures)
            if producer.flush(self._timeout):
                self._abandon("records were not acknowledged in time")
            self._retrying(lambda: self._send_offsets(producer, places, token.copy_metadata))
            self._retrying(lambda: self._send_offsets(producer, places, token.group_metadata))
            self._retrying(lambda: producer.commit_transaction(self._timeout))
        except CLIENT_ERRORS as problem:
            self._abandon(sentence(problem), problem, _refusing(failures))
        except TimeoutError:
            self._producer = None  # nothing can be asked of it: its successor ends what is pending
            raise NotPublished("the Kafka client did not come back from sending offsets") from None

    def _send_offsets(self, producer: Producer, places: list[TopicPartition], metadata: Any) -> None:
        """Add the offsets to the transaction. Raises TimeoutError where the client does not return.

        Its own timeout does not hold while the group's coordinator is away (librdkafka issues 5456 and 5511). The
        thread that waits in it stays, and the producer with it: to end that one would be to wait as well.
        """
        sent: Future[None] = Future()

        def send() -> None:
            try:
                producer.send_offsets_to_transaction(places, metadata, self._timeout)
            except BaseException as problem:  # noqa: BLE001 - it is the caller's, who waits for it
                sent.set_exception(problem)
            else:
                sent.set_result(None)

        threading.Thread(target=send, name="send offsets", daemon=True).start()
        sent.result(self._timeout + GRACE)

    def _retrying(self, call: Callable[[], Any]) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                call()
            except CLIENT_ERRORS as problem:
                error = error_of(problem)
                if error is None or not error.retriable() or time.monotonic() > deadline:
                    raise
            else:
                return

    def _abandon(
        self, why: str, problem: KafkaException | SystemError | None = None, refusing: str | None = None
    ) -> None:
        """End the transaction without a result that we know, and raise NotPublished.

        Where the client can abort, it does. Else it is thrown away; its successor, under the same transactional id,
        ends what is pending, and the committed offsets say how.
        """
        error = None if problem is None else error_of(problem)
        if problem is not None and error is not None and error.code() in REFUSALS and not error.fatal():
            self._give_up()
            raise Refused(problem, refusing) from None
        is_missing = error is not None and error.code() in MISSING and not error.fatal()
        verdict = Triage.ABORT if problem is None or is_missing else triage(problem)
        if verdict in (Triage.ABORT, Triage.REJOIN):
            self._give_up()
        elif verdict is Triage.RETRY or (error is not None and error.fatal()) or isinstance(problem, SystemError):
            self._producer = None
        else:
            raise KafkaGone(f"changes cannot be published: {why}") from None
        raise NotPublished(why) from None

    def _give_up(self) -> None:
        """Abort; where that fails, the next producer ends what is pending before anything else is asked or written."""
        assert self._producer is not None
        try:
            self._producer.abort_transaction(self._timeout)
        except CLIENT_ERRORS:
            self._producer = None

    def close(self) -> None:
        """Give up a transaction that is open; the broker would otherwise hold it until it times out."""
        if self._producer is not None:
            with suppress(*CLIENT_ERRORS):  # none was open, or the broker ends it by its timeout
                self._producer.abort_transaction(self._timeout)
            self._producer = None


Failures = list[tuple[str, KafkaError]]
"""What was not taken, of the records of one call: the topic, and why."""


def _produce(producer: Producer, record: Outgoing, failures: Failures) -> None:
    """Queue a record, waiting while the queue is full. What becomes of it is heard from within another call."""

    def delivered(error: KafkaError | None, _message: Message | None) -> None:
        if error is not None:
            failures.append((record.topic, error))

    while True:
        try:
            producer.produce(
                record.topic, key=record.key, value=record.value, headers=list(record.headers), on_delivery=delivered
            )
        except BufferError:
            producer.poll(0.1)
        except CLIENT_ERRORS as problem:
            if (error := error_of(problem)) is not None:
                failures.append((record.topic, error))
            raise
        else:
            return


def _refusing(failures: Failures) -> str | None:
    """Return the topic of the first record that is never taken; None where none is known."""
    return next((topic for topic, error in failures if error.code() in REFUSALS), None)


def _passing(problem: KafkaException | SystemError) -> bool:
    """Whether beginning transactions failed for a reason that may pass, though the client calls it fatal.

    A producer that took over its own transactional id can meet the fence of the one before.
    """
    error = error_of(problem)
    if error is None:
        return isinstance(problem, SystemError)
    return error.code() in (KafkaError._FENCED, KafkaError._TIMED_OUT)  # noqa: SLF001


def _not_published(problem: BaseException | KafkaError, refusing: str | None) -> NotPublished:
    error = error_of(problem)
    is_refusal = error is not None and error.code() in REFUSALS
    return Refused(problem, refusing) if is_refusal else NotPublished(sentence(problem))


class PlainOutbox:
    """Records first, acknowledged; then the offsets: at least once, for brokers without transactions.

    What is told again after a crash in between carries the same event ids.
    """

    def __init__(self, config: Mapping[str, Any], inbox: Inbox, *, timeout: float = 10.0) -> None:
        self._inbox = inbox
        self._timeout = timeout
        settings = {
            **without(config, CONSUMERS_ONLY),
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 5,
            "partitioner": "murmur2_random",
        }
        with or_gone(REFUSED):
            self._producer = Producer(settings)

    def settle(self) -> None:
        """See Publishing: nothing is ever pending."""

    def publish(
        self, records: Sequence[Outgoing], offsets: Mapping[Partition, int], token: Token, note: str = ""
    ) -> None:
        """See Publishing."""
        failures: Failures = []  # of these records alone: those of an earlier call may still be called back for
        try:
            for record in records:
                _produce(self._producer, record, failures)
            left = self._producer.flush(self._timeout)
        except CLIENT_ERRORS as problem:
            self._purge()
            error = error_of(problem)
            if isinstance(problem, SystemError) or (error is not None and error.fatal()):
                raise KafkaGone(f"changes cannot be published: {sentence(problem)}") from None
            raise _not_published(problem, _refusing(failures)) from None
        if left and not failures:
            self._purge()
            raise NotPublished("records were not acknowledged in time")
        if failures:
            raise _not_published(failures[0][1], _refusing(failures[:1]))
        notes = {partition.topic: note for partition in offsets}
        if self._inbox.token is not token or not self._inbox.commit_beside(offsets, notes):
            raise NotPublished("the offsets could not be committed")

    def _purge(self) -> None:
        with suppress(*CLIENT_ERRORS):
            self._producer.purge()

    def close(self) -> None:
        """Leave nothing in the queue."""
        self._purge()
