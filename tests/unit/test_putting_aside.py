"""Which change is refused is found by halves; it alone is put aside, and every offset lies behind what was told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import CapturingLogger

from consumer.domain.evidence import LARGEST_RECORD
from consumer.kafka import sizes
from consumer.kafka.inbox import NO_TOKEN, Partition
from consumer.kafka.producers import NotPublished, Outgoing, Refused
from consumer.letter import DeadLetter, Place
from consumer.ops.metrics import Metrics
from consumer.putting_aside import MOST_IN_A_ROW, PuttingAside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from consumer.kafka.inbox import Token

LEDGER = "sms.keyword-ledger"
CHANGED, CONFIRMED, DEAD = "sms.subscription-changed", "sms.confirmation-requested", "dead"
HUGE = LARGEST_RECORD + 1
COUNTED = ("changes", "confirmations")


class Kafka:
    """Takes transactions, but none with a record larger than a limit, as brokers do."""

    def __init__(self, takes: int = LARGEST_RECORD) -> None:
        self.takes = takes
        self.names = True
        """Whether it says which topic refuses."""
        self.records: list[Outgoing] = []
        self.offsets: dict[Partition, int] = {}
        self.asked = 0

    def settle(self) -> None:
        pass

    def close(self) -> None:
        pass

    def publish(
        self, records: Sequence[Outgoing], offsets: Mapping[Partition, int], token: Token, note: str = ""
    ) -> None:
        assert token is NO_TOKEN
        self.asked += 1
        for record in records:
            if len(record.value or b"") > self.takes:
                raise Refused(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), record.topic if self.names else None)
        assert all(offset >= self.offsets.get(partition, 0) for partition, offset in offsets.items())
        self.records += records
        self.offsets |= offsets
        for record in self.records:  # what is committed was told, and what was told is committed
            partition = Partition(cast("Place", record.source).topic, cast("Place", record.source).partition)
            assert cast("Place", record.source).offset < self.offsets[partition]


def change(bucket: int, offset: int, size: int = 10, confirmation: int = 1) -> list[Outgoing]:
    source = Place(LEDGER, bucket, offset)
    return [
        Outgoing(CHANGED, b"k", b"v" * size, source=source),
        Outgoing(CONFIRMED, b"k", b"c" * confirmation, source=source),
    ]


def putting_aside(kafka: Kafka) -> tuple[PuttingAside, Metrics]:
    metrics = Metrics()
    return PuttingAside(kafka, DEAD, metrics, cast("FilteringBoundLogger", CapturingLogger())), metrics


@given(st.lists(st.integers(0, 30), max_size=5), st.sets(st.tuples(st.integers(0, 4), st.integers(0, 29)), max_size=8))
def test_the_others_are_told_and_those_put_aside(counts: list[int], huge: set[tuple[int, int]]) -> None:
    """Whatever is refused in whichever buckets, each other change is told once, in order, and the offsets are right.

    All are confirmed: only what is refused is put aside.
    """
    kafka = Kafka()
    outbox, metrics = putting_aside(kafka)
    places = [(bucket, offset) for bucket, count in enumerate(counts) for offset in range(count)]
    ends = {Partition(LEDGER, bucket): count + 7 for bucket, count in enumerate(counts)}
    records = [r for place in places for r in change(*place, size=HUGE if place in huge else 10)]
    outbox.publish(records, ends, NO_TOKEN)
    told = [cast("Place", r.source)[1:] for r in kafka.records if r.topic == CHANGED]
    aside = [r.source[1:] for r in kafka.records if isinstance(r, DeadLetter)]
    assert sorted(told) == [place for place in places if place not in huge]
    assert [place for bucket in range(5) for place in told if place[0] == bucket] == sorted(told)
    assert sorted(aside) == [place for place in places if place in huge]
    assert kafka.offsets == ends
    confirmed = [cast("Place", r.source)[1:] for r in kafka.records if r.topic == CONFIRMED]
    assert sorted(confirmed) == places
    sample = metrics.registry.get_sample_value("optout_changes_put_aside_total")
    assert sample == len(aside)


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize(
    ("sizes_", "told", "reasons"),
    [
        ((10, HUGE), [CHANGED], ["unsendable-confirmation"]),
        ((HUGE, 10), [CONFIRMED], ["unsendable-change"]),
        ((HUGE, HUGE), [], ["unsendable-change"]),
    ],
)
def test_only_what_is_refused_is_put_aside(
    sizes_: tuple[int, int], told: list[str], reasons: list[str], *, names: bool
) -> None:
    """A change is told where only its confirmation is refused, and confirmed where only the change is.

    Where nobody knows which of them it is, one letter stands for both.
    """
    outbox, metrics = putting_aside(kafka := Kafka())
    kafka.names = names
    outbox.publish(change(0, 4, *sizes_), {Partition(LEDGER, 0): 5}, NO_TOKEN)
    assert [r.topic for r in kafka.records if r.topic != DEAD] == (told if names else [])
    letters = [r for r in kafka.records if isinstance(r, DeadLetter)]
    assert [(each.reason, each.source) for each in letters] == [
        (reason, Place(LEDGER, 0, 4)) for reason in (reasons if names else ["unsendable-change"])
    ]
    counted = {name: metrics.registry.get_sample_value(f"optout_{name}_put_aside_total") for name in COUNTED}
    assert counted["changes"] == [each.reason for each in letters].count("unsendable-change")
    assert sum(cast("dict[str, float]", counted).values()) == 1


@pytest.mark.parametrize(
    ("topic", "made"),
    [(CHANGED, lambda offset: change(0, offset, HUGE)), (CONFIRMED, lambda offset: change(0, offset, 1, HUGE))],
)
def test_what_the_topic_refuses_altogether_is_not_the_changes_fault(
    topic: str, made: Callable[[int], list[Outgoing]]
) -> None:
    """Small changes wait for a topic that is too narrow, and of large ones only a few are put aside in a row.

    So it is with confirmations, although their changes would be taken.
    """
    narrow, _ = putting_aside(kafka := Kafka(takes=5))
    with pytest.raises(NotPublished, match=r"set its max.message.bytes to 32768 or more"):
        narrow.publish(change(0, 0), {Partition(LEDGER, 0): 1}, NO_TOKEN)
    assert kafka.records == []
    many, _ = putting_aside(kafka := Kafka())
    with pytest.raises(NotPublished, match=f"{topic} refused {MOST_IN_A_ROW} records in a row"):
        many.publish([r for offset in range(30) for r in made(offset)], {Partition(LEDGER, 0): 30}, NO_TOKEN)
    assert kafka.offsets == {Partition(LEDGER, 0): MOST_IN_A_ROW}


@pytest.mark.parametrize(
    ("config", "takes", "largest", "batch"),
    [
        ({}, {}, None, None),
        ({}, {"a": 2_097_152, "b": 1_048_588}, 2_097_152, 1_000_000),
        ({}, {"a": 2_097_152, "b": 50_000}, 2_097_152, 48_976),
        ({"batch.size": 10_000, "message.max.bytes": 5_000_000}, {"a": 2_097_152}, 5_000_000, 10_000),
        ({}, {"a": 2_000_000_000}, 1_000_000_000, 1_000_000),
    ],
)
def test_a_producer_follows_its_topics(
    config: dict[str, Any], takes: dict[str, int], largest: int | None, batch: int | None
) -> None:
    """One record may be as large as the widest takes; a batch is no larger than the narrowest takes."""
    made = sizes.producing(config, takes)
    assert (made.get("message.max.bytes"), made.get("batch.size")) == (largest, batch)


def test_a_consumer_follows_its_topics() -> None:
    """An answer may be as large as the largest batch of a topic, and is never narrower than the client has it."""
    assert "receive.message.max.bytes" not in sizes.consuming({}, {})
    assert sizes.consuming({}, {"a": 1_048_588})["receive.message.max.bytes"] == 100_000_000
    assert sizes.consuming({}, {"a": 150_000_000})["receive.message.max.bytes"] > 150_000_000
