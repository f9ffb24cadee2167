"""A registry's schemas for loops that must not wait for it: asked for beside them, by threads of their own.

An id that the registry does not know may be new, and known to another of its nodes already. It is asked for again for
half a minute, once in a process, and then counts as unknown. Somebody who writes records under ids out of the air must
not hold up everybody for that long each: four ids may be waited for, or have been in vain of late, and any other one is
unknown as soon as the registry says so. A registry that does not answer is asked without end.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from consumer.wire.errors import SchemaAwaited, SchemaSourceUnavailable, UnknownSchema
from consumer.wire.registry import NoAvro
from consumer.wire.schemas import HIGHEST_ID, LOCAL_IDS

if TYPE_CHECKING:
    from collections.abc import Collection

    from consumer.wire.schemas import Parsed, Resolved, WriterSchema

THREADS = 4
PATIENCE_SECONDS = 30.0
"""For how long an id is waited for that the registry says it does not know."""
MOST_WAITED_FOR = 4
FORGIVEN_SECONDS = 600.0
"""After how long an id that was waited for in vain no longer counts among those."""
ASK_EVERY = 1.0
NO_SECONDS = 5.0
"""For how long a no counts for who asks next, once the id is not waited for."""
AT_ONCE_SECONDS = 0.1
"""For how long a loop waits for answers that may be about to come."""
WANTED_SECONDS = 10.0
"""After how long a question that nobody repeats is dropped: its partition is another worker's now."""
LATE_SECONDS = 10.0
"""After how long without an answer the registry counts as away, whatever its client is still doing."""


class Registry(Protocol):
    """What is asked, and waited for, beside."""

    def writer(self, record: str) -> WriterSchema:
        """See SchemaSource."""

    def reader(self, record: str) -> Parsed:
        """See SchemaSource."""

    def by_id(self, schema_id: int) -> Resolved:
        """See SchemaSource. Raises NoAvro where asking again is of no use."""


@dataclass(slots=True)
class _Question:
    """An id that is asked for."""

    wanted: float
    unanswered: float | None
    """Since when an answer is due."""
    waited: float = 0.0
    """For how long the registry has been there and has not known it."""
    last_no: float | None = None
    answered: threading.Event = field(default_factory=threading.Event)
    problem: str | None = None


class Lookups:
    """A SchemaSource that never waits for its registry for long. Safe to share among threads."""

    def __init__(self, registry: Registry, *, patience: float = PATIENCE_SECONDS) -> None:
        self._registry = registry
        self._patience = patience
        self._changed = threading.Condition()  # with a lock that one thread may take twice
        self._found: dict[int, Resolved] = {}
        self._never: set[int] = set()
        self._no: dict[int, float] = {}
        self._open: dict[int, _Question] = {}
        self._due: list[tuple[float, int]] = []
        self._waited_for: set[int] = set()
        self._in_vain: dict[int, float] = {}
        self._threads = 0
        self._failures = 0
        self._not_before = -math.inf

    def writer(self, record: str) -> WriterSchema:
        """Return the current schema of a record and its id, waiting for the registry: for the start."""
        return self._registry.writer(record)

    def reader(self, record: str) -> Parsed:
        """Return the current schema of a record."""
        return self._registry.reader(record)

    def by_id(self, schema_id: int) -> Resolved:
        """Return the schema with this id. Raises UnknownSchema, and SchemaAwaited where it is not known yet."""
        if schema_id in LOCAL_IDS:
            return self._registry.by_id(schema_id)
        with self._changed:
            if self.awaits(schema_id):
                raise SchemaAwaited(schema_id)
            if schema_id in self._found:
                return self._found[schema_id]
        raise UnknownSchema(schema_id)

    def awaits(self, schema_id: int) -> bool:
        """Have the schema asked for, unless it is known what there is; return whether it is waited for."""
        with self._changed:
            if schema_id in self._found or schema_id in self._never:
                return False
            if schema_id in LOCAL_IDS or schema_id > HIGHEST_ID:
                return False
            now = time.monotonic()
            if schema_id in self._open:
                self._open[schema_id].wanted = now
                return True
            if now - self._no.get(schema_id, -math.inf) < NO_SECONDS:
                return False
            self._open[schema_id] = _Question(now, now)
            heapq.heappush(self._due, (now, schema_id))
            if self._threads < THREADS:
                self._threads += 1
                threading.Thread(target=self._ask_until_done, name="schemas", daemon=True).start()
            self._changed.notify()
            return True

    def renew(self, schema_id: int) -> None:
        """Have a no count on: what it was given for is being fetched again."""
        with self._changed:
            if self._no.pop(schema_id, None) is not None:
                self._no[schema_id] = time.monotonic()

    def look_ahead(self, ids: Collection[int]) -> None:
        """Have the schemas of what was read asked for together, and wait a moment for answers that are on their way."""
        new = [schema_id for schema_id in ids if schema_id not in self._open and self.awaits(schema_id)]
        deadline = time.monotonic() + AT_ONCE_SECONDS
        for schema_id in new:
            question = self._open.get(schema_id)
            if question is not None and not question.answered.wait(max(0.0, deadline - time.monotonic())):
                return

    def trouble(self) -> str | None:
        """Return what is wrong with the registry, as far as somebody waits for it; None while it answers."""
        with self._changed:
            now = time.monotonic()
            wanted = [q for q in self._open.values() if now - q.wanted < WANTED_SECONDS]
            problems = [q.problem for q in wanted if q.problem]
            if problems:
                return problems[0]
            if any(q.unanswered is not None and now - q.unanswered > LATE_SECONDS for q in wanted):
                return f"the schema registry has not answered for more than {LATE_SECONDS:.0f} seconds"
            return None

    # In the threads

    def _ask_until_done(self) -> None:
        while (schema_id := self._next()) is not None:
            found: Resolved | None = None
            problem: UnknownSchema | SchemaSourceUnavailable | None = None
            try:
                found = self._registry.by_id(schema_id)
            except (UnknownSchema, SchemaSourceUnavailable) as answer:
                problem = answer
            except Exception as unforeseen:  # noqa: BLE001 - whatever it is, the question stays open
                problem = SchemaSourceUnavailable(f"the schema registry's client fails: {type(unforeseen).__name__}")
            with self._changed:
                self._settle(schema_id, found, problem)

    def _next(self) -> int | None:
        """Return the id to ask for next, once it is time; None when there is none."""
        with self._changed:
            while self._due:
                now = time.monotonic()
                due, schema_id = self._due[0]
                due = max(due, self._not_before)
                if due > now:
                    self._changed.wait(due - now)
                    continue
                heapq.heappop(self._due)
                question = self._open[schema_id]
                if self._is_forgotten(schema_id, question, now):
                    self._close(schema_id)
                    continue
                question.unanswered = question.unanswered or now
                return schema_id
            self._threads -= 1
            return None

    def _is_forgotten(self, schema_id: int, question: _Question, now: float) -> bool:
        """Return whether nobody waits for it any more.

        One of the few that are waited for is asked to the end, unless the registry is away: its record may stand behind
        another one that waits, and would else be waited for a second time.
        """
        unwanted = now - question.wanted > WANTED_SECONDS
        return unwanted and (schema_id not in self._waited_for or question.problem is not None)

    def _settle(
        self, schema_id: int, found: Resolved | None, problem: UnknownSchema | SchemaSourceUnavailable | None
    ) -> None:
        question, now = self._open[schema_id], time.monotonic()
        if isinstance(problem, SchemaSourceUnavailable):
            question.problem, question.last_no = str(problem), None
            self._failures += 1
            if self._failures > 1:  # one may be the fault of its id alone
                self._not_before = now + ASK_EVERY
            self._ask_again(schema_id, now)
            return
        self._failures, question.problem, question.unanswered = 0, None, None
        if found is not None:
            self._found[schema_id] = found
            self._close(schema_id)
        elif isinstance(problem, NoAvro):
            self._never.add(schema_id)
            self._close(schema_id)
        else:
            self._refused(schema_id, question, now)

    def _refused(self, schema_id: int, question: _Question, now: float) -> None:
        """Wait on for an id that the registry does not know, or give it up."""
        question.waited += 0.0 if question.last_no is None else now - question.last_no
        question.last_no = now
        if question.waited < self._patience and self._may_wait(schema_id, now):
            self._ask_again(schema_id, now)
            return
        self._no.pop(schema_id, None)
        self._no[schema_id] = now  # the newest is the last
        while now - self._no[oldest := next(iter(self._no))] >= NO_SECONDS:
            del self._no[oldest]
        if schema_id in self._waited_for:
            self._in_vain[schema_id] = now
        self._close(schema_id)

    def _may_wait(self, schema_id: int, now: float) -> bool:
        """Return whether this id is, or may become, one of the few that are waited for; none of them is so twice."""
        if schema_id in self._waited_for:
            return True
        of_late = sum(now - at < FORGIVEN_SECONDS for at in self._in_vain.values())
        if schema_id in self._in_vain or len(self._waited_for) + of_late >= MOST_WAITED_FOR:
            return False
        self._waited_for.add(schema_id)
        return True

    def _ask_again(self, schema_id: int, now: float) -> None:
        heapq.heappush(self._due, (now + ASK_EVERY, schema_id))
        self._changed.notify()

    def _close(self, schema_id: int) -> None:
        self._waited_for.discard(schema_id)
        self._open.pop(schema_id).answered.set()
