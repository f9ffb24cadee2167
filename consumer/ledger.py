"""The ledger as its readers see it: which log it is, and what one record of it says."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.domain.bucket import Entry
from consumer.domain.buckets import bucket_of, digits_of
from consumer.domain.event_time import BROKER_SKEW_MS
from consumer.domain.events import CONFIRMATION_WINDOW_MS, Action, LedgerPosition, PatientKeyword
from consumer.domain.losses import Loss
from consumer.wire.errors import Reason, Unreadable
from consumer.wire.framing import schema_id_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.domain.events import KeywordRecord
    from consumer.kafka.inbox import Partition


_NUMBER = re.compile(r"\+[0-9]{1,20}")
"""What any released classifier wrote as a number, and nothing that could be the name of a field in Redis: a plus sign,
and up to 3 digits of a country and 17 within it, which is the most that the phone library ever takes for a number."""
SET = "optout offsets set"
"""The command by which an operator sets an offset: one that is set with Kafka's own tools does not count."""


class LedgerFault(Exception):
    """The ledger is not what it was, or not what it must be. The process stops: going on could forget an opt-out."""

    def __init__(self, sentence: str, loss: Loss = Loss.LEDGER_UNSAFE) -> None:
        super().__init__(sentence)
        self.loss = loss


class StoppedBucket(Exception):
    """A record of the ledger cannot be read. The bucket stops in front of it: the view may never skip one.

    `unknown_id` is the id of its schema, where it can be read as soon as somebody knows that.
    """

    def __init__(self, sentence: str, unknown_id: int | None = None) -> None:
        super().__init__(sentence)
        self.unknown_id = unknown_id


@dataclass(frozen=True, slots=True)
class Ledger:
    """One ledger topic, read by one group. `topic_id` is the id that Kafka gave this very topic."""

    topic: str
    topic_id: str
    buckets: int
    group: str
    decode: Callable[[bytes | None], KeywordRecord]
    confirms: bool = False
    """Whether confirmations are ours, so that each may pass the guard of who sends it."""

    @property
    def identity(self) -> str:
        """Return the name under which a bucket remembers what it was made from."""
        return f"{self.topic_id}/{self.group}"

    def position(self, partition: int, offset: int) -> LedgerPosition:
        """Return the coordinates of a record."""
        return LedgerPosition(topic=self.topic, topic_id=self.topic_id, partition=partition, offset=offset)

    def entry(self, value: bytes | None, partition: int, offset: int, appended: int | None) -> Entry:
        """Return what the state rules need of a record.

        `appended` is when the broker appended it, in ms; None where it did not say, as in older ledgers. Raises
        StoppedBucket in one sentence that quotes nothing.
        """
        try:
            record = self.decode(value)
        except Unreadable as problem:
            raise self._unreadable(value, partition, offset, problem) from None
        if bucket_of(record.location_id, self.buckets) != partition:
            raise self._stopped(partition, offset, "it belongs to another partition")
        if forged := _forged(record, appended):
            raise self._stopped(partition, offset, f"no classifier wrote it: {forged}")
        return Entry(
            offset=offset,
            location_id=record.location_id,
            digits=digits_of(record.patient_number),
            action=record.cause.action,
            event_time=record.event_time,
            keyword=record.cause.keyword or "",
            raw=value or b"",
            confirmation=self._confirmation(record, partition, offset),
        )

    def _confirmation(self, record: KeywordRecord, partition: int, offset: int) -> str:
        if not self.confirms or not isinstance(record.cause, PatientKeyword) or record.cause.is_repeated:
            return ""
        # By our clock, and so with a wide margin: Redis's own decides. A replay need not reckon with what is long over.
        if record.event_time < time.time() * 1000 - 100 * CONFIRMATION_WINDOW_MS:
            return ""
        return self.position(partition, offset).event_id("ConfirmationRequested")

    def _unreadable(self, value: bytes | None, partition: int, offset: int, problem: Unreadable) -> StoppedBucket:
        why = f"it cannot be read ({problem})"
        if problem.reason is not Reason.UNKNOWN_SCHEMA:
            return self._stopped(partition, offset, why)
        unknown_id = schema_id_of(value or b"")
        why += f"; once the schema registry knows the id {unknown_id} its bucket goes on by itself"
        return self._stopped(partition, offset, why, unknown_id)

    def _stopped(self, partition: int, offset: int, why: str, unknown_id: int | None = None) -> StoppedBucket:
        return StoppedBucket(
            f"{self.topic} [{partition}] stops at offset {offset}: {why}; if a newer version wrote it, upgrade this "
            "worker (appliers are upgraded before classifiers)",
            unknown_id,
        )


def _forged(record: KeywordRecord, appended: int | None) -> str | None:
    """Return why no classifier that was ever released can have written a record; None where one can.

    Never by today's reading of numbers: what an older one wrote stays in force. An opt-out that is dated ahead only
    suppresses more, and classifiers do write it; an opt-in that is would beat every STOP up to its date. No classifier
    dates one later than it read it: an honest one looks so only where the broker's clock lags behind all others.
    """
    if not _NUMBER.fullmatch(record.patient_number):
        return "its number is none"
    ahead = appended is not None and record.event_time > appended + BROKER_SKEW_MS
    if ahead and record.cause.action is Action.OPT_IN:
        return "an opt-in of a later time than it was written at"
    return None


def check_ledger(partition: Partition, start: int, end: int, read: int) -> None:
    """Raise LedgerFault where a ledger partition is not what it was: `read` records of it were known before `end`."""
    name = f"{partition.topic} [{partition.number}]"
    if start > 0:
        raise LedgerFault(
            f"{name} begins at offset {start}: its first records were deleted, and opt-outs with them; restore them, "
            "and set retention.ms and retention.bytes to -1 (optout topics create checks it)",
            Loss.LEDGER_TRUNCATED,
        )
    if end < read:
        raise LedgerFault(
            f"{name} ends at offset {end}, but {read} records of it were read: it was shortened or recreated; restore "
            "it, for it holds the opt-outs",
            Loss.LEDGER_SHORTENED,
        )


def check_told(partition: Partition, committed: int, published: int) -> None:
    """Raise LedgerFault where less is known to be told than a bucket's meta says."""
    if committed < published:
        raise LedgerFault(
            f"the offset that the group of the appliers has committed of {partition.topic} [{partition.number}] is "
            f"{committed}, but changes up to {published} were told already: its offsets were reset or have expired; "
            f"stop the workers and set it to {published} with `{SET} apply --to {partition.number}:{published}`, or "
            "changes would be told again",
            Loss.OFFSETS_RESET,
        )
