"""Where a location lives: the contract that readers in other languages keep, too."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.domain.buckets import (
    LONGEST_LOCATION,
    bucket_of,
    bucket_prefix,
    digits_of,
    is_location,
    locations_key,
    meta_key,
    outbox_key,
    passes_key,
    set_key,
    state_key,
)
from consumer.wire.schemas import schemas_directory

VECTORS: list[dict[str, Any]] = json.loads((schemas_directory() / "vectors" / "buckets.json").read_text("utf-8"))[
    "vectors"
]
CHECK_VALUE = 0xCBF43926
"""The CRC-32 of "123456789", as every catalogue of CRCs states it."""

location_ids = st.text(min_size=1, max_size=12)
bucket_counts = st.integers(1, 1024)


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{v['location_id']!a} of {v['buckets']}" for v in VECTORS])
def test_vectors(vector: dict[str, Any]) -> None:
    """Bucket, key names and member of each published vector are what the code uses."""
    location_id = vector["location_id"]
    bucket = bucket_of(location_id, vector["buckets"])
    prefix = bucket_prefix(bucket, vector["buckets"])
    assert {
        "bucket": bucket,
        "meta": meta_key(prefix),
        "set": set_key(prefix, location_id),
        "state": state_key(prefix, location_id),
        "locations": locations_key(prefix),
        "outbox": outbox_key(prefix),
        "passes": passes_key(prefix),
        "member": digits_of(vector["patient_number"]),
    }.items() <= vector.items()


def test_the_hash_is_the_common_crc_32() -> None:
    """The bucket is the CRC-32 that every language has, so that every guard finds the same one."""
    assert bucket_of("123456789", 2**32) == CHECK_VALUE


@given(location_ids, bucket_counts)
def test_the_keys_of_a_bucket_lie_in_one_slot(location_id: str, buckets: int) -> None:
    """All keys of a bucket hash to one slot of a Redis Cluster, whatever braces a location id brings."""
    prefix = bucket_prefix(bucket_of(location_id, buckets), buckets)
    keys = [meta_key(prefix), locations_key(prefix), outbox_key(prefix), passes_key(prefix)]
    keys += [set_key(prefix, location_id), state_key(prefix, location_id)]
    tags = {key[key.index("{") + 1 : key.index("}")] for key in keys}
    assert tags == {f"{bucket_of(location_id, buckets)}.{buckets}"}
    assert len(set(keys)) == len(keys)


@given(location_ids, bucket_counts, bucket_counts)
def test_another_number_of_buckets_is_another_place(location_id: str, buckets: int, others: int) -> None:
    """A reader with another number of buckets asks for keys that nobody writes, never for a bucket of ours."""
    ours = {bucket_prefix(bucket, buckets) for bucket in range(buckets)}
    theirs = bucket_prefix(bucket_of(location_id, others), others)
    assert (theirs in ours) == (buckets == others)


@given(location_ids, location_ids)
def test_two_locations_share_no_key(one: str, other: str) -> None:
    """No two locations of a bucket have a set or a state in common."""
    prefix = bucket_prefix(0, 1)
    keys = {key(prefix, location_id) for key in (set_key, state_key) for location_id in {one, other}}
    assert len(keys) == 2 * len({one, other})


@given(location_ids, bucket_counts)
def test_a_bucket_is_one_of_them(location_id: str, buckets: int) -> None:
    """Every location has a bucket, and it is one that exists."""
    assert 0 <= bucket_of(location_id, buckets) < buckets


@pytest.mark.parametrize("blank", ["", " ", "\t\u00a0"], ids=ascii)
def test_a_blank_is_no_location(blank: str) -> None:
    """What is blank, or longer than the limit by one character, is no location id; all else is, taken as it is."""
    assert not is_location(blank)
    assert not is_location("x" * (LONGEST_LOCATION + 1))
    assert is_location("x" * LONGEST_LOCATION)
    assert is_location(f"{blank}x{blank}")


def test_all_buckets_are_used() -> None:
    """Locations spread over all buckets, so that no partition of the ledger carries the load of others."""
    loads = [0] * 64
    for number in range(6400):
        loads[bucket_of(f"loc-{number:05}", 64)] += 1
    assert min(loads) > 50
    assert max(loads) < 200
