"""Asking who is in a group: a process of its own, which nobody has to wait for."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from consumer.kafka.members import members

PATIENCE_S = 30.0
"""What Kafka would be waited for."""
AT_ONCE_S = 5.0
"""Within which an end must be taken notice of, on a busy machine."""


def test_an_end_is_not_held_up() -> None:
    """A worker that is to end gives up the question at once, however long Kafka does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        stop = threading.Event()
        threading.Timer(1.0, stop.set).start()
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            members({"bootstrap.servers": f"127.0.0.1:{silent.getsockname()[1]}"}, ["g"], PATIENCE_S, stop)
    assert time.monotonic() - began < 1.0 + AT_ONCE_S
