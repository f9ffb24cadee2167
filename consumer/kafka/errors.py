"""What to do about an error of the Kafka client: decided here, once. What is not known is fatal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT_ERRORS = (KafkaException, SystemError)
"""What any call of the client may raise.

A fatal error is raised by the call that polls. Where something else is called back before that call returns, a line for
the log or a delivery, Python finds an exception that nobody handled and raises a SystemError in its place.
"""

OnError = Callable[[str, str], None]
"""Hears of a passing error: its name, and the sentence that the client has for it."""


class Triage(StrEnum):
    """What an error asks for."""

    RETRY = "RETRY"
    """The same call again, later: nothing is decided."""
    ABORT = "ABORT"
    """The transaction is over: abort it, learn the committed offsets, take the work again."""
    REJOIN = "REJOIN"
    """We own these partitions no longer, or not yet again: the next assignment says what is ours."""
    FATAL = "FATAL"
    """This client is of no use any more."""


class KafkaGone(Exception):
    """A fatal error of a Kafka client: what it was, in one sentence; the process should end and be restarted."""


class KafkaSilent(KafkaGone):
    """Kafka did not answer, or cannot for now: whoever can wait asks again, whoever cannot ends."""


_REJOIN = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._ASSIGNMENT_LOST,  # noqa: SLF001 - librdkafka's own codes carry an underscore
        KafkaError._NO_OFFSET,  # noqa: SLF001 - nothing new to commit
        KafkaError._STATE,  # noqa: SLF001 - not assigned (yet)
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - not assigned
    }
)
_RETRY = frozenset(
    {
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._TIMED_OUT_QUEUE,  # noqa: SLF001
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
        KafkaError._WAIT_COORD,  # noqa: SLF001
        KafkaError._WAIT_CACHE,  # noqa: SLF001
        KafkaError._QUEUE_FULL,  # noqa: SLF001
        KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001 - the client rejoins by itself
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,  # a broker that has just started does not know all of them yet
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.CONCURRENT_TRANSACTIONS,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
    }
)


_UNREADABLE = frozenset(
    {
        KafkaError._BAD_COMPRESSION,  # noqa: SLF001
        KafkaError._BAD_MSG,  # noqa: SLF001
        KafkaError._UNDERFLOW,  # noqa: SLF001
        KafkaError._NOT_IMPLEMENTED,  # noqa: SLF001 - a codec that the client was built without
        KafkaError.INVALID_MSG,
        KafkaError.MSG_SIZE_TOO_LARGE,
    }
)
"""What a consumer says of one place of one partition, where it says which: all others can be read."""


def is_unreadable(error: KafkaError) -> bool:
    """Return whether a consumer's error concerns the records at the place that comes with it, and nothing else."""
    return error.code() in _UNREADABLE and not error.fatal()


def unreadable(topic: str, number: int, offset: int, error: KafkaError) -> str:
    """Return what is to be said of a place that a consumer cannot read, and what to do."""
    return (
        f"{topic} [{number}] cannot be read from offset {offset} on ({sentence(error)}); if it is a batch that takes "
        "too much room unpacked, OPTOUT_KAFKA_RECEIVE_MESSAGE_MAX_BYTES (at most 2147483647) says how much may be taken"
    )


def error_of(problem: BaseException | KafkaError) -> KafkaError | None:
    """Return the client's error of an exception, also of one that a SystemError hides; None where it carries none."""
    if isinstance(problem, KafkaError):
        return problem
    if isinstance(problem, SystemError):
        hidden = problem.__cause__ or problem.__context__
        return None if hidden is None else error_of(hidden)
    first = problem.args[0] if problem.args else None
    return first if isinstance(first, KafkaError) else None


def triage(problem: BaseException | KafkaError) -> Triage:
    """Return what an error of a consumer, a producer or an admin client asks for."""
    error = error_of(problem)
    if error is None or error.fatal():
        return Triage.FATAL
    if error.txn_requires_abort():
        return Triage.ABORT
    if error.code() in _REJOIN:
        return Triage.REJOIN
    if error.retriable() or error.code() in _RETRY:
        return Triage.RETRY
    return Triage.FATAL


REFUSED = "the Kafka client refuses what OPTOUT_KAFKA_* says"


def is_timeout(problem: BaseException | KafkaError) -> bool:
    """Return whether a call gave up because its own time was over."""
    error = error_of(problem)
    return error is not None and error.code() == KafkaError._TIMED_OUT  # noqa: SLF001


@contextmanager
def or_gone(what: str) -> Iterator[None]:
    """Raise KafkaGone for whatever a call of the client raises, KafkaSilent for what may pass.

    The sentence begins with `what`.
    """
    try:
        yield
    except CLIENT_ERRORS as problem:
        gone = KafkaSilent if triage(problem) is Triage.RETRY else KafkaGone
        raise gone(f"{what}: {sentence(problem)}") from None


def name_of(problem: BaseException | KafkaError) -> str:
    """Return the error's name, which stays the same from one time to the next."""
    error = error_of(problem)
    return str(error.name()) if error else type(problem).__name__


def sentence(problem: BaseException | KafkaError) -> str:
    """Return the error in a few words: its name and what the client says of it, which quotes no record."""
    error = error_of(problem)
    return f"{error.name()}: {error.str()}" if error else type(problem).__name__
