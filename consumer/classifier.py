"""Inbound to ledger: poll, classify, produce, commit. It knows nothing of Redis.

An inbound offset is committed only when everything below it is acknowledged (`domain/marks.py`), each second or so, and
the commit names the ledger: this is what the appliers' vouching stands on. Reading waits for neither. Records that are
written twice, because a crash came in between, do no harm.

A record that nobody can read is a dead letter, acknowledged like all else before its offset is committed. Where there
are too many (`domain/bad_records.py`) the classifier stops behind the last one: what it put aside is committed, and
nothing behind that is touched.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

from consumer.committing import Commits
from consumer.domain.bad_records import WINDOW, BadRecords
from consumer.domain.losses import Loss
from consumer.domain.marks import Marks
from consumer.holding import HeldBack
from consumer.inbound import TopicWatch
from consumer.kafka.errors import KafkaGone
from consumer.kafka.inbox import NotHeld, Partition
from consumer.ledger import SET, LedgerFault
from consumer.letter import UNATTRIBUTABLE, UNATTRIBUTABLE_OPT_IN, DeadLetter
from consumer.wire.errors import Reason, SchemaAwaited
from consumer.wire.framing import schema_id_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from consumer.inbound import Inbound
    from consumer.intake import Intake
    from consumer.kafka.committed import Kept, KeptOffsets
    from consumer.kafka.inbox import Inbox, Read
    from consumer.kafka.producers import LedgerProducer
    from consumer.ops.health import Health
    from consumer.ops.metrics import Metrics
    from consumer.passage import Passage

PART = "classify"
MOST_MESSAGES = 500
ASKED_WITHIN = 10.0
"""Seconds within which the group and its copy have to say where to begin."""
COMMIT_EVERY = 0.5
"""Half of the voucher's interval: each of its samples is then reached before its next pass. At the whole interval one
that missed a commit by a moment waited for two passes, and answers grew three seconds old (3.5 s seen, 2.6 s now)."""
OVERLAP = 0.2
"""Seconds between two commits while an earlier one is on its way: Kafka is far away then, and what is done is not to
wait for an answer besides."""
NOTE_EVERY = 0.1
"""Seconds from one mark to the next: by so much a commit may stay behind what is acknowledged."""
REPORT_EVERY = 1.0
MOST_UNACKNOWLEDGED = 20_000
"""Records that Kafka has not acknowledged above which no more is read."""
FLUSH_ON_REVOKE = 5.0
"""Seconds for which partitions that are given up in order wait for what is outstanding."""
NOT_JOINED = "its group has not let it in, or it lost its place there"
MANY_UNKNOWN = 50
"""Records of the last 1,000 under ids that nobody knows above which somebody has to look: no limit stops for them."""
UNKNOWN_FOR = 600.0
"""Seconds after the last of them after which that is over."""
MOST_NAMED = 20
"""Places that one line of the log names."""


class TooManyDeadLetters(Exception):
    """So much cannot be read that the process stops: what, where, and what to do."""


class Classifier:
    """A member of the classifiers' group. A Listener of its inbox, which is handed in with `run`."""

    def __init__(
        self,
        *,
        intake: Intake,
        producer: LedgerProducer,
        inbound: Inbound,
        kept: KeptOffsets,
        metrics: Metrics,
        health: Health,
        log: FilteringBoundLogger,
        passage: Passage,
        limits: BadRecords | None = None,
        held: HeldBack | None = None,
        most_unacknowledged: int = MOST_UNACKNOWLEDGED,
    ) -> None:
        self._passage = passage
        self._metrics = metrics
        self._health = health
        self._most_unacknowledged = most_unacknowledged
        self._limits = limits or BadRecords()
        self._unattributed: list[str] = []
        self._unknown_at = -math.inf
        self._inbound = inbound
        self._watch = TopicWatch(inbound)
        self._kept = kept
        self._again: set[Partition] = set()
        self._intake = intake
        self._producer = producer
        self._log = log
        self._marks: Marks[Partition] = Marks()
        self._positions = self._marks.positions
        self._commits = Commits(self._marks)
        self._inbox: Inbox | None = None
        self._stop = threading.Event()
        self._held = held or HeldBack(None, log)
        self._full = False
        self._paused: set[Partition] = set()

    # As the listener of the inbox

    def assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Begin at the greatest offset with our note; at the first one where there is none."""
        if not self._watch.identify(self._stop):
            return {}  # read by nobody until somebody else has them
        try:
            kept = self._kept.both(partitions, ASKED_WITHIN, self._watch.notes, begins=True)
            found = {partition: self._ours(partition, each) for partition, each in kept.items()}
            starts = {partition: start for partition, start in found.items() if start is not None}
            starts |= self._kept.firsts([partition for partition in found if partition not in starts], ASKED_WITHIN)
        except TimeoutError as problem:
            raise KafkaGone(f"the offsets to begin at cannot be read: {problem}") from None
        self._positions.update(starts)
        self._paused.difference_update(partitions)
        self._held.forget(partitions)
        self._log.info("inbound partitions received", partitions=len(partitions), owned=len(self._positions))
        return starts

    def _ours(self, partition: Partition, kept: Kept) -> int | None:
        """Return the offset to go on at; None to begin at the first one.

        A commit names the ledger that it stands for and the topic it was read from: with both it is true wherever it
        stands, in the group or in its copy, and one without a name proves nothing (L5). Raises LedgerFault where only
        another ledger is named: what lies below such an offset was written there.
        """
        note = self._watch.notes[partition.topic]
        start = kept.greatest(note)
        if start is not None:
            if kept.group == (start, note):
                self._commits.begin(partition, start)
            return start
        found = [one for one in kept if one is not None]
        place = {"topic": partition.topic, "partition": partition.number}
        if any(one.note and self._inbound.is_ours(one.note) for one in found):
            self._log.error("this inbound topic was deleted and made anew: it is read from its beginning", **place)
            return None
        for one in found:
            if self._inbound.names_another(one.note):
                other = one.note.partition("/")[0]
                raise LedgerFault(
                    f"{partition.topic} [{partition.number}] was read up to {one.offset} into another ledger "
                    f"(id {other}; this one is {self._inbound.ledger_id}), and this one lacks its opt-outs: go back to "
                    "the other, or, to begin a new ledger from what inbound still holds, set an OPTOUT_GROUP of its "
                    "own",
                    Loss.LEDGER_RECREATED,
                )
        for one in found:
            self._log.error(
                "an offset that we did not commit does not count: this partition is read from its beginning; to skip "
                f"texts on purpose, stop the workers and use `{SET} classify`",
                offset=one.offset,
                **place,
            )
        return None

    def known(self) -> tuple[dict[Partition, int], Mapping[str, str]]:
        """Return what is known to be committed, and the note of each topic. For any thread."""
        return self._commits.taken(), self._watch.notes

    def write_again(self, partitions: Iterable[Partition]) -> None:
        """Commit what is known to be committed once more, in time. For any thread."""
        self._again.update(partitions)

    def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> None:
        """Commit what is done, unless somebody else has these partitions already."""
        if not lost:
            self._finish(partitions)
        self._marks.leave(partitions)
        self._commits.leave(partitions)
        self._paused.difference_update(partitions)
        self._held.forget(partitions)
        self._log.info("inbound partitions given up", partitions=len(partitions), owned=len(self._positions), lost=lost)

    # The loop

    def run(self, inbox: Inbox, stop: threading.Event) -> None:
        """Classify until told to stop. Raises KafkaGone, LedgerFault and TooManyDeadLetters."""
        self._inbox, self._stop = inbox, stop
        try:
            self._go_round(inbox, stop)
        except TooManyDeadLetters:
            self._finish([*self._positions])
            self._report()
            raise
        self._finish([*self._positions])
        self._report()

    def _finish(self, partitions: Collection[Partition]) -> None:
        """Wait a while for what is outstanding, and commit the newest mark that is done: never the positions."""
        assert self._inbox is not None
        self._marks.note()
        try:
            self._producer.flush(FLUSH_ON_REVOKE)
        finally:
            self._marks.note()
            self._commits.finish(self._inbox, self._watch.notes, partitions)

    def _go_round(self, inbox: Inbox, stop: threading.Event) -> None:
        self._health.trouble(PART, "group", NOT_JOINED)
        note_at = report_at = time.monotonic()
        busy = False
        while not stop.is_set():
            self._health.beat(PART)
            self._hold_back(inbox)
            self._look_at_blocked(inbox)
            # Under load whole batches are cheaper; else the first message is not to wait for a second one.
            try:
                read = inbox.read_batch(MOST_MESSAGES, 0.01) if busy else inbox.read(MOST_MESSAGES, 0.1)
            except KafkaGone as gone:
                self._watch.look_now()  # says it better, where that is the reason
                if isinstance(gone, NotHeld):
                    raise KafkaGone(
                        f"{gone}; if they are given up, stop the workers and set the offset with `{SET} classify`"
                    ) from None
                raise
            busy = bool(read.messages)
            for blocked in read.blocked.values():
                self._log.error(blocked.why)
            self.step(read)
            now = time.monotonic()
            if now >= note_at:
                self._marks.note()
                if now - self._commits.sent_at >= (OVERLAP if self._commits.on_their_way else COMMIT_EVERY):
                    self.commit()
                note_at = now + NOTE_EVERY
            if now >= report_at:
                self._report()
                report_at = now + REPORT_EVERY

    def _look_at_blocked(self, inbox: Inbox) -> None:
        """Go on behind what cannot be unpacked where an operator wrote so; what can be read is never passed over."""
        for partition, found in [*inbox.blocked.items()]:
            position = self._positions.get(partition)
            if position is None:
                continue
            self._passage.ask()
            past = self._passage.past(partition, position, found.offset)
            if past > position and inbox.go_past(partition, past):
                self._positions[partition] = past
                if past > (first := max(position, found.offset)):
                    self._passage.passed(PART, partition, [(first, past)])

    def _hold_back(self, inbox: Inbox) -> None:
        """Read no more of what cannot be classified now, and go on with what can.

        The group keeps us, for we go on polling. While Kafka does not acknowledge nothing is read at all.
        """
        waiting = self._producer.waiting()
        if waiting > self._most_unacknowledged and not self._full:
            self._log.error("Kafka does not acknowledge: classifying pauses, nothing is dropped", waiting=waiting)
            self._full = True
        elif waiting < self._most_unacknowledged // 2:
            self._full = False
        self._held.release()
        paused = set(self._positions) if self._full else self._held.paused
        if paused - self._paused:
            inbox.pause(paused - self._paused)
        if self._paused - paused:
            inbox.resume(self._paused - paused)
        self._paused = paused
        self._held.seek(inbox)

    def step(self, read: Read) -> None:
        """Write what these messages become, and move the positions behind them. Raises TooManyDeadLetters."""
        self._held.look_ahead(read.messages)
        for message in read.messages:
            topic, number, offset = message.topic(), message.partition(), message.offset()
            assert topic is not None and number is not None and offset is not None  # noqa: PT018 - an error has none
            partition = Partition(topic, number)
            if partition not in self._positions:
                continue  # given up while this batch was read: the next owner reads it again
            if not self._held.takes(partition, offset):
                continue
            try:
                records = self._intake.records(message)
            except SchemaAwaited as awaited:
                self._held.hold(partition, offset, awaited.schema_id)
                continue
            self._limits.read += 1
            for record in records:
                self._producer.write(record, self._marks.made().acknowledged)
            self._positions[partition] = offset + 1
            if records and isinstance(records[0], DeadLetter):
                self._put_aside(records[0])
        for partition, end in read.ends.items():
            if (
                partition in self._positions and partition not in self._held
            ):  # past the control records of transactional producers, too
                self._positions[partition] = max(end, self._positions[partition])

    def _put_aside(self, letter: DeadLetter) -> None:
        """Remember what log and limits must know of a letter. Raises TooManyDeadLetters."""
        if letter.reason == UNATTRIBUTABLE:
            self._unattributed.append(str(letter.source))
        if letter.reason in (UNATTRIBUTABLE, UNATTRIBUTABLE_OPT_IN):
            return
        unknown_id = None
        if letter.reason == Reason.UNKNOWN_SCHEMA:
            unknown_id, self._unknown_at = schema_id_of(letter.value or b""), time.monotonic()
        if too_much := self._limits.add(letter.reason, unknown_id):
            raise TooManyDeadLetters(
                f"{letter.source.topic} [{letter.source.partition}] stops behind offset {letter.source.offset}: "
                f"{too_much}; they are in {letter.topic} (`optout dead-letters list`), and a STOP among them is not in "
                "force: repair what writes them, or upgrade this worker if it lacks their schema, then start it and "
                "replay them; to go on before that, raise the limit"
            )

    def commit(self) -> None:
        """Note how far it is read, and commit how far it is done. Raises KafkaGone for an inbound that is another."""
        again, self._again = self._again, set()
        self._commits.forget(again)
        assert self._inbox is not None
        self._watch.look()
        self._health.tell(PART, "unreadable", "; ".join(each.why for each in self._inbox.blocked.values()) or None)
        self._metrics.unacknowledged.set(self._producer.waiting())
        self._marks.note()
        self._commits.send(self._inbox, self._watch.notes)

    def _report(self) -> None:
        assert self._inbox is not None
        stuck = self._commits.stuck()
        self._health.tell(
            PART, "kafka", "Kafka does not acknowledge what is written, or takes no commit" if stuck else None
        )
        self._health.tell(PART, "registry", self._held.trouble())
        self._metrics.held_back.set(len(self._held.paused))
        self._health.tell(PART, "schemas", self._unknown_ids())
        self._health.tell(PART, "group", None if self._inbox.joined else NOT_JOINED)
        counts = self._intake.counts
        self._metrics.count_intake(counts)
        if counts.keys() - {"inbound"}:
            self._log.info("classified", **{name: count for name, count in sorted(counts.items()) if count})
        if counts["dead_lettered"]:
            # What is in there is not in force: a STOP among it does not hold until somebody replays it.
            self._log.error(
                "records that cannot be read go to the dead-letter topic: look at them now",
                count=counts["dead_lettered"],
            )
        if self._unattributed:
            self._log.error(
                "opt-outs that nobody can be named for are not in force: find out whose they are",
                count=len(self._unattributed),
                where=self._unattributed[:MOST_NAMED],
            )
        self._unattributed.clear()
        counts.clear()

    def _unknown_ids(self) -> str | None:
        """Return what is wrong where many records come under ids that nobody knows, which stop no worker."""
        if self._limits.unknown < MANY_UNKNOWN or time.monotonic() - self._unknown_at > UNKNOWN_FOR:
            return None
        return (
            f"{self._limits.unknown} of {WINDOW} records came under schema ids that nobody knows: they are dead "
            "letters, and a STOP among them is not in force; find out who writes them"
        )
