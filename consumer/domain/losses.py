"""What can be lost, by name: the names stand in the log and in a metric, so that an alert can be written for each.

They are part of the domain because everybody who notices a loss, and whoever counts them, needs the same ones.
"""

from __future__ import annotations

from enum import StrEnum


class Loss(StrEnum):
    """Something that was there and is not any more, or a state in which something will be lost."""

    VIEW_MISSING = "view-missing"
    """A bucket is gone under the same server: flushed, deleted, or another database is asked."""
    OTHER_SERVER = "other-server"
    """Another Redis answers, or the same one started again: a restart, a failover, a restored machine."""
    VIEW_FELL_BACK = "view-fell-back"
    """A bucket stands at an earlier record under the same server: somebody restored keys."""
    VIEW_DAMAGED = "view-damaged"
    """A bucket lost some of its keys, or another system writes under its names."""
    REBUILT = "rebuilt"
    """An operator had the bucket begun anew: it is replayed like a loss, and is none."""
    EVICTING = "evicting"
    """Redis may drop keys whenever its memory is full."""
    READ_ONLY = "read-only"
    """Redis is a replica that takes no writes: nothing new comes into force there."""
    OUT_OF_MEMORY = "out-of-memory"
    """Redis has reached maxmemory and takes no writes: nothing new comes into force."""
    LEDGER_RECREATED = "ledger-recreated"
    """The ledger is another topic than it was."""
    LEDGER_TRUNCATED = "ledger-truncated"
    """The ledger's first records were deleted."""
    LEDGER_SHORTENED = "ledger-shortened"
    """The ledger ends before records that were read of it."""
    LEDGER_UNSAFE = "ledger-unsafe"
    """The ledger's settings allow that records are lost."""
    OFFSETS_RESET = "offsets-reset"
    """A group's committed offset is below what was told, or stands for another ledger."""


SENTENCES = {
    Loss.VIEW_MISSING: "Redis lost whole buckets: flushed, deleted, or another database",
    Loss.OTHER_SERVER: "Redis is another server, or the same one started again",
    Loss.VIEW_FELL_BACK: "the view fell back under the same server: somebody restored keys",
    Loss.VIEW_DAMAGED: "Redis lost some keys of these buckets, or another system writes under their names",
    Loss.REBUILT: "an operator had these buckets begun anew: they are replayed",
    Loss.EVICTING: "not vouching: this Redis may evict keys; set maxmemory-policy to noeviction",
    Loss.READ_ONLY: "Redis takes no writes, it is a read-only replica: point OPTOUT_REDIS_URL at the primary",
    Loss.OUT_OF_MEMORY: "Redis takes no writes, it has reached maxmemory: give it more",
    Loss.LEDGER_UNSAFE: "the ledger's settings were changed and records can be lost: set them back now",
}
"""What the log says of those that do not end the process; the others end it in a sentence of their own."""
