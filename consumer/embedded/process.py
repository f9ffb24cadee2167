"""Child processes that end with this process, even if it is killed, and that Ctrl-C leaves to it to end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Literal

from consumer.embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


Tie = Literal["signal", "watch"]

LAUNCHER: Final = Path(__file__).with_name("launcher.py")
TIE: Final[Tie] = "signal" if sys.platform == "linux" else "watch"


class _Spawner:
    """One thread that starts every child and lives as long as this process.

    Linux sends the parent-death signal when the *thread* that forked the child ends. A child that a short-lived thread
    had started would be killed in the middle of its work.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._calls: SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]]

    def call(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        result: Future[subprocess.Popen[bytes]] = Future()
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # not alive: this is a fork of the first process
                self._calls = SimpleQueue()
                # A daemon, so that it outlives the exit handlers, which may still want to end the children in order.
                self._thread = threading.Thread(target=self._serve, name="embedded-spawner", daemon=True)
                self._thread.start()
            self._calls.put((start, result))
        return result.result()

    def _serve(self) -> None:
        while True:
            start, result = self._calls.get()
            try:
                result.set_result(start())
            except BaseException as problem:  # noqa: BLE001 - it is the caller's, who waits for it
                result.set_exception(problem)
            del start, result  # or the last child would be kept until the next one is started


_spawner = _Spawner()


def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    output: Path | None = None,
    tie: Tie = TIE,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, tied to the life of this process.

    `command[0]` is the absolute path of an executable file. `environment` replaces this process's own. stdout and
    stderr are appended to the file `output`, or shared with this process. `tie` is "signal" (Linux) or "watch"
    (anywhere, best effort).

    Raises EmbeddedError if the program is not there or the system refuses to start it.
    """
    if not os.access(command[0], os.X_OK):
        raise EmbeddedError(f"cannot start {command[0]}: no executable file is there; install it or name another one")
    line = [sys.executable, "-I", "-S", str(LAUNCHER), tie, str(os.getpid()), *command]

    def start() -> subprocess.Popen[bytes]:
        with ExitStack() as opened:
            log = opened.enter_context(output.open("ab")) if output else None
            return subprocess.Popen(  # noqa: S603 - the caller chose the program
                line,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log and subprocess.STDOUT,
                env=environment,
                cwd=folder,
                # Ctrl-C in the terminal then reaches this process only, which ends the child in order.
                start_new_session=True,
            )

    try:
        return _spawner.call(start)
    except OSError as problem:
        raise EmbeddedError(
            f"cannot start {command[0]}: {problem.strerror or problem}; check that its folder can be written"
        ) from problem


def end(processes: Sequence[subprocess.Popen[bytes]], deadline_s: float) -> None:
    """Ask the processes to end (SIGTERM), insist after a deadline that they share (SIGKILL), and wait for them."""
    until = time.monotonic() + deadline_s
    try:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:  # also on Ctrl-C while waiting
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()
