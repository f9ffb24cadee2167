"""Sends dead letters back to where they came from, as they were, with the time at which they first came in.

That time orders them, not the time of the replay: a STOP that is older than a START changes nothing any more. So a
replay can be repeated, and cut short, without harm; the order in which letters go back does not matter either.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from consumer import deployment, letter
from consumer.kafka.errors import KafkaGone
from consumer.kafka.producers import LedgerProducer, Outgoing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from consumer.dead_letters.reading import Shelf
    from consumer.letter import Letter
    from consumer.settings import Settings

ACKNOWLEDGED_WITHIN = 30.0
MOST_WAITING = 1000
"""Records that Kafka has not acknowledged above which no more is sent."""
LONG = 1000
"""Letters from which on a terminal is shown how far it is."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """How far a replay came: so many of so many, and the last one. `interrupted` by whoever asked for it."""

    done: int
    of: int
    last: object
    interrupted: bool = False


def why_not(found: Letter, settings: Settings, topics: Collection[str]) -> str | None:
    """Return why a letter cannot go back to where it came from, None where it can."""
    if found.source is None:
        return "no header says where from"
    if found.reason in letter.OF_CHANGES:
        return "it stands for a change, which is in force: tell those who have to know of it"
    if found.whole is not None:
        return (
            "it holds only the beginning of a record that was too large; where that came from it stands whole until "
            "it is deleted there: read it, and where it is an opt-out, request it (`opt_out_requested` in the contract)"
        )
    topic = found.source.topic
    if topic not in settings.inbound:
        return f"workers do not read {topic} (see OPTOUT_INBOUND_TOPICS and OPTOUT_OPT_OUT_REQUESTED_TOPIC)"
    return None if topic in topics else f"there is no topic {topic} any more"


def targets(letters: Sequence[Letter]) -> str:
    """Return what would be sent where, in words."""
    counts = Counter(each.source.topic for each in letters if each.source is not None)
    to = ", ".join(f"{count} to {topic}" for topic, count in sorted(counts.items()))
    return f"{len(letters)} letter{'s' * (len(letters) != 1)}: {to}"


def replay(
    settings: Settings, shelf: Shelf, letters: Sequence[Letter], *, rate: float | None, show_progress: bool
) -> Replayed:
    """Send these letters back, at most `rate` a second. Raises KafkaGone, saying how far it came.

    Ctrl-C ends it in order: what was sent is waited for.
    """
    sending = _Sending(LedgerProducer(deployment.client_config(settings), lambda _name, _reason: None))
    interrupted = False
    try:
        try:
            with click.progressbar(
                length=len(letters), label="replaying", file=sys.stderr, hidden=not show_progress or len(letters) < LONG
            ) as progress:
                for record in _records(shelf, letters):
                    sending.send(record, rate)
                    progress.update(1)
        except KeyboardInterrupt:
            interrupted = True
        sending.settle(0)
    except KafkaGone as problem:
        raise KafkaGone(
            f"{problem}; {sending.acknowledged} of {len(letters)} were replayed, and the same command again does no "
            "harm"
        ) from None
    return Replayed(sending.acknowledged, len(letters), sending.last, interrupted)


def _records(shelf: Shelf, letters: Sequence[Letter]) -> Iterator[Outgoing]:
    """Give each letter as it goes back, read anew: the content of all of them is not kept."""
    sources = {each.place: each.source for each in letters}
    for message in shelf.messages(sources):
        place = letter.place_of(message)
        source = sources[place]
        assert source is not None  # see why_not
        yield Outgoing(
            source.topic,
            letter.as_bytes(message.key()),
            letter.as_bytes(message.value()),
            # Where it stood, however upstream chooses partitions.
            partition=source.partition if source.partition < shelf.topics[source.topic] else -1,
            headers=letter.replayed(message),
            source=place,
        )


class _Sending:
    """Sends at a rate, and knows how much of it is acknowledged."""

    def __init__(self, producer: LedgerProducer) -> None:
        self._producer = producer
        self._began = time.monotonic()
        self._sent = 0
        self.acknowledged = 0
        self.last: object = None

    def send(self, record: Outgoing, rate: float | None) -> None:
        if rate is not None:
            time.sleep(max(0.0, self._began + self._sent / rate - time.monotonic()))
        self._producer.write(record)
        self._sent += 1
        self.last = record.source
        self.settle(MOST_WAITING)

    def settle(self, most: int) -> None:
        """Wait until no more than that is not acknowledged. Raises KafkaGone."""
        deadline = time.monotonic() + ACKNOWLEDGED_WITHIN
        while (waiting := self._producer.waiting()) > most:
            if time.monotonic() > deadline:
                raise KafkaGone(f"Kafka did not acknowledge what was sent within {ACKNOWLEDGED_WITHIN:.0f} s")
            self._producer.flush(0.1)
            self.acknowledged = self._sent - self._producer.waiting()
        self.acknowledged = self._sent - waiting
