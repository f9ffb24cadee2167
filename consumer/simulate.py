"""Publishes inbound texts as patients' phones would, on clusters that are for trying out."""

from __future__ import annotations

import json
import sys
import time
import uuid
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import click

from consumer import app
from consumer.domain.buckets import bucket_of, is_location
from consumer.domain.events import InboundMessage, subscription_key
from consumer.embedded.stack import MARKER_TOPIC
from consumer.kafka.cluster import partitions_by_topic
from consumer.kafka.errors import KafkaGone
from consumer.kafka.producers import LedgerProducer, Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from consumer.guard import Guard
    from consumer.settings import Settings

IN_FORCE_WITHIN = 15.0
LOOK_EVERY = 0.05
ANYBODY = "+12025550100"
JUST_NOW_MS = 500
"""How long ago a text was sent that does not say when: time for those after it to be sent later, and still be past."""
DEFAULT_LOCATION_NUMBER = "+12025550100"
ACKNOWLEDGED_WITHIN = 30.0
MANY = 1000


class BadMessage(Exception):
    """A line that describes no inbound message: what is wrong with it."""


class Refused(Exception):
    """One sentence: why nothing, or no more, was published, or what did not come of it."""


class Sent(NamedTuple):
    """How many messages were published, and to which locations."""

    messages: int
    locations: frozenset[str]


class Clock:
    """When texts that do not say when were sent: just now, and each of a patient's after the one before it."""

    def __init__(self) -> None:
        self._last: dict[tuple[object, object], int] = {}

    def next(self, who: tuple[object, object]) -> int:
        """Return the time for the next text of this patient at this location, in ms since the epoch."""
        self._last[who] = max(time.time_ns() // 1_000_000 - JUST_NOW_MS, self._last.get(who, 0) + 1)
        return self._last[who]


def read_lines(stream: IO[str], name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Return each JSON object of a stream with its line number. Raises UsageError, quoting nothing."""
    number = 0
    try:
        for number, line in enumerate(stream, 1):
            if line.strip():
                value = json.loads(line)
                if not isinstance(value, dict):
                    raise click.UsageError(f"{name}, line {number}: this is not a JSON object")
                yield number, value
    except UnicodeDecodeError:
        raise click.UsageError(f"{name}, after line {number}: this is not UTF-8 text") from None
    except (ValueError, RecursionError):  # a number of thousands of digits is a ValueError, too
        raise click.UsageError(f"{name}, line {number}: this is not JSON") from None


def message_of(value: Mapping[str, Any], clock: Clock) -> InboundMessage:
    """Return the inbound message that a line describes. Raises BadMessage, naming the field and not its content."""
    known = InboundMessage.__dataclass_fields__
    for field in value:
        if field not in known:
            raise BadMessage(f"an inbound message has no field {field[:20]!a}: it has {', '.join(known)}")
    given = {
        "message_id": uuid.uuid4().hex,
        "location_number": DEFAULT_LOCATION_NUMBER,
        "provider": "simulated",
        "provider_opt_out_type": None,
        **value,
    }
    if "received_at" not in given:
        given["received_at"] = clock.next((str(value.get("location_id")), str(value.get("patient_number"))))
    for field in known:
        if field not in given:
            raise BadMessage(f"an inbound message needs `{field}`")
        wanted = int if field == "received_at" else str
        optional = field == "provider_opt_out_type" and given[field] is None
        if not (optional or isinstance(given[field], wanted)) or isinstance(given[field], bool):
            raise BadMessage(f"`{field}` of an inbound message must be {'a number' if wanted is int else 'a text'}")
    return InboundMessage(**given)


def simulate(settings: Settings, values: Iterable[Mapping[str, Any]], *, show_progress: bool = False) -> Sent:
    """Publish these messages and return how many went where, once Kafka has acknowledged them all.

    Raises Refused for a cluster that is not for trying out, UsageError for a line that is no message.
    """
    admin = app.admin_client(settings)
    topics = partitions_by_topic(admin)
    if MARKER_TOPIC not in topics and not settings.allow_simulation:
        raise Refused(
            "this cluster is not one for trying out, and made-up texts could opt real patients out or in: if that is "
            "what you want, set OPTOUT_ALLOW_SIMULATION=1"
        )
    topic = settings.inbound_topics[0]
    if topic not in topics:
        raise Refused(f"there is no topic {topic}: run `optout topics create`")
    encoding = app.codec(settings)
    producer = LedgerProducer(app.client_config(settings), lambda _name, _reason: None)
    sent, locations, clock = 0, set(), Clock()
    try:
        for value in _progress(values, shown=show_progress):
            message = message_of(value, clock)
            key = subscription_key(message.location_id, message.patient_number).encode()
            producer.write(Outgoing(topic, key, encoding.encode(message)))
            locations.add(message.location_id)
            sent += 1
    except (BadMessage, ValueError) as problem:
        raise click.UsageError(f"message {sent + 1}: {problem}; {_before(sent)}") from None
    except click.UsageError as problem:
        raise click.UsageError(f"{problem.format_message()}; {_before(sent)}") from None
    finally:  # whatever comes in between, what was taken is published, and not some of it by chance
        acknowledged = producer.flush(ACKNOWLEDGED_WITHIN)
    if not acknowledged:
        raise KafkaGone(f"Kafka did not acknowledge every message within {ACKNOWLEDGED_WITHIN:.0f} s")
    return Sent(sent, frozenset(locations))


def _before(sent: int) -> str:
    return f"the {sent} before it were published" if sent else "nothing was published"


def await_in_force(settings: Settings, locations: Iterable[str]) -> float:
    """Wait until all that these locations were sent before now is in force; return for how many seconds.

    Raises Refused where that does not happen.
    """
    guard, began = app.guard(settings), time.monotonic()
    one_a_bucket = {bucket_of(name, settings.buckets): name for name in locations if is_location(name)}
    for name in one_a_bucket.values():
        _await(guard, name, began + IN_FORCE_WITHIN)
    return time.monotonic() - began


def _await(guard: Guard, location: str, deadline: float) -> None:
    published: int | None = None  # a time by Redis's clock, after the publishing
    while True:
        verdict = guard.check(location, ANYBODY)
        published = published or verdict.at
        if published is not None and (verdict.fresh or 0) >= published:
            return
        if time.monotonic() > deadline:
            reason = f" (the guard says: {verdict.reason})" if verdict.reason else ""
            raise Refused(
                f"published, but after {IN_FORCE_WITHIN:.0f} s not known to be in force{reason}: is a worker running?"
            )
        time.sleep(LOOK_EVERY)


def _progress(values: Iterable[Mapping[str, Any]], *, shown: bool) -> Iterator[Mapping[str, Any]]:
    if not shown:
        yield from values
        return
    everything = list(values)
    if len(everything) < MANY:
        yield from everything
        return
    with click.progressbar(everything, label="publishing", file=sys.stderr) as bar:
        yield from bar
