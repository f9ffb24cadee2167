"""Asking who is in a group: a process of its own, which nobody has to wait for."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from typing import Any, NoReturn, cast

import pytest

from consumer.kafka import members as asking
from consumer.kafka.members import members
from consumer.strangers import Strangers

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


def nothing_starts(*_arguments: Any, **_options: Any) -> NoReturn:
    raise BlockingIOError(11, "Resource temporarily unavailable")


def half_a_line(*_arguments: Any) -> str:
    return '[["g", "rdk'


@pytest.mark.parametrize(
    ("where", "name", "fails"),
    [(subprocess, "Popen", nothing_starts), (asking, "_asked", half_a_line)],
    ids=["no process can be started", "an answer is cut off"],
)
def test_naming_strangers_ends_no_worker(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, fails: Any) -> None:
    """Where nobody can be asked who is in a group the look is over, and the worker goes on."""
    monkeypatch.setattr(where, name, fails)
    nobody = cast("Any", None)  # neither metric nor log is reached
    Strangers({"bootstrap.servers": "127.0.0.1:1"}, "g", None, None, nobody, nobody).look()
