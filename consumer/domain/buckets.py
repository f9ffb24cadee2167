"""Where a location lives: its bucket, and the names of the bucket's keys in Redis.

A bucket is one partition of the ledger and its view in Redis. The number of buckets stands in every key, so that a
reader with another number finds no marker, and so no answer, rather than an empty set.
"""

from __future__ import annotations

from zlib import crc32

DEFAULT_BUCKETS = 64
LONGEST_LOCATION = 256


def bucket_of(location_id: str, buckets: int) -> int:
    """Return the bucket of a location: the partition of the ledger that holds all that concerns it."""
    return crc32(location_id.encode()) % buckets


def is_location(location_id: str) -> bool:
    """Return whether this can be a location id: not blank, and at most LONGEST_LOCATION characters."""
    return bool(location_id.strip()) and len(location_id) <= LONGEST_LOCATION


def bucket_prefix(bucket: int, buckets: int) -> str:
    """Return what all keys of a bucket begin with; its braces put them into one slot of a Redis Cluster."""
    return f"optout:{{{bucket}.{buckets}}}:"


def meta_key(prefix: str) -> str:
    """Return the key of what is known of the bucket itself: log, epoch, positions, counts, marker."""
    return f"{prefix}meta"


def set_key(prefix: str, location_id: str) -> str:
    """Return the key of a location's suppression set: the digits of those who opted out."""
    return f"{prefix}set:{location_id}"


def state_key(prefix: str, location_id: str) -> str:
    """Return the key of a location's subscriptions: digits to packed record, and the epoch."""
    return f"{prefix}state:{location_id}"


def locations_key(prefix: str) -> str:
    """Return the key of the set of locations that were touched in the bucket's epoch."""
    return f"{prefix}locations"


def outbox_key(prefix: str) -> str:
    """Return the key of the changes that are not known to be published, by ledger offset."""
    return f"{prefix}outbox"


def passes_key(prefix: str) -> str:
    """Return the key of the confirmations that may still pass, each once, by when they no longer may."""
    return f"{prefix}passes"


def digits_of(patient_number: str) -> str:
    """Return the member that stands for an E.164 number: its digits, which Redis keeps as an integer."""
    return patient_number.removeprefix("+")
