"""Publishes inbound texts as patients' phones would, on clusters that are for trying out."""

from __future__ import annotations

import json
import sys
import time
import uuid
from itertools import chain, islice
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import click

from consumer import deployment, guarding
from consumer.domain.buckets import bucket_of, is_location
from consumer.domain.events import InboundMessage, subscription_key
from consumer.domain.phone import NotANumber, to_e164
from consumer.embedded.stack import MARKER_TOPIC
from consumer.guard import Unknown
from consumer.kafka.cluster import partitions_by_topic
from consumer.kafka.errors import KafkaGone
from consumer.kafka.producers import LedgerProducer, Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from consumer.guard import Verdict
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
    """How many messages were published, to which locations, and how many of them name no location or no number."""

    messages: int
    locations: frozenset[str]
    nameless: int


class Clock:
    """When texts that do not say when were sent: just now, and each of a patient's after the one before it."""

    def __init__(self) -> None:
        self._last: dict[tuple[object, object], int] = {}

    def next(self, who: tuple[object, object]) -> int:
        """Return the time for the next text of this patient at this location, in ms since the epoch.

        It is never ahead: hundreds of texts of one patient have to wait until their time has come.
        """
        now = time.time_ns() // 1_000_000
        at = self._last[who] = max(now - JUST_NOW_MS, self._last.get(who, 0) + 1)
        if at > now:
            time.sleep((at - now) / 1000)
        return at


def read_lines(stream: IO[bytes], name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Return each JSON object of a stream with its line number. Raises UsageError, quoting nothing.

    Each line is decoded by itself, so that what stands before a bad one has been given.
    """
    for number, line in enumerate(stream, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            value = json.loads(text) if text.strip() else None
        except UnicodeDecodeError:
            raise click.UsageError(f"{name}, line {number}: this is not UTF-8 text") from None
        except (ValueError, RecursionError):  # a number of thousands of digits is a ValueError, too
            raise click.UsageError(f"{name}, line {number}: this is not JSON") from None
        if isinstance(value, dict):
            yield number, value
        elif text.strip():
            raise click.UsageError(f"{name}, line {number}: this is not a JSON object")


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
    admin = deployment.admin_client(settings)
    topics = partitions_by_topic(admin)
    if MARKER_TOPIC not in topics and not settings.allow_simulation:
        raise Refused(
            "this cluster is not one for trying out, and made-up texts could opt real patients out or in: if that is "
            "what you want, set OPTOUT_ALLOW_SIMULATION=1"
        )
    topic = settings.inbound_topics[0]
    if topic not in topics:
        raise Refused(f"there is no topic {topic}: run `optout topics create`")
    encoding = deployment.codec(settings)
    producer = LedgerProducer(deployment.client_config(settings), lambda _name, _reason: None)
    sent, nameless, locations, clock = 0, 0, set(), Clock()
    try:
        for value in _progress(values, shown=show_progress):
            message = message_of(value, clock)
            key = subscription_key(message.location_id, message.patient_number).encode()
            producer.write(Outgoing(topic, key, encoding.encode(message)))
            locations.add(message.location_id)
            nameless += not _can_be_attributed(message, settings.region)
            sent += 1
    except (BadMessage, ValueError) as problem:
        raise click.UsageError(f"message {sent + 1}: {problem}; {_before(sent)}") from None
    except click.UsageError as problem:
        raise click.UsageError(f"{problem.format_message()}; {_before(sent)}") from None
    finally:  # whatever comes in between, what was taken is published, and not some of it by chance
        acknowledged = producer.flush(ACKNOWLEDGED_WITHIN)
    if not acknowledged:
        raise KafkaGone(f"Kafka did not acknowledge every message within {ACKNOWLEDGED_WITHIN:.0f} s")
    return Sent(sent, frozenset(locations), nameless)


def _can_be_attributed(message: InboundMessage, region: str) -> bool:
    try:
        to_e164(message.patient_number, region)
    except NotANumber:
        return False
    return is_location(message.location_id)


def _before(sent: int) -> str:
    if not sent:
        return "nothing was published"
    return "the one before it was published" if sent == 1 else f"the {sent} before it were published"


def await_read(settings: Settings, locations: Iterable[str]) -> float:
    """Wait until all that was published before now is read, and in force where it can be; return for how many seconds.

    Raises Refused where that does not happen, with what the guard says.
    """
    guard, began = guarding.guard(settings), time.monotonic()
    # What inbound held is in the view of each bucket up to the time that it is vouched for: any location tells it.
    one_a_bucket = {bucket_of(name, settings.buckets): name for name in locations if is_location(name)} or {0: "any"}
    published: int | None = None  # a time by Redis's clock, after the publishing
    for name in one_a_bucket.values():
        while True:
            verdict = guard.check(name, ANYBODY)
            published = published or verdict.at
            if published is not None and (verdict.fresh or 0) >= published:
                break
            if time.monotonic() - began > IN_FORCE_WITHIN:
                raise Refused(f"published, but after {IN_FORCE_WITHIN:.0f} s not known to be read: {_why(verdict)}")
            time.sleep(LOOK_EVERY)
    return time.monotonic() - began


def _why(verdict: Verdict) -> str:
    if verdict.reason in (Unknown.UNREACHABLE, Unknown.TIMEOUT):
        return f"Redis does not answer ({verdict.reason})"
    if verdict.reason is Unknown.REFUSED:
        return "Redis refuses the user, the password or the database of OPTOUT_REDIS_URL"
    if verdict.reason in (Unknown.UNVOUCHED, Unknown.OTHER_SERVER):
        return (
            f"no worker vouches for what Redis holds ({verdict.reason}): is one running, with the same OPTOUT_BUCKETS?"
        )
    return "the workers are down or far behind"


def _progress(values: Iterable[Mapping[str, Any]], *, shown: bool) -> Iterator[Mapping[str, Any]]:
    """Give the values as they come, with a bar once there are many: nothing is read ahead."""
    left = iter(values)
    if shown:
        yield from islice(left, MANY)
        for following in left:
            with click.progressbar(chain([following], left), label="publishing", file=sys.stderr) as bar:
                yield from bar
    yield from left
