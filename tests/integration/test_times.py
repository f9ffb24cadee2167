"""Dates that are wrong, through classifier, ledger and view: whatever they are, they may only ever suppress more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import pytest
from confluent_kafka import Producer

from consumer.domain.events import ReviewReason, ReviewRequested
from tests.parts.system import Applying, Classifying, System, inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.kafka import Kafka

PATIENT = "+12025550143"
YEARS = 10 * 365 * 24 * 60 * 60 * 1000
NEVER = 2**62
"""Further ahead than any calendar goes."""
MISSING = -1
ZERO, NEGATIVE = "zero", "negative"
EPOCH = {ZERO: 0, NEGATIVE: -1, "long before": -NEVER}


class Dates(NamedTuple):
    """When a text was received by its provider, and when Kafka had it: in ms from now, or a word for another date."""

    received: int | str
    kafka: int | str


class Case(NamedTuple):
    """A STOP and a START of one patient, and whether the patient is opted out after both, in either order."""

    name: str
    stop: Dates
    start: Dates
    out: bool
    reviewed: bool = False


def at(seconds_ago: int) -> Dates:
    """Return the dates of a text that was sent so long ago, by clocks that are right."""
    return Dates(-1000 * seconds_ago, -1000 * seconds_ago)


CASES = [
    Case("a START after a STOP", at(60), at(30), out=False),
    Case("a STOP after a START", at(30), at(60), out=True),
    Case("the same millisecond", at(30), at(30), out=True),
    Case("a STOP received ahead", Dates(YEARS, -60_000), at(30), out=False),
    Case("a STOP received beyond all calendars", Dates(NEVER, -30_000), at(60), out=True),
    Case("a START received ahead", at(30), Dates(YEARS, -60_000), out=True),
    Case("a START received beyond all calendars", at(30), Dates(NEVER, -60_000), out=True),
    Case("a STOP that both clocks date ahead", Dates(YEARS, YEARS), at(30), out=True),
    Case("a START that both clocks date ahead", at(30), Dates(YEARS, YEARS), out=True, reviewed=True),
    Case("a STOP that Kafka dates ahead", Dates(-60_000, YEARS), at(30), out=True),
    Case("a START that Kafka dates ahead", at(60), Dates(-30_000, YEARS), out=True, reviewed=True),
    Case("a STOP received years back", Dates(-YEARS, -30_000), at(60), out=True),
    Case("a START received years back", at(60), Dates(-YEARS, -30_000), out=True, reviewed=True),
    *(Case(f"a STOP received at {word}", Dates(word, -30_000), at(60), out=True) for word in EPOCH),
    *(Case(f"a START received at {word}", at(60), Dates(word, -30_000), out=True, reviewed=True) for word in EPOCH),
    Case("a STOP that Kafka dates years back", Dates(-30_000, -YEARS), at(60), out=True),
    Case("a START that Kafka dates years back", at(60), Dates(-30_000, -YEARS), out=True),
    Case("a STOP that both clocks date years back", Dates(-YEARS, -YEARS), at(60), out=False),
    Case("a STOP without a Kafka date", Dates(-60_000, "missing"), at(30), out=False),
    Case("a STOP without a Kafka date, received years back", Dates(-YEARS, "missing"), at(60), out=True),
    Case("a STOP without a Kafka date, received ahead", Dates(YEARS, "missing"), at(60), out=True),
    Case("a START without a Kafka date", at(60), Dates(-30_000, "missing"), out=False),
    Case(
        "a START without a Kafka date, received years back", at(60), Dates(-YEARS, "missing"), out=True, reviewed=True
    ),
    Case("a START without a Kafka date, received ahead", at(30), Dates(YEARS, "missing"), out=True, reviewed=True),
    Case("a STOP whose dates are zero", Dates(ZERO, 1), at(60), out=False),
]


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """Inbound takes any date that a producer says."""
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=2) as deployment:
        kafka.create_topic(deployment.topics["inbound"], 1, {"message.timestamp.after.max.ms": str(2**63 - 1)})
        deployment.make_topics(ledger=2, reviews=1, dead=1, changed=1)
        yield deployment


def test_a_wrong_date_may_only_suppress_more(system: System) -> None:
    """Each wrong date ends as the rules say, in either order of arrival; a START that is not believed is reviewed."""
    now = time.time_ns() // 1_000_000
    producer = Producer({"bootstrap.servers": system.bootstrap})
    for case in CASES:
        texts = [("STOP", case.stop), ("START", case.start)]
        for order in ("first", "last"):
            for word, (received, kafka) in texts if order == "first" else reversed(texts):
                value = system.text(
                    inbound(f"{case.name}, STOP {order}", PATIENT, word, received_at=date(received, now))
                )
                producer.produce(system.topics["inbound"], value, timestamp=date(kafka, now))
    assert producer.flush(30) == 0
    classifier = Classifying(system)
    classifier.until(lambda: system.committed("classify", "inbound") == system.ends("inbound"))
    classifier.die()
    applier = Applying(system)

    def applied() -> bool:
        applier.apply()
        return system.metas("applied") == system.ends("ledger")

    wait_for("all is applied", applied)
    expected = {f"{case.name}, STOP {order}": case.out for case in CASES for order in ("first", "last")}
    opted_out = {location for location, _ in system.members()}
    assert {name: name in opted_out for name in expected} == expected
    # By the product's own codec: the reference one makes dates of the times, and these are none.
    reviews = [system.codec.decode(ReviewRequested, message.value()) for message in system.messages("reviews")]
    assert {review.reason for review in reviews} == {ReviewReason.IMPLAUSIBLE_OPT_IN}
    assert sorted(review.location_id for review in reviews) == sorted(
        f"{case.name}, STOP {order}" for case in CASES if case.reviewed for order in ("first", "last")
    )
    assert not system.read("dead")
    applier.die()


def date(said: int | str, now: int) -> int:
    """Return a date in ms since the epoch."""
    if isinstance(said, int):
        return said if abs(said) == NEVER or said == 1 else now + said
    return MISSING if said == "missing" else EPOCH[said]
