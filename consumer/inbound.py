"""Which inbound topics these very ones are, and what a committed offset of them has to name to stand for something.

A topic that is deleted and made anew under its name holds other records under the same offsets: an offset that was
reached in the old one says nothing of the new one. So a commit names the ledger that it stands for and the topic that
it was read from, by the ids that Kafka gave them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


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

    def is_ours(self, note: str) -> bool:
        """Whether a commit with this note stands for our ledger, from whichever topic."""
        return note.partition("/")[0] == self.ledger_id
