"""Finds dead letters: all of them, by what their headers say, or some by their places."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer import deployment, letter
from consumer.kafka.cluster import partitions_by_topic
from consumer.kafka.inbox import Partition
from consumer.kafka.reader import OpenTransaction, Reader

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from typing import Any

    from consumer.kafka.inbox import Message
    from consumer.letter import Letter, Place
    from consumer.settings import Settings


class DeadLetterFault(Exception):
    """One sentence: which letter is not there or cannot be replayed, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which letters are meant: of a reason, put aside within so many seconds, from a topic, the newest so many."""

    reason: str | None = None
    since: float | None = None
    source: str | None = None
    limit: int | None = None

    def takes(self, found: Letter, now: float) -> bool:
        """Return whether a letter is meant, the limit aside. `now` is in seconds since the epoch."""
        return (
            (self.reason is None or found.reason == self.reason)
            and (self.since is None or found.recorded_at >= (now - self.since) * 1000)
            and (self.source is None or (found.source is not None and found.source.topic == self.source))
        )


@dataclass(frozen=True, slots=True)
class Found:
    """Letters, the newest last. `matching` is how many there are without a limit.

    `again` says of a letter that was replayed and came back which one stands for it now. `unread` is a sentence on what
    keeps others from being read, None where nothing does.
    """

    letters: Sequence[Letter]
    matching: int
    again: Mapping[Place, Place]
    unread: str | None = None

    @property
    def open(self) -> list[Letter]:
        """Return the letters that no newer one stands for."""
        return [each for each in self.letters if each.place not in self.again]


class Shelf:
    """The topic of the dead letters. Raises KafkaGone, and DeadLetterFault where it is not there."""

    def __init__(self, settings: Settings) -> None:
        self.topic = settings.dead_letter_topic
        self._config: Mapping[str, Any] = deployment.client_config(settings)
        self.topics = partitions_by_topic(deployment.admin_client(settings))
        if self.topic not in self.topics:
            raise DeadLetterFault(f"there is no topic {self.topic}: run `optout topics create`")

    def find(self, wanted: Filter) -> Found:
        """Return the letters that are meant."""
        now = time.time()
        all_of_them: list[Letter] = []
        unread = None
        with Reader(self._config, self._partitions()) as reader:
            try:
                all_of_them.extend(letter.read(message) for message in reader.read())
            except OpenTransaction as held:  # those that can be read are looked after all the same
                unread = str(held)
        all_of_them.sort(key=lambda each: (each.recorded_at, each.place))
        again = {each.replay_of: each.place for each in all_of_them if each.replay_of is not None}
        matching = [each for each in all_of_them if wanted.takes(each, now)]
        return Found(matching if wanted.limit is None else matching[-wanted.limit :], len(matching), again, unread)

    def at(self, places: Collection[Place]) -> list[Message]:
        """Return the letters at these places, in their order. Raises DeadLetterFault where none stands."""
        for place in places:
            if place.partition >= self.topics[self.topic]:
                raise DeadLetterFault(
                    f"{self.topic} has no partition {place.partition}: they are 0 to {self.topics[self.topic] - 1}"
                )
        found = {letter.place_of(message): message for message in self.messages(places)}
        for place in places:
            if place not in found:
                raise DeadLetterFault(
                    f"there is no letter {place.partition}:{place.offset} in {self.topic}: it is deleted by now, or "
                    "was never written; `optout dead-letters list` names those that are there"
                )
        return [found[place] for place in places]

    def messages(self, places: Collection[Place]) -> Iterator[Message]:
        """Give what stands at these places, each partition in its order; nothing for a place where nothing stands."""
        begin: dict[Partition, int] = {}
        for place in places:
            partition = Partition(place.topic, place.partition)
            begin[partition] = min(place.offset, begin.get(partition, place.offset))
        left = set(places)
        with Reader(self._config, begin, begin=begin) as reader:
            for message in reader.read():
                place = letter.place_of(message)
                if place in left:
                    left.remove(place)
                    yield message
                    if not left:
                        return

    def _partitions(self) -> list[Partition]:
        return [Partition(self.topic, number) for number in range(self.topics[self.topic])]
