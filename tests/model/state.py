"""The states of the model of one bucket: its ledger partition, what Redis holds, the group, the workers."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from tests.model.explore import Harm
from tests.model.scripts import fold

if TYPE_CHECKING:
    from tests.model.scripts import Bucket, Change, Identity, Marker, Seen, Text

UNKNOWN = -1


class Batch(NamedTuple):
    """What a publisher took: the changes, how far they go, whether the offset was sent, and whether its token holds."""

    changes: tuple[Change, ...]
    up_to: int
    sent: bool = False
    token_holds: bool = True


class Vouching(NamedTuple):
    """How far a voucher has come: the identity, the time, the ledger's end; UNKNOWN is still to be learned."""

    seen: Seen
    fresh: int = UNKNOWN
    end: int = UNKNOWN


class Worker(NamedTuple):
    """A running worker: the offset that its applier goes on at, `published` as far as it knows, what it is about."""

    position: int
    known: int = UNKNOWN
    batch: Batch | None = None
    vouching: Vouching | None = None


class Faults(NamedTuple):
    """How often each thing may still go wrong."""

    crashes: int = 0
    """A worker dies, a transaction is aborted, or nobody knows whether it was committed."""
    rebalances: int = 0
    """The partition moves although its owner lives: the old owner is a zombie until it gets it back."""
    losses: int = 0
    """Redis is flushed, or loses a bucket's meta or outbox alone."""
    snapshots: int = 0
    """A replica falls behind, an append-only file is not written, a backup is made."""
    rollbacks: int = 0
    """Another server, or the same one started again, goes on with the data of the snapshot."""
    restarts_anew: int = 0
    """Somebody begins the bucket anew for no reason."""
    strangers: int = 0
    """Somebody who must not opens a transaction on the ledger, and leaves it open."""


class Asked(NamedTuple):
    """What a guard that asks twice has seen first: a marker, or that the patient is no member on that server."""

    marker: Marker | None
    server: Identity
    patient: int


class State(NamedTuple):
    """Everything. `workers` are None while they do not run."""

    ledger: tuple[Text, ...]
    duplicates: int
    highest: tuple[tuple[int, int], ...]
    """For each patient the greatest (time, kind) that was ever applied anywhere."""
    told: int
    """How far changes were told."""
    committed: int
    """`published`, as Kafka knows it: the same, as long as one transaction holds both."""
    owner: int
    in_doubt: tuple[tuple[Change, ...], int] | None
    """A transaction of which nobody knows how it ends."""
    server: Identity
    bucket: Bucket
    epochs: int
    snapshot: Bucket
    workers: tuple[Worker | None, ...]
    asked: Asked | None
    faults: Faults
    readable: int | None = None
    """Where reading the ledger ends while a stranger's transaction is open; None while there is none."""
    harm: Harm | None = None

    def with_worker(self, number: int, worker: Worker | None) -> State:
        """Return the state with another worker in the place of one."""
        workers = (*self.workers[:number], worker, *self.workers[number + 1 :])
        return self._replace(workers=workers)

    def after_crash(self) -> State:
        """Return the state with one crash less to come."""
        return self._replace(faults=self.faults._replace(crashes=self.faults.crashes - 1))

    def is_settled(self) -> bool:
        """Return whether no transaction that holds an offset of the partition is pending."""
        return self.in_doubt is None and not any(one and one.batch and one.batch.sent for one in self.workers)

    def telling(self, changes: tuple[Change, ...], up_to: int) -> State:
        """Tell changes: what was told so far and these must be all changes below `up_to`, in order."""
        expected = tuple(change for change in fold(self.ledger) if self.told <= change.offset < up_to)
        harm = None
        if changes != expected or up_to < self.told:
            harm = Harm.LOST if set(expected) - set(changes) else Harm.TWICE
        return self._replace(told=up_to, harm=harm)


@cache
def covered(texts: tuple[Text, ...], ledger: tuple[Text, ...]) -> int:
    """Return how many of the texts that came in first are in the ledger, without a gap."""
    return next((count for count, text in enumerate(texts) if text not in ledger), len(texts))


@cache
def demanded(texts: tuple[Text, ...], patient: int, fresh: int, highest: tuple[int, int]) -> int:
    """Return the kind that must be answered from: the greatest text that was applied, or came in before `fresh`."""
    came = [(text.time, text.kind) for text in texts[:fresh] if text.patient == patient]
    return max([highest, *came])[1]
