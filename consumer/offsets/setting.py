"""What it means to set the offset of a stage, and setting it: in the group and in its copy, with our note."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from consumer import deployment
from consumer.domain.words import printable
from consumer.kafka import topics
from consumer.kafka.committed import CommittedReader, KeptOffsets, Partition, copy_of
from consumer.kafka.errors import KafkaGone
from consumer.kafka.members import members
from consumer.kafka.offsets import Offsets, OffsetsUnavailable
from consumer.suppression.view import View

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from consumer.settings import Settings

Stage = Literal["classify", "apply"]
ASKED_WITHIN = 10.0
MOST_NAMED = 5


class NotSet(Exception):
    """The offsets were not set. One sentence."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One partition, from where to where its offset is set; `was` is None where nothing was committed by us."""

    partition: Partition
    was: int | None
    offset: int

    @property
    def place(self) -> str:
        """Return what is kept for ever of it."""
        return f"{self.partition.topic}:{self.partition.number}:{self.offset}"


class Plan:
    """What is to be set, checked against what Kafka and Redis hold.

    Raises NotSet where it cannot be, KafkaGone, TopicError and ViewUnavailable.
    """

    def __init__(self, settings: Settings, stage: Stage, wanted: Sequence[tuple[str | None, int, int]]) -> None:
        self._settings = settings
        self._stage = stage
        self._admin = deployment.admin_client(settings)
        self._ledger = deployment.ledger_as_it_is(settings)
        self._group = settings.classifiers if stage == "classify" else settings.appliers
        self._config = deployment.asking_config(settings)
        offsets = {Partition(self._topic(topic), number): offset for topic, number, offset in wanted}
        self._notes = self._notes_of({partition.topic for partition in offsets})
        self.check_members()
        with closing(KeptOffsets(self._config, self._group)) as kept:
            try:
                known = Offsets(self._admin, kept)
                there = set(known.partitions({partition.topic for partition in offsets}))
                if absent := sorted(offsets.keys() - there):
                    raise NotSet(f"there is no {absent[0].topic} [{absent[0].number}]")
                starts, ends = known.starts(list(offsets)), known.ends(list(offsets))
                found = kept.both(list(offsets), ASKED_WITHIN)
            except (OffsetsUnavailable, TimeoutError) as problem:
                raise KafkaGone(f"how far the group {self._group} has come is not known: {problem}") from None
        for partition, offset in offsets.items():
            if not starts[partition] <= offset <= ends[partition]:
                raise NotSet(
                    f"{partition.topic} [{partition.number}] holds {starts[partition]} to {ends[partition]}, and not "
                    f"{offset}"
                )
        self.settings = [
            Setting(partition, found[partition].greatest(self._notes[partition.topic]), offset)
            for partition, offset in offsets.items()
        ]
        if stage == "apply":
            self._check_told(offsets)

    def _topic(self, topic: str | None) -> str:
        """Return the topic that is meant: where there is only one it need not be named."""
        mine = self._settings.inbound if self._stage == "classify" else (self._ledger.topic,)
        if topic is None and len(mine) == 1:
            return mine[0]
        if topic not in mine:
            raise NotSet(f"name one of the topics {', '.join(mine)}, as in {mine[0]}:0:4711")
        return topic

    def _notes_of(self, names: Iterable[str]) -> dict[str, str]:
        ledger_id = self._ledger.topic_id
        if self._stage == "apply":
            return dict.fromkeys(names, ledger_id)
        return {name: f"{ledger_id}/{found}" for name, found in topics.topic_ids(self._admin, list(names)).items()}

    def check_members(self) -> None:
        """Raise NotSet while anybody is in the group or in its copy: what is set would be overwritten."""
        try:
            found = members(self._config, [self._group, copy_of(self._group)], ASKED_WITHIN)
        except TimeoutError as problem:
            raise KafkaGone(f"who is in the group {self._group} is not known: {problem}") from None
        if found:
            who = ", ".join(f"{printable(one.client_id)} on {one.host.lstrip('/')}" for one in found[:MOST_NAMED])
            raise NotSet(
                f"somebody is in the group {found[0].group} ({who}): stop all workers, and where one was killed wait "
                "some 10 s for the group to notice"
            )

    def _check_told(self, offsets: Mapping[Partition, int]) -> None:
        view = View(
            deployment.redis_nodes(self._settings), buckets=self._settings.buckets, ledger=self._ledger.identity
        )
        for bucket, meta in view.metas([partition.number for partition in offsets]).items():
            told = 0 if meta is None else meta.published
            if offsets[Partition(self._ledger.topic, bucket)] < told:
                raise NotSet(
                    f"changes of bucket {bucket} were told up to {told}: below that they would be told again, and "
                    "every worker would stop"
                )

    def in_words(self) -> Iterator[str]:
        """Say what each setting gives up, or does again."""
        what = "texts" if self._stage == "classify" else "changes"
        for one in self.settings:
            name, was = f"{one.partition.topic} [{one.partition.number}]", one.was or 0
            known = "nothing that we committed" if one.was is None else str(one.was)
            if one.offset > was:
                loss = "a STOP among them never comes into force" if what == "texts" else "nobody ever hears of them"
                yield f"{name}: from {known} to {one.offset} gives up as many as {one.offset - was} {what}; {loss}"
            elif one.offset < was:
                again = "are read again, which changes nothing" if what == "texts" else "are told again"
                yield f"{name}: from {known} back to {one.offset}: as many as {was - one.offset} {what} {again}"
            else:
                yield f"{name}: stays at {one.offset}, and is written again"

    def carry_out(self) -> None:
        """Write the offsets into the group and into its copy. Raises NotSet."""
        self.check_members()
        offsets = {one.partition: one.offset for one in self.settings}
        for group in (copy_of(self._group), self._group):
            with closing(CommittedReader(self._config, group)) as client:
                if not client.write(offsets, self._notes):
                    raise NotSet(f"Kafka did not take the offsets of the group {group}: say it again, nothing is lost")
