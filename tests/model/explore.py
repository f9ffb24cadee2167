"""Walks through every state that a model can reach, breadth first, and says by which steps it came to a bad one.

A model is a start, the steps that lead on from a state, what must never be, and what counts as finished. States are
hashable values. Breadth first, so that the trace to what is found is a shortest one.
"""

from __future__ import annotations

import gc
import time
from array import array
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    StateOf = TypeVar("StateOf", bound=Hashable)
else:
    StateOf = TypeVar("StateOf")


class Harm(StrEnum):
    """What must never be, the worst first."""

    ALLOWED = "ALLOWED after a STOP"
    LOST = "a change is never told"
    TWICE = "a change is told twice"
    CONFIRMED_TWICE = "a confirmation passes twice"
    CONFIRMED_LATE = "a confirmation passes after its window"
    CONFIRMED_UNWELCOME = "an opt-in is confirmed to a patient who is opted out"
    ALARM = "a worker stops although nothing is wrong"
    STUCK = "it cannot be finished any more"


class Verdict(StrEnum):
    """How a search ended."""

    CLEAN = "clean"
    BROKEN = "broken"
    VACUOUS = "vacuous"
    """Nothing bad was found, but no finished state either: the model is wrong, or its faults leave no way."""
    CAPPED = "capped"
    """There are more states than were allowed for."""


class Model(Protocol[StateOf]):
    """What `explore` walks through."""

    def start(self) -> StateOf:
        """Return the state in which everything begins."""
        ...

    def steps(self, state: StateOf) -> Iterable[tuple[str, StateOf]]:
        """Return every step that can be taken: its name and the state after it."""
        ...

    def broken(self, state: StateOf) -> Harm | None:
        """Return what is wrong in a state."""
        ...

    def finished(self, state: StateOf) -> bool:
        """Return whether all that was to be done is done."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a search found. `trace` leads to the harm; `labels` are the names of all steps that were ever possible."""

    verdict: Verdict
    states: int
    seconds: float
    labels: frozenset[str]
    harm: Harm | None = None
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        head = f"{self.verdict}, {self.states} states, {self.seconds:.1f} s"
        if self.harm is None:
            return head
        steps = "".join(f"\n  {number:2}. {label}" for number, label in enumerate(self.trace, 1))
        return f"{head}: {self.harm} after {len(self.trace)} steps{steps}"


def explore(model: Model[StateOf], *, most_states: int, liveness: bool = False) -> Outcome:
    """Visit every state; with `liveness` ask too whether a finished state can be reached from each.

    `seconds` are of processor time.
    """
    began = time.process_time()
    search = _Search(model, keep_edges=liveness)
    with _without_collector():
        verdict, found, harm = search.run(most_states)
        if liveness and verdict in (Verdict.CLEAN, Verdict.VACUOUS):
            found = search.stuck()
            if found is not None:
                verdict, harm = Verdict.BROKEN, Harm.STUCK
    trace = () if found is None else search.trace(found)
    seconds = time.process_time() - began
    return Outcome(verdict, len(search.states), seconds, frozenset(search.labels), harm, trace)


@contextmanager
def _without_collector() -> Iterator[None]:
    """States stay and hold no cycles: to look through millions of them for garbage takes a good part of a search."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Search:
    """States by number, in the order in which they were found; for each the number of the one before it."""

    def __init__(self, model: Model[StateOf], *, keep_edges: bool) -> None:
        self._model = model
        first = model.start()
        self.states = [first]
        self._numbers = {first: 0}
        self._before = array("q", [-1])
        self._edges = (array("L"), array("L")) if keep_edges else None
        self._finished = array("L")
        self.labels: set[str] = set()

    def run(self, most_states: int) -> tuple[Verdict, int | None, Harm | None]:
        """Visit everything. Return the verdict, and where it is BROKEN the state's number and the harm."""
        model, states, numbers, before, labels = self._model, self.states, self._numbers, self._before, self.labels
        for number, state in enumerate(states):  # the list grows while it is walked
            if model.finished(state):
                self._finished.append(number)
            for label, following in model.steps(state):
                labels.add(label)
                known = numbers.get(following)
                if known is None:
                    known = numbers[following] = len(states)
                    states.append(following)
                    before.append(number)
                    harm = model.broken(following)
                    if harm is not None:
                        return Verdict.BROKEN, known, harm
                    if known >= most_states:
                        return Verdict.CAPPED, None, None
                if self._edges:
                    self._edges[0].append(number)
                    self._edges[1].append(known)
        return (Verdict.CLEAN if self._finished else Verdict.VACUOUS), None, None

    def stuck(self) -> int | None:
        """Return the first state from which no finished one can be reached.

        Where that is so from the start, the last state of all: it shows how far everything came.
        """
        assert self._edges is not None
        hopeful = bytearray(len(self.states))
        for number in self._finished:
            hopeful[number] = 1
        edges = list(zip(*self._edges, strict=True))
        edges.reverse()  # most edges lead on, so that one pass backwards settles nearly all
        grown = True
        while grown:
            grown = False
            for source, target in edges:
                if hopeful[target] and not hopeful[source]:
                    hopeful[source] = 1
                    grown = True
        stuck = hopeful.find(0)
        if stuck < 0:
            return None
        return stuck or len(hopeful) - 1

    def trace(self, number: int) -> tuple[str, ...]:
        """Return the names of the steps that lead to a state."""
        path: list[str] = []
        while number > 0:
            source = self._before[number]
            target = self.states[number]
            path.append(
                next(label for label, following in self._model.steps(self.states[source]) if following == target)
            )
            number = source
        return tuple(reversed(path))
