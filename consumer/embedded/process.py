"""Child processes that end with this process, even if it is killed, and that Ctrl-C leaves to it to end."""

import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from consumer.embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LAUNCHER = Path(__file__).with_name("launcher.py")
TIE = "signal" if sys.platform == "linux" else "watch"


class _Spawner:
    """One thread that starts every child and lives as long as this process.

    Linux sends the parent-death signal when the *thread* that forked the child ends. A child that a short-lived thread
    had started would be killed in the middle of its work.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]]
        self._thread: threading.Thread | None = None

    def call(self, start: "Callable[[], subprocess.Popen[bytes]]") -> "subprocess.Popen[bytes]":
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # not alive: we are a fork of the first process
                self._calls = SimpleQueue()
                # A daemon, so that it outlives the exit handlers that may still want to end the children in order.
                self._thread = threading.Thread(target=self._serve, name="embedded-spawner", daemon=True)
                self._thread.start()
            result: Future[subprocess.Popen[bytes]] = Future()
            self._calls.put((start, result))
        return result.result()

    def _serve(self) -> None:
        while True:
            start, result = self._calls.get()
            try:
                result.set_result(start())
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                result.set_exception(error)


_spawner = _Spawner()


def spawn(
    command: "Sequence[str]",
    *,
    environment: "Mapping[str, str] | None" = None,
    folder: Path | None = None,
    output: Path | None = None,
    tie: str = TIE,
) -> "subprocess.Popen[bytes]":
    """Start a program in a session of its own, tied to the life of this process.

    `command[0]` is the absolute path of an executable file. `environment` replaces this process's own. stdout and
    stderr are appended to the file `output`, or shared with this process. `tie` is "signal" (Linux) or "watch"
    (anywhere, best effort).

    Raises EmbeddedError if the program is not there or the system refuses to start it.
    """
    if not os.access(command[0], os.X_OK):
        raise EmbeddedError(f"cannot start {command[0]}: no executable file is there; install it or name another one")
    line = [sys.executable, "-I", "-S", str(LAUNCHER), tie, str(os.getpid()), *command]

    def start() -> "subprocess.Popen[bytes]":
        # A session of its own: Ctrl-C in the terminal reaches this process only, which then ends the child in order.
        if output is None:
            return subprocess.Popen(  # noqa: S603 # the caller chose the program
                line, stdin=subprocess.DEVNULL, env=environment, cwd=folder, start_new_session=True
            )
        with output.open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                line,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )

    try:
        return _spawner.call(start)
    except OSError as error:
        raise EmbeddedError(
            f"cannot start {command[0]}: {error.strerror or error}; check the folder and its rights"
        ) from error


def end(process: "subprocess.Popen[bytes]", deadline_s: float) -> int:
    """Ask the process to end (SIGTERM), insist after the deadline (SIGKILL), and return its exit code."""
    process.terminate()
    try:
        return process.wait(deadline_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
