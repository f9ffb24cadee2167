"""Skips in inbound: an operator lets classifiers pass a batch that nobody can unpack (L5).

A classifier that comes to such a batch stands in front of it, and nothing behind it is committed. An operator looks,
and writes a skip of it, with the topic's id. Others may write what they must not: a skip of a text that can be read, or
of another topic that had this name. An inbound topic can be deleted and made anew.

What is guaranteed: when a time is vouched for, every text that had come in by then stands in the ledger, unless an
operator let that very batch pass; and with an operator at hand no partition stands for ever, whoever dies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tests.model.explore import Harm
from tests.model.rules import Rules

TEXT, BATCH = "a text", "a batch that nobody can unpack"


class At(NamedTuple):
    """A place of inbound: which topic of that name, and the offset."""

    topic: int
    offset: int


class Faults(NamedTuple):
    """How often each thing may still go wrong."""

    crashes: int = 0
    mistakes: int = 0
    """Skips that say what they must not."""
    recreations: int = 0


class State(NamedTuple):
    """Everything. `written` is the topic of skips, `known` those that the classifier has read."""

    topic: int = 0
    end: int = 0
    position: int = 0
    committed: At = At(0, 0)
    """The offset that is committed, with the topic that it was reached in."""
    ledger: frozenset[At] = frozenset()
    written: frozenset[At] = frozenset()
    known: frozenset[At] = frozenset()
    accepted: frozenset[At] = frozenset()
    """The batches that an operator let pass, having looked."""
    used: frozenset[At] = frozenset()
    faults: Faults = Faults()
    vouched: bool = False


Steps = list[tuple[str, State]]


@dataclass(frozen=True)
class Batches:
    """The model: one partition of inbound and its classifier. `topics` is what comes into each topic of that name."""

    topics: tuple[tuple[str, ...], ...]
    faults: Faults
    rules: Rules = field(default_factory=Rules)

    def start(self) -> State:
        return State(faults=self.faults)

    def steps(self, state: State) -> Steps:
        steps: Steps = []
        if state.end < len(self.topics[state.topic]):
            what = self.topics[state.topic][state.end]
            came = state._replace(end=state.end + 1, vouched=False)
            steps.append((f"inbound receives {what} at {state.end}", came))
        self._classify(state, steps)
        if state.committed != (state.topic, state.position):
            here = At(state.topic, state.position)
            steps.append((f"the classifier commits {state.position}", state._replace(committed=here)))
        if state.committed == (state.topic, state.end) and not state.vouched:
            steps.append(("a time is vouched for that covers all", state._replace(vouched=True)))
        self._write(state, steps)
        self._fail(state, steps)
        return steps

    def _classify(self, state: State, steps: Steps) -> None:
        if state.position >= state.end:
            return
        here = At(state.topic, state.position)
        is_text = self.topics[state.topic][state.position] == TEXT
        behind = state._replace(position=state.position + 1)
        if is_text:
            written = behind._replace(ledger=state.ledger | {here})
            steps.append((f"the classifier writes {here.offset} into the ledger", written))
        if state.known != state.written:
            steps.append(("the classifier reads the skips", state._replace(known=state.written)))
        for skip in sorted(state.known):
            is_meant = skip == here or (skip.offset == here.offset and not self.rules.batch_skips_name_topic)
            is_new = skip not in state.used or self.rules.batch_skips_kept
            if is_meant and is_new and not (is_text and self.rules.batch_skips_unreadable_only):
                passed = behind._replace(used=state.used | {skip})
                steps.append((f"the classifier passes over {here.offset}", passed))

    def _write(self, state: State, steps: Steps) -> None:
        here = At(state.topic, state.position)
        is_batch = state.position < state.end and self.topics[state.topic][state.position] == BATCH
        if is_batch and here not in state.accepted:
            done = state._replace(written=state.written | {here}, accepted=state.accepted | {here})
            steps.append((f"an operator has {here.offset} skipped", done))
        if state.faults.mistakes:
            fewer = state._replace(faults=state.faults._replace(mistakes=state.faults.mistakes - 1))
            for number, topic in enumerate(self.topics):
                for offset, what in enumerate(topic):
                    if what == TEXT and At(number, offset) not in state.written:
                        wrong = fewer._replace(written=state.written | {At(number, offset)})
                        steps.append((f"somebody writes a skip of {offset}, which is a text", wrong))

    def _fail(self, state: State, steps: Steps) -> None:
        if state.faults.crashes:
            fewer = state._replace(faults=state.faults._replace(crashes=state.faults.crashes - 1))
            start = state.committed.offset if state.committed.topic == state.topic else 0
            heir = fewer._replace(position=start, known=state.written)
            steps.append((f"the classifier dies, and the next one begins at {start}", heir))
        if state.faults.recreations and state.topic + 1 < len(self.topics):
            fewer = state._replace(faults=state.faults._replace(recreations=state.faults.recreations - 1))
            anew = fewer._replace(topic=state.topic + 1, end=0, position=0, vouched=False)
            steps.append(("inbound is deleted and made anew, and read from its beginning", anew))

    # What must hold

    def broken(self, state: State) -> Harm | None:
        came = {At(state.topic, offset) for offset in range(state.end)}
        return Harm.ALLOWED if state.vouched and came - state.ledger - state.accepted else None

    def finished(self, state: State) -> bool:
        return state.vouched and state.end == len(self.topics[state.topic])
