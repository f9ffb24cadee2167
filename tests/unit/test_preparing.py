"""What a stage asks before it begins is asked until there is an answer: who is away for now is no reason to end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException
from structlog.testing import CapturingLogger

from consumer import preparing
from consumer.kafka.committed import CommittedReader, Partition
from consumer.kafka.errors import KafkaGone, KafkaSilent, or_gone
from consumer.kafka.topics import NoAnswer, TopicError, topic_ids
from consumer.preparing import Preparing, Stopped
from consumer.wire.errors import SchemaSourceUnavailable
from tests.parts.system import Ops

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    monkeypatch.setattr(preparing, "ASK_AGAIN", 0.01)
    return threading.Event()


@pytest.fixture
def ops() -> Ops:
    return Ops(CapturingLogger())


def prepare(stop: threading.Event, ops: Ops) -> Preparing:
    return Preparing("apply", stop, ops.health, cast("Any", CapturingLogger()))


def refusal(code: int) -> KafkaException:
    return KafkaException(KafkaError(code))


@pytest.mark.parametrize("silence", [KafkaSilent("x"), NoAnswer("x"), SchemaSourceUnavailable("x")])
def test_silence_is_waited_for(stop: threading.Event, ops: Ops, silence: Exception) -> None:
    """While nobody answers it says so to probes and asks again; then it goes on, and says no more."""
    answers: Iterator[Exception | str] = iter([silence, silence, "an answer"])
    troubles: list[bool] = []

    def question() -> str:
        troubles.append(bool(ops.health.unready()))
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert prepare(stop, ops).ask(question) == "an answer"
    assert troubles == [False, True, True]
    assert not ops.health.unready()


@pytest.mark.parametrize("refused", [KafkaGone("x"), TopicError("x")])
def test_a_refusal_is_an_answer(stop: threading.Event, ops: Ops, refused: Exception) -> None:
    """What asking again would not change ends the stage."""

    def question() -> None:
        raise refused

    with pytest.raises(type(refused)):
        prepare(stop, ops).ask(question)


def test_who_is_told_to_stop_waits_no_longer(stop: threading.Event, ops: Ops) -> None:
    """A worker that is stopped before Kafka has answered ends."""

    def question() -> None:
        stop.set()
        raise KafkaSilent("x")

    with pytest.raises(Stopped):
        prepare(stop, ops).ask(question)


@pytest.mark.parametrize(
    ("code", "silent"),
    [
        (KafkaError._TIMED_OUT, True),
        (KafkaError._ALL_BROKERS_DOWN, True),
        (KafkaError.NOT_COORDINATOR, True),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, False),
        (KafkaError._AUTHENTICATION, False),
    ],
)
def test_who_cannot_answer_for_now_is_told_from_who_refuses(code: int, silent: bool) -> None:  # noqa: FBT001
    """A timeout, or a broker that others are to be asked instead of, is silence; a missing right is a refusal."""

    class Admin:
        def describe_topics(self, *_: Any, **__: Any) -> Any:
            raise refusal(code)

    with pytest.raises(KafkaGone) as gone, or_gone("it cannot be read"):
        raise refusal(code)
    assert isinstance(gone.value, KafkaSilent) is silent
    with pytest.raises(TopicError) as unknown:
        topic_ids(cast("Any", Admin()), ["sms.inbound"])
    assert isinstance(unknown.value, NoAnswer) is silent


def test_a_coordinator_that_moves_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coordinator that has just moved refuses at once: whoever asks for offsets asks the next one, in its time."""
    refusals = iter([refusal(KafkaError.NOT_COORDINATOR), refusal(KafkaError.COORDINATOR_LOAD_IN_PROGRESS)])

    class Client:
        def poll(self, _timeout: float) -> None: ...

        def committed(self, asked: list[Any], timeout: float) -> list[Any]:
            for problem in refusals:
                raise problem
            for place in asked:
                place.offset = 7
            return asked

    reader = CommittedReader({"bootstrap.servers": "127.0.0.1:1"}, "g")
    monkeypatch.setattr(reader, "_consumer", Client())
    found = reader.committed(Partition("sms.inbound", 0), 5.0)
    assert found is not None
    assert found.offset == 7
