"""Runs the stages of a worker side by side until one fails or somebody says stop, and ends them within a deadline."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from consumer.classifier import TooManyDeadLetters
from consumer.kafka.errors import KafkaGone
from consumer.kafka.topics import TopicError
from consumer.ledger import LedgerFault
from consumer.ops.unforeseen import unexpected
from consumer.preparing import Stopped
from consumer.suppression.answers import OtherLedger
from consumer.wire.errors import SchemaError, SchemaSourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

Part = Callable[[threading.Event], None]
"""A loop that runs until the event is set."""


class PartFailed(Exception):
    """One of the parts that run beside each other failed; it has said why."""


SPOKEN = (
    KafkaGone,
    LedgerFault,
    OtherLedger,
    PartFailed,
    SchemaError,
    SchemaSourceUnavailable,
    TooManyDeadLetters,
    TopicError,
)
"""Failures that say in one sentence what is wrong and what to do."""


class Parts:
    """Some loops, a thread each, that end together: the first failure ends them all."""

    def __init__(self, parts: Mapping[str, Part], stop: threading.Event, log: FilteringBoundLogger) -> None:
        self._stop = stop
        self._log = log
        self._failures: list[str] = []
        self._threads = [
            threading.Thread(target=self._run, args=(name, part), name=name, daemon=True)
            for name, part in parts.items()
        ]

    def _run(self, name: str, part: Part) -> None:
        try:
            part(self._stop)
        except Stopped:
            pass  # before it had begun
        except LedgerFault as problem:
            self._failed(name, str(problem), loss=problem.loss.value)
        except SPOKEN as problem:
            self._failed(name, str(problem))
        except Exception as problem:  # noqa: BLE001 - whatever it is, the process must not go on as if it were well
            self._failed(name, unexpected(problem))

    def _failed(self, name: str, sentence: str, **fields: str) -> None:
        self._failures.append(sentence)
        self._log.critical(sentence, part=name, **fields)
        self._stop.set()

    def start(self) -> None:
        """Start every loop."""
        for thread in self._threads:
            thread.start()

    def join(self, deadline: float) -> bool:
        """Wait for all to end; False if some did not by then. `deadline` is a time of time.monotonic()."""
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def failed(self) -> bool:
        """Return whether a part has failed."""
        return bool(self._failures)


def run(parts: Mapping[str, Part], *, shutdown_seconds: float, log: FilteringBoundLogger) -> int:
    """Run the parts until SIGTERM, SIGINT or a failure; return the exit code."""
    stop = threading.Event()

    def ended(signal_number: int, _frame: object) -> None:
        log.info("stopping", because=signal.Signals(signal_number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ended)
    running = Parts(parts, stop, log)
    running.start()
    log.info("worker started", stages=sorted(parts))
    while not stop.wait(1.0):  # a wait without a timeout would not let signals through everywhere
        pass
    if not running.join(time.monotonic() + shutdown_seconds):
        log.critical(
            "not everything ended in time; what was open is taken up by the next owner", deadline=shutdown_seconds
        )
        os._exit(1)  # a client hangs in its close: nothing here could be waited for
    log.info("worker stopped", clean=not running.failed)
    return 1 if running.failed else 0
