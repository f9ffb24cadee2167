"""What one pass of the voucher asks Kafka: in two rounds, and in each everything at the same time.

Between a worker and a broker that is far away each round takes the time of one question. The order of the two is the
protocol (L4, L5): the committed offsets; then the clocks; then where everything ends, and which topics these are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.domain.freshness import Bounds
from consumer.kafka.committed import Kept, Partition
from consumer.kafka.offsets import OffsetsUnavailable, counted
from consumer.kafka.topics import TopicError
from consumer.together import together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from consumer.inbound import Inbound
    from consumer.kafka.offsets import Offsets
    from consumer.suppression.answers import Server

UNREAD = Kept(None, None)


@dataclass(frozen=True, slots=True)
class Answers:
    """What is committed of inbound, and where inbound and ledger began and ended after that."""

    clocks: Mapping[tuple[str, str], int]
    """The time of each Redis server, by its identity: read behind what is committed, and before all else was asked."""
    committed: Mapping[Partition, int | None]
    inbound: Mapping[Partition, Bounds]
    ledger: Mapping[Partition, Bounds]
    stable: Mapping[Partition, int] | None
    """Up to where all of these can be read; None where Kafka did not say."""


class Questions:
    """Asks for one ledger and its inbound. Any number of passes may ask at the same time."""

    def __init__(
        self, offsets: Offsets, inbound: Inbound, ledger: str, servers: Callable[[Sequence[int]], Mapping[int, Server]]
    ) -> None:
        self._offsets = offsets
        self._inbound = inbound
        self._ledger = ledger
        self._servers = servers
        self._known: Sequence[Partition] = ()
        self._named: Mapping[str, str] = {}

    def ask(
        self,
        served: Sequence[int],
        buckets: Sequence[int],
        in_turn: AbstractContextManager[object],
        look: Callable[[], None],
    ) -> Answers:
        """Return what is needed to vouch for these buckets, by the clocks of the servers of those that are `served`.

        The clocks are read `in_turn`, for the times of earlier questions to be earlier ones; `look` looks at the ledger
        in the second round.

        Raises OffsetsUnavailable, ViewUnavailable, and what `look` raises.
        """
        if not self._known:
            self._known, self._named = together(self._listed, self._notes)
        known = self._known
        kept = self._offsets.kept(known, self._named)
        with in_turn:
            clocks = {server.identity: server.time for server in self._servers(served).values()}
        ledger = self._places(buckets)
        try:
            # Asked behind the clocks: what a topic or partition holds that is made after this is of a later time.
            # Of several that fail the first is heard: that the ledger is another one says why it lacks partitions.
            _, notes, listed, bounds, ends, stable = together(
                look,
                self._notes,
                self._listed,
                lambda: self._bounds(known),
                lambda: self._bounds(ledger),
                lambda: self._stable([*known, *ledger]),
            )
        except OffsetsUnavailable:
            self._known = ()  # a partition that is gone would be asked about for ever
            raise
        if new := [partition for partition in listed if partition not in bounds]:
            bounds |= self._bounds(new)
        self._known, self._named = listed, notes
        committed = counted({partition: kept.get(partition, UNREAD) for partition in listed}, notes)
        return Answers(clocks, committed, {partition: bounds[partition] for partition in listed}, ends, stable)

    def ledger_bounds(self, buckets: Iterable[int]) -> dict[Partition, Bounds]:
        """Return where these buckets begin and end in the ledger. Raises OffsetsUnavailable."""
        return self._bounds(self._places(buckets))

    def _places(self, buckets: Iterable[int]) -> list[Partition]:
        return [Partition(self._ledger, bucket) for bucket in buckets]

    def _listed(self) -> list[Partition]:
        return self._offsets.partitions(self._inbound.topics)

    def _notes(self) -> Mapping[str, str]:
        try:
            return self._inbound.notes()
        except TopicError as problem:
            raise OffsetsUnavailable(str(problem)) from None

    def _bounds(self, partitions: Sequence[Partition]) -> dict[Partition, Bounds]:
        starts, ends = together(lambda: self._offsets.starts(partitions), lambda: self._offsets.ends(partitions))
        return {partition: Bounds(starts[partition], ends[partition]) for partition in partitions}

    def _stable(self, partitions: Sequence[Partition]) -> Mapping[Partition, int] | None:
        try:
            return self._offsets.stable_ends(partitions)
        except OffsetsUnavailable:
            return None  # only a name for what is behind is at stake
