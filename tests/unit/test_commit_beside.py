"""A commit beside the thread that reads: who reads waits for the group's own coordinator at most."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from consumer.kafka.inbox import Inbox, Partition
from tests.parts.fake_kafka import Broker, Clock, installed

if TYPE_CHECKING:
    import pytest

SLOW_S = 10.0
AT_ONCE_S = 1.0


def test_a_slow_copy_keeps_nobody_from_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the coordinator of the copy is away STOPs are read as before: only the publisher waits for it."""
    with installed(Broker(Clock())):
        inbox = Inbox({"group.id": "g"}, lambda *_: None)
    writing, answered = threading.Event(), threading.Event()

    def write(*_arguments: object) -> bool:
        writing.set()
        return answered.wait(SLOW_S)

    monkeypatch.setattr(inbox, "commit", lambda *_: True)
    monkeypatch.setattr(inbox.copy, "write", write)
    publisher = threading.Thread(target=inbox.commit_beside, args=({Partition("ledger", 0): 1},), daemon=True)
    publisher.start()
    assert writing.wait(SLOW_S)
    began = time.monotonic()
    inbox.read(1, 0.1)
    waited = time.monotonic() - began
    answered.set()
    publisher.join()
    assert waited < AT_ONCE_S
