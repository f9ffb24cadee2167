"""Which inbound topics these very ones are, and what a committed offset of them has to name to stand for something.

A topic that is deleted and made anew under its name holds other records under the same offsets: an offset that was
reached in the old one says nothing of the new one. So a commit names the ledger that it stands for and the topic that
it was read from, by the ids that Kafka gave them.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from consumer.kafka.committed import names_a_ledger
from consumer.kafka.errors import KafkaGone
from consumer.kafka.topics import TopicError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ASKED_WITHIN, ASK_AGAIN = 30.0, 0.2
"""For how many seconds Kafka is asked for the ids, and after how many again, before a classifier gives up.

A controller that dies is replaced in seconds, on a busy machine in ten or more.
"""
IDENTIFY_EVERY = 10.0
"""Seconds after which Kafka is asked again whether inbound's topics are the ones that they were."""


def unnamed(topics: Sequence[str]) -> Mapping[str, str]:
    """Return no id for each topic: for brokers that can tell none."""
    return dict.fromkeys(topics, "")


class Inbound:
    """The topics that classifiers read into one ledger. `ids` asks Kafka for their ids, and may raise TopicError."""

    def __init__(
        self, topics: Sequence[str], ledger_id: str, ids: Callable[[Sequence[str]], Mapping[str, str]] = unnamed
    ) -> None:
        self.topics = tuple(topics)
        self.ledger_id = ledger_id
        self._ids = ids

    def notes(self) -> dict[str, str]:
        """Return what a commit of each topic has to name now. Asks Kafka; raises TopicError."""
        ids = self._ids(self.topics)
        return {name: f"{self.ledger_id}/{ids[name]}" if ids[name] else self.ledger_id for name in self.topics}

    def names_another(self, note: str) -> bool:
        """Whether a commit with this note stands for another ledger; where ours has no id of Kafka's, any note does."""
        return bool(note) and not self.is_ours(note) and (names_a_ledger(note) or not names_a_ledger(self.ledger_id))

    def is_ours(self, note: str) -> bool:
        """Whether a commit with this note stands for our ledger, from whichever topic."""
        return note.partition("/")[0] == self.ledger_id


class TopicWatch:
    """Knows which topics inbound's are, and notices where one is deleted and made anew: its methods raise KafkaGone.

    A classifier that reads is never kept waiting: a thread beside waits for Kafka's answer.
    """

    def __init__(self, inbound: Inbound) -> None:
        self._inbound = inbound
        self._asked_at = 0.0
        self._asking: threading.Thread | None = None
        self._found: Mapping[str, str] = {}
        self.notes: Mapping[str, str] = {}
        """What a commit of each topic has to name."""

    def identify(self, stop: threading.Event) -> bool:
        """Learn which topics these are, and wait for it; False when told to stop before there was an answer.

        Raises KafkaGone, also where one is not there.
        """
        deadline = time.monotonic() + ASKED_WITHIN
        while True:
            try:
                notes = self._inbound.notes()
                break
            except TopicError as problem:  # leaders may be changing: we were assigned something, so Kafka is there
                if time.monotonic() > deadline:
                    raise KafkaGone(str(problem)) from None
                if stop.wait(ASK_AGAIN):
                    return False
        self._asked_at = time.monotonic()
        self._compare(notes)
        self.notes = notes
        return True

    def look(self) -> None:
        """Ask now and then, and hear later, whether they still are the same."""
        found, self._found = self._found, {}
        self._compare(found)
        asking = self._asking is not None and self._asking.is_alive()
        if not asking and time.monotonic() - self._asked_at > IDENTIFY_EVERY:
            self._asked_at = time.monotonic()
            self._asking = threading.Thread(target=self._ask, name="identify inbound", daemon=True)
            with suppress(RuntimeError):  # the machine allows no further thread now: tried again
                self._asking.start()

    def look_now(self) -> None:
        """Ask whether they still are the same, and wait for the answer."""
        self._ask()
        found, self._found = self._found, {}
        self._compare(found)

    def _ask(self) -> None:
        with suppress(TopicError):  # away, or deleted: asked again
            self._found = self._inbound.notes()

    def _compare(self, found: Mapping[str, str]) -> None:
        for topic in found.keys() & self.notes.keys():
            if found[topic] != self.notes[topic]:
                raise KafkaGone(
                    f"{topic} is another topic than it was: it was deleted and made anew, and what this worker knew of "
                    "it is void; the next start reads it from its beginning"
                )
