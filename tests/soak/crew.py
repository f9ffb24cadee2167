"""The workers: real processes, started again when they end, as an orchestrator would; every end is written down."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from tests.parts.system import System, Worker

RESTART_S = 0.5
CLEAN_END_S = 20.0

UNDERSTOOD = (
    "optout: Kafka could not be asked",
    "optout: Kafka cannot be reached",
    "Kafka could not be asked for the id",
    "the offsets to begin at cannot be read",
    "transactions cannot be begun",
    "changes cannot be published",
    "offsets cannot be committed",
    "not everything ended in time",
)
"""How the sentences begin with which a worker may end by itself: Kafka is away, and it asks to be started again."""


class End(NamedTuple):
    """How a worker ended that was not killed by us: when, with which code, and the last critical thing it said."""

    at: float
    code: int
    sentence: str
    log: str

    @property
    def is_understood(self) -> bool:
        """Whether it is an end that the documents name."""
        return self.code == 1 and self.sentence.startswith(UNDERSTOOD)


class Crew:
    """So many workers, watched by a thread."""

    def __init__(self, system: System, size: int) -> None:
        self._system = system
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="crew", daemon=True)
        self._workers: list[Worker | None] = [None] * size
        self._due = [0.0] * size
        self.ends: list[End] = []
        self.clean = 0
        self.starts = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)
        for slot in range(len(self._workers)):
            with suppress(ProcessLookupError):
                self.resume(slot)
        self.end_all()

    def kill(self, slot: int) -> bool:
        """SIGKILL; False if it was not running."""
        with self._lock:
            worker = self._workers[slot]
            if worker is None or worker.process.poll() is not None:
                return False
            worker.kill()
            self._workers[slot], self._due[slot] = None, time.monotonic() + RESTART_S
            return True

    def pause(self, slot: int) -> bool:
        """SIGSTOP; False if it was not running."""
        return self._signal(slot, signal.SIGSTOP)

    def resume(self, slot: int) -> bool:
        """SIGCONT."""
        return self._signal(slot, signal.SIGCONT)

    def restart(self, slot: int) -> None:
        """SIGTERM, wait for the end, and let it be started again."""
        with self._lock:
            worker, self._workers[slot] = self._workers[slot], None
            self._due[slot] = time.monotonic() + CLEAN_END_S + 10
        if worker is not None:
            self._ended(worker, worker.stop(), asked=True)
        with self._lock:
            self._due[slot] = time.monotonic()

    def end_all(self) -> None:
        """SIGTERM to all, side by side; they are not started again."""
        self._stop.set()
        with self._lock:
            running = [worker for worker in self._workers if worker is not None]
            self._workers = [None] * len(self._workers)
        for worker in running:
            worker.process.terminate()
        for worker in running:
            self._ended(worker, worker.process.wait(CLEAN_END_S), asked=True)

    def abort_all(self) -> None:
        """Let every worker write down where its threads stand, and end."""
        self._stop.set()
        with self._lock:
            running = [worker for worker in self._workers if worker is not None]
            self._workers = [None] * len(self._workers)
        for worker in running:
            worker.process.send_signal(signal.SIGABRT)
            worker.process.wait(CLEAN_END_S)

    def sentences(self) -> Counter[str]:
        """Return how often workers ended by themselves with which words."""
        return Counter(end.sentence for end in self.ends)

    def _signal(self, slot: int, number: signal.Signals) -> bool:
        with self._lock:
            worker = self._workers[slot]
            if worker is None or worker.process.poll() is not None:
                return False
            worker.process.send_signal(number)
            return True

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            for slot in range(len(self._workers)):
                with self._lock:
                    self._look_at(slot)

    def _look_at(self, slot: int) -> None:
        worker, now = self._workers[slot], time.monotonic()
        if worker is None and now >= self._due[slot] and not self._stop.is_set():
            self._workers[slot] = self._system.start_worker()
            self.starts += 1
        elif worker is not None and (code := worker.process.poll()) is not None:
            self._ended(worker, code, asked=False)
            self._workers[slot], self._due[slot] = None, now + RESTART_S

    def _ended(self, worker: Worker, code: int, *, asked: bool) -> None:
        if asked and code in (0, -signal.SIGTERM):  # the latter where it had not yet begun to listen
            self.clean += 1
            return
        said = [line["event"] for line in worker.log() if line.get("level") == "critical"]
        lines = worker.log_file.read_text().splitlines()
        sentence = said[0] if said else (lines[-1][:200] if lines else "(nothing said)")
        self.ends.append(End(time.monotonic(), code, sentence, worker.log_file.name))
