"""What a skip allows, and how places and keys are understood."""

from __future__ import annotations

from typing import Any

import click
import pytest

from consumer.domain.events import NO_RECORD, Skip, digest_of, subscription_of
from consumer.domain.skips import Skips
from consumer.kafka.inbox import Partition
from consumer.skipping.place import Places, PlacesType

DIGEST = digest_of(b"poison")


def skip(**fields: Any) -> Skip:
    given = {"topic": "ledger", "topic_id": "id", "partition": 0, "offset": 5, "end": 6, "digest": DIGEST}
    return Skip(**{**given, "by": "a test", "reason": "a test", "recorded_at": 0, **fields})


def test_record_is_named_by_its_digest() -> None:
    """A skip allows its place and its digest, and nothing beside it; two skips of one place allow both."""
    skips = Skips("ledger", "id")
    assert skips.add(skip()) is None
    assert skips.add(skip(digest=digest_of(b"other"))) is None
    assert skips.allows(0, 5, DIGEST)
    assert skips.allows(0, 5, digest_of(b"other"))
    for place, digest in (((0, 5), digest_of(b"")), ((0, 4), DIGEST), ((0, 6), DIGEST), ((1, 5), DIGEST)):
        assert not skips.allows(*place, digest)
    assert skips.gap_end(0, 5) == 5


@pytest.mark.parametrize(
    "fields",
    [
        {"topic_id": "other"},
        {"partition": -1},
        {"offset": -1},
        {"end": 5},
        {"end": 7},
        {"digest": ""},
        {"digest": DIGEST.upper()},
        {"digest": NO_RECORD, "end": 5},
    ],
)
def test_what_allows_nothing(fields: dict[str, Any]) -> None:
    """A skip that names no place, no digest or another topic allows nothing, and says why."""
    skips = Skips("ledger", "id")
    assert skips.add(skip(**fields))
    assert not skips.allows(0, 5, DIGEST)
    assert skips.gap_end(0, 5) == 5


def test_gaps_join() -> None:
    """Places without a record may be passed over as far as skips reach without a gap between them."""
    skips = Skips("ledger", "id")
    for offset, end in ((8, 10), (5, 7), (6, 8), (12, 13), (5, 6)):
        assert skips.add(skip(offset=offset, end=end, digest=NO_RECORD)) is None
    assert [skips.gap_end(0, position) for position in (4, 5, 7, 9, 10, 12)] == [4, 10, 10, 10, 10, 13]
    assert skips.gap_end(1, 5) == 5
    assert not skips.allows(0, 5, NO_RECORD)


def test_places_are_written_with_their_topic() -> None:
    """One place, or the first and the last of several, of a partition of a topic."""
    parse = PlacesType().convert
    assert parse("sms.inbound:3:1234", None, None) == Places(Partition("sms.inbound", 3), 1234, None)
    several = parse("sms.inbound:3:1234-1250", None, None)
    assert (several, str(several)) == (Places(Partition("sms.inbound", 3), 1234, 1250), "sms.inbound:3:1234-1250")
    for wrong in (
        "",
        "3:1234",
        "sms.inbound:3",
        "sms.inbound:3:-5",
        "a:1:5-4",
        "a:x:1",
        "a b:1:1",
        "a:1:1-",
        "a:1:1:1",
    ):
        with pytest.raises(click.BadParameter):
            parse(wrong, None, None)


def test_only_our_keys_name_somebody() -> None:
    """Of a record's key only what we write as one is taken for a subscription."""
    assert subscription_of(b"loc:a:+12025550143") == ("loc:a", "+12025550143")
    for key in (
        None,
        b"",
        b"loc",
        b"loc:12025550143",
        b":+12025550143",
        b"loc:+1 202",
        b"loc:+",
        b"\xff:+x",
        b"loc:++1",
    ):
        assert subscription_of(key) is None
