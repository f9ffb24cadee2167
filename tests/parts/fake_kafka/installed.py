"""Puts the broker in memory, and its time, in the place of the client library within the product's modules."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

from consumer import ledger_watch, questions
from consumer.kafka import committed, inbox, producers, topics
from tests.parts.fake_kafka.clients import Consumer, Producer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.parts.fake_kafka.broker import Broker


@contextmanager
def installed(broker: Broker) -> Iterator[None]:
    """Let every client that the product builds meanwhile be one of this broker's, and its clock be the broker's."""
    with (
        one_after_another(),
        mock.patch.object(committed, "Consumer", lambda config: Consumer(broker, config)),
        mock.patch.object(inbox, "Consumer", lambda config: Consumer(broker, config)),
        mock.patch.object(producers, "Producer", lambda config, **_: Producer(broker, config)),
        _in_its_time(broker),
    ):
        yield


@contextmanager
def one_after_another() -> Iterator[None]:
    """Let what is asked at the same time be asked in order, by one thread: what happens in between is chosen."""

    def in_order(*calls: Callable[[], Any]) -> list[Any]:
        return [call() for call in calls]

    with ExitStack() as patches:
        for module in (committed, ledger_watch, questions, topics):
            patches.enter_context(mock.patch.object(module, "together", in_order))
        yield


@contextmanager
def _in_its_time(broker: Broker) -> Iterator[None]:
    told = [m for name, m in sys.modules.items() if name.startswith("consumer.") and getattr(m, "time", None) is time]
    for module in told:
        module.time = broker.clock  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in told:
            module.time = time  # type: ignore[attr-defined]
