"""How far groups of ours have come, and the copy of it that no stranger overwrites.

Whoever may use a group can join it and commit what it likes: `kafka-console-consumer --group` does. So each group has
a copy under the name `<group>.kept`, which nobody joins, and each offset of ours carries a note in either. One with our
note is true wherever it stands; one without proves nothing.
"""

from __future__ import annotations

import re
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from consumer.kafka.cluster import PRODUCERS_ONLY, without
from consumer.kafka.errors import CLIENT_ERRORS, REFUSED, KafkaGone, Triage, is_timeout, or_gone, sentence, triage
from consumer.kafka.watermarks import watermarks
from consumer.together import together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = [
    "Committed",
    "CommittedReader",
    "Kept",
    "KeptOffsets",
    "KeptOffsetsPool",
    "OffsetsCopy",
    "Partition",
    "committed",
    "copy_of",
    "names_a_ledger",
]

COPY = ".kept"
_TOPIC_ID = re.compile(r"[A-Za-z0-9_-]{22}")
ASK_AGAIN = 0.1
AT_ONCE = 50
"""Partitions that are asked about at the same time: each takes a thread."""


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


class Committed(NamedTuple):
    """An offset that a group has committed, and the note that was committed with it."""

    offset: int
    note: str


class Kept(NamedTuple):
    """What is committed of one partition: in the group, and in its copy."""

    group: Committed | None
    copy: Committed | None

    def greatest(self, note: str | None) -> int | None:
        """Return the greatest offset with this note, None where there is none."""
        return max((one.offset for one in self if one is not None and one.note == note), default=None)

    def stands(self, offset: int, note: str) -> bool:
        """Whether both hold this offset with this note."""
        return self.group == self.copy == (offset, note)


def copy_of(group: str) -> str:
    """Return the name of the group that holds the copy of what this one has committed."""
    return group + COPY


def names_a_ledger(note: str) -> bool:
    """Whether what was committed with an offset names a ledger, ours or another, as each version of ours does.

    Anything else is metadata of somebody else's program: it stands for nothing, and must not stop us.
    """
    parts = note.split("/")
    return len(parts) <= 2 and all(_TOPIC_ID.fullmatch(part) for part in parts)  # noqa: PLR2004 - ledger/topic


class Forbidden(TimeoutError):
    """A group's coordinator is not told to this user, who may not read the group: no other answer stands for it."""


class CommittedReader:
    """Reads the offsets that a group has committed, without being a member of it.

    A client of its own, so that a thread beside the member can ask while the member polls or closes. It never joins.
    """

    def __init__(self, config: Mapping[str, Any], group: str, *, waits_for_transactions: bool = True) -> None:
        self.group = group
        settings = {
            **without(config, PRODUCERS_ONLY),
            "group.id": group,
            "isolation.level": "read_committed" if waits_for_transactions else "read_uncommitted",
            "enable.auto.commit": False,
        }
        self._forbidden = False
        with or_gone(REFUSED):
            self._consumer = Consumer(settings)

    def committed(self, partition: Partition, timeout: float) -> Committed | None:
        """Return what the group has committed of one partition, None if nothing.

        Raises TimeoutError while a transaction that holds an offset of it is pending, or Kafka is away. Where
        transactions hold offsets, partitions are asked one by one: a pending one delays all that are asked together.
        """
        return self.all_committed([partition], timeout)[partition]

    def all_committed(self, partitions: Sequence[Partition], timeout: float) -> dict[Partition, Committed | None]:
        """Return the group's committed offsets, asked together. Raises TimeoutError."""
        asked = [TopicPartition(p.topic, p.number) for p in partitions]
        try:
            found = committed(self._consumer, self.group, asked, timeout) if asked else {}
        except TimeoutError as problem:
            if self._is_forbidden():
                raise Forbidden(str(problem)) from None
            raise
        if asked:  # what was refused before is given now
            self._is_forbidden()
            self._forbidden = False
        return found

    def _is_forbidden(self) -> bool:
        """Whether a right is missing: the client says so once, as an event, and goes on looking for a coordinator."""
        with suppress(*CLIENT_ERRORS):
            while not self._forbidden and (event := self._consumer.poll(0)) is not None:
                error = event.error()
                self._forbidden = error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
        return self._forbidden

    def write(self, offsets: Mapping[Partition, int], notes: Mapping[str, str]) -> bool:
        """Commit these offsets, each with its topic's note; False where they could not be: the group has members."""
        if not offsets:
            return True
        places = [TopicPartition(p.topic, p.number, at, notes.get(p.topic, "")) for p, at in offsets.items()]
        try:
            done = self._consumer.commit(offsets=places, asynchronous=False)
        except CLIENT_ERRORS as problem:
            if triage(problem) is Triage.FATAL:
                raise KafkaGone(f"offsets cannot be committed in the group {self.group}: {sentence(problem)}") from None
            return False
        return all(place.error is None for place in done or [])

    def end(self, partition: Partition, timeout: float) -> int:
        """Return the offset after the last record of a partition. Raises TimeoutError."""
        return self._watermarks(partition, timeout)[1]

    def ever_held(self, topic: str, timeout: float) -> bool:
        """Return whether a topic ever held a record: what retention takes away leaves its end. Raises TimeoutError."""
        try:
            metadata = self._consumer.list_topics(topic, timeout=timeout).topics[topic]
        except CLIENT_ERRORS as problem:
            raise TimeoutError(sentence(problem)) from None
        return any(self.end(Partition(topic, number), timeout) > 0 for number in metadata.partitions)

    def first(self, partition: Partition, timeout: float) -> int:
        """Return the first offset that a partition holds. Raises TimeoutError."""
        return self._watermarks(partition, timeout)[0]

    def _watermarks(self, partition: Partition, timeout: float) -> tuple[int, int]:
        try:
            return watermarks(self._consumer, partition, timeout)
        except KafkaGone as problem:
            raise TimeoutError(str(problem)) from None

    def hear_of(self, topics: Iterable[str], timeout: float) -> None:
        """Have the client ask which partitions there are: it knows none that is newer than its last look.

        Raises TimeoutError.
        """
        for topic in topics:
            try:
                self._consumer.list_topics(topic, timeout)
            except CLIENT_ERRORS as problem:
                raise TimeoutError(sentence(problem)) from None

    def close(self) -> None:
        """Close the client."""
        with suppress(*CLIENT_ERRORS):
            self._consumer.close()


class OffsetsCopy(CommittedReader):
    """The copy of what a group has committed, to be read and written by whoever owns a partition of the group.

    `metadata` lets a transaction commit offsets to it. The broker takes that for every partition and fences nobody: who
    sends it sends the group's own offsets behind it, under an assignment, in the same transaction.
    """

    def __init__(self, config: Mapping[str, Any], group: str) -> None:
        super().__init__(config, copy_of(group))
        self.metadata: Any = self._consumer.consumer_group_metadata()


class KeptOffsets:
    """Reads what a group and its copy hold, at once: a transaction that a stranger left pending is not waited for."""

    def __init__(self, config: Mapping[str, Any], group: str) -> None:
        self._group = CommittedReader(config, group, waits_for_transactions=False)
        try:
            self._copy = CommittedReader(config, copy_of(group), waits_for_transactions=False)
        except KafkaGone:
            self._group.close()
            raise

    def both(
        self,
        partitions: Sequence[Partition],
        timeout: float,
        enough: Mapping[str, str] | None = None,
        *,
        begins: bool = False,
    ) -> dict[Partition, Kept]:
        """Return what both hold of each partition. Raises TimeoutError.

        Each has a coordinator of its own, and one may be away. To whoever gives the notes of the topics as `enough`
        one of the two is enough where it holds an offset with its note of every partition. It is true, and if the
        other holds a greater one it only says less. Who `begins` to read there needs the group's: a copy that could
        not be written for a while says much less, and the group has just let us in.
        """
        answers = together(*(partial(_answer, one, partitions, timeout) for one in (self._group, self._copy)))
        groups, copies = ({} if isinstance(answer, TimeoutError) else answer for answer in answers)
        found = {partition: Kept(groups.get(partition), copies.get(partition)) for partition in partitions}
        is_enough = enough is not None and all(
            kept.greatest(enough.get(p.topic)) is not None for p, kept in found.items()
        )
        for number, silence in enumerate(answers):
            if isinstance(silence, TimeoutError) and (
                not is_enough or isinstance(silence, Forbidden) or (begins and number == 0)
            ):
                raise silence
        return found

    def firsts(self, partitions: Sequence[Partition], timeout: float) -> dict[Partition, int]:
        """Return the first offset that each of these partitions holds. Raises TimeoutError."""
        self._group.hear_of({partition.topic for partition in partitions}, timeout)
        found: dict[Partition, int] = {}
        for at in range(0, len(partitions), AT_ONCE):
            some = partitions[at : at + AT_ONCE]
            answers = together(*(partial(self._group.first, partition, timeout) for partition in some))
            found |= zip(some, answers, strict=True)
        return found

    def close(self) -> None:
        """Close the clients."""
        self._group.close()
        self._copy.close()


def _answer(
    reader: CommittedReader, partitions: Sequence[Partition], timeout: float
) -> dict[Partition, Committed | None] | TimeoutError:
    try:
        return reader.all_committed(partitions, timeout)
    except TimeoutError as silence:
        return silence


class KeptOffsetsPool:
    """Reads what a group and its copy hold, for any number of threads at once.

    A client sends one such question after the other. So there are as many as have ever been asked at the same time:
    one where Kafka is near.
    """

    def __init__(self, make: Callable[[], KeptOffsets]) -> None:
        self._make = make
        self._idle: deque[KeptOffsets] = deque([make()])

    def both(
        self, partitions: Sequence[Partition], timeout: float, enough: Mapping[str, str] | None = None
    ) -> dict[Partition, Kept]:
        """See KeptOffsets."""
        try:
            kept = self._idle.pop()  # the one that was asked last: its connections are open
        except IndexError:
            kept = self._one_more()
        try:
            return kept.both(partitions, timeout, enough)
        finally:
            self._idle.append(kept)

    def _one_more(self) -> KeptOffsets:
        """Make one more, where the machine has room for its threads and connections. Raises TimeoutError."""
        try:
            return self._make()
        except KafkaGone as problem:  # the first one was made with these settings
            raise TimeoutError(f"Kafka is far away, and no further client can be made: {problem}") from None


def committed(
    consumer: Consumer, group: str, asked: list[TopicPartition], timeout: float
) -> dict[Partition, Committed | None]:
    """Return the offsets that a consumer's group has committed. Raises TimeoutError; both failures name the group."""
    began = time.monotonic()
    while True:
        try:
            answers = consumer.committed(asked, timeout=max(ASK_AGAIN, began + timeout - time.monotonic()))
            break
        except CLIENT_ERRORS as problem:
            verdict = triage(problem)
            if verdict is Triage.FATAL:
                raise KafkaGone(f"the committed offsets of {group} cannot be read: {sentence(problem)}") from None
            waited = time.monotonic() - began
            # A coordinator that has just moved is refused at once; whoever timed out has waited already.
            if verdict is not Triage.RETRY or is_timeout(problem) or waited > timeout:
                # Where a right is missing the client hears of it, and goes on looking for the group's coordinator.
                what = f"{sentence(problem)} after {waited:.1f} s"
                raise TimeoutError(f"{group}: {what} (may this user read that group?)") from None
            time.sleep(ASK_AGAIN)
    for answer in answers:
        if answer.error is not None:
            raise TimeoutError(f"{group}: {sentence(answer.error)}")
    return {
        Partition(a.topic, a.partition): Committed(a.offset, a.metadata or "") if a.offset >= 0 else None
        for a in answers
    }
