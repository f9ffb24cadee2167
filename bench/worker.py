"""The worker, as `optout worker` runs it, and a stopwatch beside it. A process of its own.

    OPTOUT_...=... python -m bench.worker MESSAGES

runs until SIGTERM and prints one line of JSON, see `Measurement`. The product has no hooks for this: what it logs tells
when it has its inbound partitions, before it reads the first message, and when it is told to stop.
"""

from __future__ import annotations

import sys
import time
from typing import TextIO, cast

from bench.measurement import Measurement
from consumer import app
from consumer.ops import logs
from consumer.settings import load

BEGINS = "inbound partitions received"
ENDS = '"stopping"'


class Stopwatch:
    """A stderr that notes, at two lines of the log, what the process has used so far."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.began: tuple[float, float] | None = None
        self.ended: tuple[float, float] | None = None

    def write(self, text: str) -> int:
        """Write it, and look whether it is one of the two lines."""
        if self.began is None and BEGINS in text:
            self.began = time.process_time(), time.perf_counter()
        elif self.ended is None and ENDS in text:
            self.ended = time.process_time(), time.perf_counter()
        return self._stream.write(text)

    def flush(self) -> None:
        """Flush it."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Return False: the log is read by a program."""
        return False


def main(messages: int) -> int:
    """Run the worker; tell what it took; return its exit code."""
    stopwatch = Stopwatch(sys.stderr)
    sys.stderr = cast("TextIO", stopwatch)
    settings = load()
    logs.configure(settings.log_level)
    code = app.run_worker(settings)
    if code:
        return code
    if stopwatch.began is None or stopwatch.ended is None:
        print(f"it did not log {BEGINS!r} and {ENDS!r}, by which the bench tells when it began and ended")
        return 1
    cpu, wall = (ended - began for began, ended in zip(stopwatch.began, stopwatch.ended, strict=True))
    Measurement(messages, cpu, wall).tell()
    return code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
