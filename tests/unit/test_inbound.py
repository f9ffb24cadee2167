"""What a classifier that is given partitions asks of inbound's topics while Kafka is busy with itself."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from consumer import inbound
from consumer.inbound import Inbound, TopicWatch
from consumer.kafka.errors import KafkaGone
from consumer.kafka.topics import NoAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Hours(threading.Event):
    """A clock that goes on when somebody waits for it; set, whoever waits is to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return self.is_set()


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> Hours:
    hours = Hours()
    monkeypatch.setattr(inbound, "time", hours)
    return hours


def watching(hours: Hours, silent_until: float) -> TopicWatch:
    """Return a watch over one topic of a Kafka that does not answer before this time."""

    def ids(topics: Sequence[str]) -> Mapping[str, str]:
        if hours.monotonic() < silent_until:
            raise NoAnswer("Kafka could not be asked for the id of texts: no controller")
        return dict.fromkeys(topics, "topic-id")

    return TopicWatch(Inbound(["texts"], "ledger-id", ids))


def test_an_election_is_waited_for(hours: Hours) -> None:
    """A controller that dies while partitions move ends no worker: its successor may take twenty seconds."""
    watch = watching(hours, silent_until=20)
    assert watch.identify(hours)
    assert watch.notes == {"texts": "ledger-id/topic-id"}


def test_a_kafka_that_stays_silent_is_named(hours: Hours) -> None:
    """Partitions that nobody reads help nobody: after half a minute the worker ends, and says what had no answer."""
    watch = watching(hours, silent_until=3600)
    with pytest.raises(KafkaGone, match="could not be asked for the id of texts: no controller"):
        watch.identify(hours)
    assert hours.now < 31


def test_who_is_told_to_stop_waits_no_longer(hours: Hours) -> None:
    """An end in order has fifteen seconds, and needs no answer."""
    watch = watching(hours, silent_until=3600)
    hours.set()
    assert not watch.identify(hours)
