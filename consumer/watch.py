"""What must hold of Kafka's topics and of Redis, looked at while a worker runs: this cries, and never stops.

A start refuses a ledger that could lose records, for then nothing is lost by waiting. Once a worker runs it is the
other way round: nothing is lost yet, and a worker that stands still keeps no opt-out either. Where something is lost
the parts themselves stop, in words.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from consumer.ops.complaints import Complaints
from consumer.ops.unforeseen import unexpected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from structlog.typing import FilteringBoundLogger

    from consumer.ops.metrics import Metrics

LOOK_EVERY = 60.0
"""Seconds after which all is looked at again: a question for each topic."""

CRIES = {
    "topics": "a topic is missing, and what is for it waits",
    "inbound": "texts can be lost before anybody has read them",
    "clocks": "a topic keeps its writers' times, and a wrong clock decides",
    "skips": "the topic of skips can lose what was skipped",
    "sizes": "a topic takes less than is made for it",
    "redis": "Redis is not as it should be: it may have to be replayed, or refuse to answer",
}
"""What is said of each thing that is looked at, before the sentence that says what to do."""
MILD = frozenset({"sizes", "redis"})
"""What costs time or telling where it goes wrong, and no opt-out."""


class Watch:
    """Looks at each thing, and says what became wrong and what is well again.

    `facts` has for each key of CRIES what gives a sentence for everything that is wrong with it. `failures` are what
    these raise where Kafka or Redis cannot be asked.
    """

    def __init__(
        self,
        facts: Mapping[str, Callable[[], Iterable[str]]],
        failures: tuple[type[Exception], ...],
        metrics: Metrics,
        log: FilteringBoundLogger,
    ) -> None:
        self._facts = facts
        self._failures = failures
        self._metrics = metrics
        self._log = log
        self._complaints = Complaints(log)
        self._known: dict[str, frozenset[str]] = {}

    def start(self) -> None:
        """Look in a thread that nobody waits for: where Kafka is away a question takes long, and nothing needs it."""
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def _run(self) -> None:
        never = threading.Event()
        self.look()
        while not never.wait(LOOK_EVERY):
            self.look()

    def look(self) -> None:
        """Look at everything once."""
        for about, ask in self._facts.items():
            try:
                found = frozenset(ask())
            except self._failures as problem:
                self._complaints.say(f"whether it is well with {about} is not known", reason=str(problem))
            except Exception as problem:  # noqa: BLE001 - whatever it is, it is no reason to stop
                self._complaints.say(f"whether it is well with {about} is not known", reason=unexpected(problem))
            else:
                self._tell(about, found)

    def _tell(self, about: str, found: frozenset[str]) -> None:
        known = self._known.get(about, frozenset())
        cry = self._log.warning if about in MILD else self._log.error
        for sentence in sorted(found - known):
            cry(CRIES[about], about=about, reason=sentence)
        for sentence in sorted(known - found):
            self._log.info("it is well again", about=about, was=sentence)
        self._known[about] = found
        self._metrics.faults.labels(about).set(len(found))
