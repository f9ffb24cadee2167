"""Eyes on a worker process: its log since some moment, its metrics and probes, and a guard that asks on."""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Self

import redis
from prometheus_client.parser import text_string_to_metric_families

from consumer.guard import Guard, VerdictKind
from tests.parts.system import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from tests.parts.system import System, Worker

LISTEN = {"OPTOUT_OPS_LISTEN": "127.0.0.1:0"}


class Eyes:
    """What a worker that was started with LISTEN says of itself."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._mark = 0
        self._address = ""

    def mark(self) -> None:
        """Look only at what is logged from now on."""
        self._mark = len(self.worker.log())

    def lines(self, **fields: Any) -> list[dict[str, Any]]:
        """Return the lines since the mark that have these fields."""
        return [line for line in self.worker.log()[self._mark :] if fields.items() <= line.items()]

    def get(self, path: str) -> tuple[int, str]:
        """Ask as a probe does."""
        if not self._address:
            wait_for("it listens", lambda: any("livez" in event for event in self.worker.events()))
            line = next(line for line in self.worker.log() if "livez" in line["event"])
            self._address = f"http://{line['host']}:{line['port']}"
        try:
            with urllib.request.urlopen(self._address + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()

    def unready(self) -> dict[str, list[str]]:
        """Return why it is not ready, and hold that it lives."""
        assert self.get("/livez")[0] == 200
        code, body = self.get("/readyz")
        parts: dict[str, list[str]] = json.loads(body)["parts"]
        assert code == (503 if parts else 200)
        return parts

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric's value, 0 if there is none with these labels."""
        families = text_string_to_metric_families(self.get("/metrics")[1])
        found = (s.value for family in families for s in family.samples if s.name == name and s.labels == labels)
        return next(found, 0.0)


class Prober:
    """A guard that asks again and again about patients of whom it is known that they are opted out."""

    def __init__(self, system: System) -> None:
        self._guard = Guard(_client(system.redis_url), buckets=system.buckets, max_staleness=None)
        self._asked: dict[str, list[str]] = {}
        self.allowed: list[tuple[str, float]] = []
        """Locations of which it said ALLOWED, and when: each is a patient who is texted after a STOP."""
        self.kinds: set[VerdictKind] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._probe, daemon=True)

    def ask_about(self, *patients: tuple[str, str]) -> None:
        """Ask about these (location, number), too: their STOP is applied."""
        asked = {location: list(numbers) for location, numbers in self._asked.items()}
        for location, number in patients:
            asked.setdefault(location, []).append(number)
        self._asked = asked  # replaced, never changed: the thread reads it

    def forget(self, location: str) -> None:
        """Ask no more about a location."""
        self._asked = {other: numbers for other, numbers in self._asked.items() if other != location}

    def _probe(self) -> None:
        while not self._stop.wait(0.01):
            for location, numbers in self._asked.items():
                kinds = {verdict.kind for verdict in self._guard.check_many(location, numbers)}
                self.kinds |= kinds
                if VerdictKind.ALLOWED in kinds and location in self._asked:
                    self.allowed.append((location, time.monotonic()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(20)


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)


def patched(**constants: float) -> list[str]:
    """Return the command of a worker with other constants, named module__NAME, and arguments, module__Class__name."""
    lines = ["import sys"]
    for name, value in constants.items():
        module, *path = name.split("__")
        lines.append(f"import consumer.{module}")
        if len(path) == 1:
            lines.append(f"consumer.{module}.{path[0]} = {value}")
        else:  # an argument of a class
            lines.append(f"consumer.{module}.{path[0]}.__init__.__kwdefaults__['{path[1]}'] = {value}")
    lines += ["from consumer.__main__ import main", "sys.exit(main())"]
    return [sys.executable, "-c", "\n".join(lines)]


def steadily(what: str, condition: Callable[[], object], seconds: float) -> None:
    """Hold that a condition holds for so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), what
        time.sleep(0.2)
