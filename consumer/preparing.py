"""What a stage asks before it takes a partition from anybody: it waits for the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from consumer.kafka.errors import KafkaSilent
from consumer.kafka.topics import NoAnswer
from consumer.ops.complaints import Complaints
from consumer.wire.errors import SchemaSourceUnavailable

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from consumer.ops.health import Health

T = TypeVar("T")

ASK_AGAIN = 1.0


class Stopped(Exception):
    """Told to stop before there was an answer."""


class Preparing:
    """Asks until there is an answer. Whoever has one keeps their partitions, so there is no haste and no end to it."""

    def __init__(self, part: str, stop: threading.Event, health: Health, log: FilteringBoundLogger) -> None:
        self._part = part
        self._stop = stop
        self._health = health
        self._complaints = Complaints(log)

    def ask(self, question: Callable[[], T]) -> T:
        """Return the answer of Kafka, or of the schema registry. Raises Stopped.

        Raises what else the question does: SchemaError where the registry does not hold a schema of ours, TopicError
        for a topic that is not there.
        """
        while not self._stop.is_set():
            self._health.beat(self._part)
            try:
                answer = question()
            except SchemaSourceUnavailable as problem:
                self._wait("registry", "the schema registry", problem)
            except (KafkaSilent, NoAnswer) as problem:
                self._wait("kafka", "Kafka", problem)
            else:
                self._health.clear(self._part, "registry", "kafka")
                return answer
        raise Stopped

    def _wait(self, kind: str, whom: str, problem: Exception) -> None:
        self._health.trouble(self._part, kind, f"it has not met {whom} yet: {problem}")
        self._complaints.say(f"waiting for {whom} before taking any partition", reason=str(problem))
        self._stop.wait(ASK_AGAIN)
