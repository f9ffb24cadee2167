"""One pass of the raw client or of the worker over an inbound topic, each in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import verify
from bench.measurement import Measurement
from consumer.embedded.process import end, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.stage import Stage
    from bench.traffic import Traffic
    from tests.parts.system import System

ROOT = Path(__file__).parents[1]
DEADLINE_S = 180.0
LOOK_EVERY_S = 0.05
SHUTDOWN_S = 30.0


class PassFailed(Exception):
    """A pass did not end, or its output is wrong: one sentence."""


class Passes:
    """Makes passes over filled topics, and numbers them."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._made = 0

    def raw(self, topic: str, batch: int, rounds: int) -> Measurement:
        """Read the topic with the raw client, so many times. Raises PassFailed."""
        process, output = self._start("bench.raw", self._stage.bootstrap, topic, str(batch), str(rounds))
        return self._measured(process, output, DEADLINE_S)

    def worker(self, topic: str, traffic: Traffic) -> Measurement:
        """Run one worker over the topic until all is settled, and verify its output. Raises PassFailed."""
        system = self._stage.system(f"pass-{self._made}", topic)
        with system:
            process, output = self._start("bench.worker", str(traffic.messages), environment=system.environment)
            try:
                self._await(lambda: _settled(system), process, output)
                process.send_signal(signal.SIGTERM)
                measurement = self._measured(process, output, SHUTDOWN_S)
            finally:
                end([process], 0.0)
            if wrong := verify.faults(traffic, verify.outcome(system)):
                raise PassFailed(f"the worker's output is wrong: {'; '.join(wrong)}")
            self._stage.remove([name for role, name in system.topics.items() if role != "inbound"])
        return measurement

    def _start(
        self, module: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> tuple[subprocess.Popen[bytes], Path]:
        self._made += 1
        output = self._stage.folder / f"{self._made}-{module}.log"
        command = [sys.executable, "-m", module, *arguments]
        return spawn(command, environment=environment, folder=ROOT, output=output), output

    def _await(self, reached: Callable[[], bool], process: subprocess.Popen[bytes], output: Path) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not reached():
            if process.poll() is not None:
                raise PassFailed(f"a worker ended before its work was done: {_last_words(output)}")
            if time.monotonic() > deadline:
                raise PassFailed(f"a worker was not done within {DEADLINE_S:.0f} s: {_last_words(output)}")
            time.sleep(LOOK_EVERY_S)

    def _measured(self, process: subprocess.Popen[bytes], output: Path, deadline_s: float) -> Measurement:
        try:
            code = process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise PassFailed(f"a process did not end within {deadline_s:.0f} s: {_last_words(output)}") from None
        finally:
            end([process], 0.0)
        measurement = Measurement.heard(output)
        if code or measurement is None:
            raise PassFailed(f"a process ended with exit code {code}: {_last_words(output)}")
        return measurement


def _settled(system: System) -> bool:
    """Whether everything is read, applied and told; the cheapest question comes first."""
    if system.committed("classify", "inbound") != system.ends("inbound"):
        return False
    return system.metas("applied") == system.ends("ledger") and not any(system.metas("outbox").values())


def _last_words(output: Path) -> str:
    """Return why a process ended, as far as it said so: the worse of what it logged, else its last line."""
    lines = output.read_text("utf-8", "replace").splitlines() or ["it said nothing"]
    return next((line for line in reversed(lines) if '"critical"' in line), lines[-1])
