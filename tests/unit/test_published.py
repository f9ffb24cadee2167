"""How far changes were told, by what two groups hold: nobody else's offset is taken for one of ours."""

from __future__ import annotations

import pytest

from consumer.kafka.committed import Committed, Kept, Partition
from consumer.ledger import LedgerFault
from consumer.published import told_of

OURS, OTHER = "AAAAAAAAAAAAAAAAAAAAAA", "BBBBBBBBBBBBBBBBBBBBBB"
"""Ids of ledgers, as Kafka gives them."""
APP = "app-7"
PLACE = Partition("sms.keyword-ledger", 0)


def told(group: tuple[int, str] | None, copy: tuple[int, str] | None, remembered: int = 0) -> int:
    kept = Kept(group and Committed(*group), copy and Committed(*copy))
    return told_of(PLACE, kept, OURS, remembered, lambda: 3)


@pytest.mark.parametrize(
    ("group", "copy", "remembered"),
    [
        ((2, ""), (0, APP), 0),
        ((2, ""), (0, ""), 0),
        ((2, APP), (0, APP), 0),
        ((2, APP), None, 0),
        ((2, APP), None, 2),
        ((2, APP), (1, OURS), 2),
        ((2, APP), (1, OTHER), 1),
        (None, (0, APP), 0),
        (None, (2, APP), 1),
        ((1, OURS), (0, APP), 2),
        ((2, OTHER), (2, APP), 0),
    ],
)
def test_metadata_of_another_program_is_a_strangers(
    group: tuple[int, str] | None, copy: tuple[int, str] | None, remembered: int
) -> None:
    """Where a stranger's metadata hides how far changes were told, none is skipped or told twice: the worker stops."""
    with pytest.raises(LedgerFault, match=r"how far changes of .* were told is not known|but changes"):
        told(group, copy, remembered)


@pytest.mark.parametrize(
    ("group", "copy", "remembered", "known"),
    [
        ((2, APP), (3, OURS), 2, 3),
        ((2, OURS), (0, APP), 2, 2),
        ((2, ""), None, 1, 2),
        ((2, ""), None, 2, 2),
        ((2, ""), (1, OURS), 2, 2),
        ((2, ""), (3, OTHER), 0, 2),
        ((2, OTHER), (2, OTHER), 0, 0),
        ((2, ""), (0, OURS), 0, 0),
        ((2, APP), (0, OURS), 0, 0),
        (None, None, 0, 0),
    ],
)
def test_ours_counts_beside_a_strangers(
    group: tuple[int, str] | None, copy: tuple[int, str] | None, remembered: int, known: int
) -> None:
    """The greatest offset with our note counts, or that of the version before; what names another ledger is nothing."""
    assert told(group, copy, remembered) == known
