"""Publishes inbound texts as patients' phones would, on clusters that are for trying out."""

from __future__ import annotations

import json
import sys
import time
import uuid
from typing import IO, TYPE_CHECKING, Any

import click

from consumer import app
from consumer.domain.events import InboundMessage, subscription_key
from consumer.embedded.stack import MARKER_TOPIC
from consumer.kafka.cluster import partitions_by_topic
from consumer.kafka.errors import KafkaGone
from consumer.kafka.producers import LedgerProducer, Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from consumer.settings import Settings

DEFAULT_LOCATION_NUMBER = "+12025550100"
ACKNOWLEDGED_WITHIN = 30.0
MANY = 1000


class BadMessage(Exception):
    """A line that describes no inbound message: what is wrong with it."""


class Refused(Exception):
    """One sentence: why nothing, or no more, was published."""


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
    except (json.JSONDecodeError, RecursionError):
        raise click.UsageError(f"{name}, line {number}: this is not JSON") from None


def message_of(value: Mapping[str, Any]) -> InboundMessage:
    """Return the inbound message that a line describes. Raises BadMessage, naming the field and not its content."""
    known = InboundMessage.__dataclass_fields__
    for field in value:
        if field not in known:
            raise BadMessage(f"an inbound message has no field `{field[:40]}`: it has {', '.join(known)}")
    given = {
        "message_id": uuid.uuid4().hex,
        "location_number": DEFAULT_LOCATION_NUMBER,
        "received_at": time.time_ns() // 1_000_000,
        "provider": "simulated",
        "provider_opt_out_type": None,
        **value,
    }
    for field in known:
        if field not in given:
            raise BadMessage(f"an inbound message needs `{field}`")
        wanted = int if field == "received_at" else str
        optional = field == "provider_opt_out_type" and given[field] is None
        if not (optional or isinstance(given[field], wanted)) or isinstance(given[field], bool):
            raise BadMessage(f"`{field}` of an inbound message must be {'a number' if wanted is int else 'a text'}")
    return InboundMessage(**given)


def simulate(settings: Settings, values: Iterable[Mapping[str, Any]], *, show_progress: bool = False) -> int:
    """Publish these messages and return how many, once Kafka has acknowledged them all.

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
    sent = 0
    for value in _progress(values, shown=show_progress):
        try:
            message = message_of(value)
            key = subscription_key(message.location_id, message.patient_number).encode()
            record = Outgoing(topic, key, encoding.encode(message))
        except (BadMessage, ValueError) as problem:
            producer.flush(ACKNOWLEDGED_WITHIN)
            raise click.UsageError(f"message {sent + 1}: {problem}; the {sent} before it were published") from None
        producer.write(record)
        sent += 1
    if not producer.flush(ACKNOWLEDGED_WITHIN):
        raise KafkaGone(f"Kafka did not acknowledge every message within {ACKNOWLEDGED_WITHIN:.0f} s")
    return sent


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
