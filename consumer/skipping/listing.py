"""What was ever written into the topic of skips, and what each of it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from consumer import deployment
from consumer.domain.events import NO_RECORD, digest_of
from consumer.domain.skips import Skips
from consumer.domain.words import at, printable
from consumer.kafka.inbox import Partition, appended_at
from consumer.kafka.probe import Probe
from consumer.kafka.topics import TopicError, topic_id
from consumer.ledger import StoppedBucket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumer.domain.events import Skip
    from consumer.kafka.probe import Found
    from consumer.ledger import Ledger
    from consumer.settings import Settings


class Listed(NamedTuple):
    """One record of the topic: where it stands, the skip if it is one, and why it allows nothing, if it does not."""

    place: str
    skip: Skip | None
    problem: str | None


def listed(settings: Settings) -> Iterator[Listed]:
    """Give every record of the topic of skips, oldest first. Raises KafkaGone, TopicError, SchemaSourceUnavailable."""
    ledger = deployment.ledger_as_it_is(settings)
    topics: dict[str, Skips | None] = {ledger.topic: Skips(ledger.topic, ledger.topic_id)}
    with Probe(deployment.reading_config(settings, ledger.topic)) as probe:
        for place, skip, problem in deployment.skip_log(settings).read():
            if skip is not None:
                if skip.topic not in topics:
                    topics[skip.topic] = _of_inbound(settings, skip.topic)
                problem = _problem(topics[skip.topic], skip, ledger, probe)  # noqa: PLW2901 - what is known now
            yield Listed(place, skip, problem)


def _of_inbound(settings: Settings, topic: str) -> Skips | None:
    if topic not in settings.inbound:
        return None
    try:
        return Skips(topic, topic_id(deployment.admin_client(settings), topic))
    except TopicError:
        return None


def _problem(skips: Skips | None, skip: Skip, ledger: Ledger, probe: Probe) -> str | None:
    """Return why a skip allows nothing, as the workers see it."""
    if skips is None:
        return "nothing is read from its topic"
    if (problem := skips.problem(skip)) or skip.topic != ledger.topic:
        return problem
    if skip.partition >= ledger.buckets:
        return "it names no place"
    return _against(ledger, skip, probe.find(Partition(skip.topic, skip.partition), skip.offset))


def _against(ledger: Ledger, skip: Skip, found: Found) -> str | None:
    """Return why a skip allows nothing, given what stands at its place in the ledger."""
    if found.offset > skip.offset:
        return None if skip.digest == NO_RECORD else "no record stands there"
    if found.message is None:
        return "the ledger has not come to its place"
    try:
        ledger.entry(found.message.value(), skip.partition, skip.offset, appended_at(found.message))
    except StoppedBucket:
        return None if digest_of(found.message.value()) == skip.digest else "another record stands there"
    return "the record there can be read, so it counts"


def as_dict(one: Listed) -> dict[str, Any]:
    """Return a record of the topic as JSON has it."""
    skip = one.skip
    return {
        "written_at": one.place,
        "topic": skip and skip.topic,
        "partition": skip and skip.partition,
        "first": skip and skip.offset,
        "last": skip and skip.end - 1,
        "digest": skip and skip.digest,
        "by": skip and skip.by,
        "reason": skip and skip.reason,
        "recorded_at": skip and skip.recorded_at,
        "problem": one.problem,
    }


def in_words(one: Listed) -> str:
    """Return a record of the topic as a line for a person."""
    if one.skip is None:
        return f"{one.place}: skips nothing: {one.problem}"
    skip = one.skip
    last = f"-{skip.end - 1}" if skip.end > skip.offset + 1 else ""
    what = (
        f"nothing, for {one.problem}"
        if one.problem
        else f"{printable(skip.topic)}:{skip.partition}:{skip.offset}{last}"
    )
    return f"{at(skip.recorded_at)} {printable(skip.by)} skipped {what}: {printable(skip.reason)}"
