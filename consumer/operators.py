"""What operators do to the running system is written down, in a topic that is kept for ever, before it is done."""

from __future__ import annotations

import getpass
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from consumer import deployment
from consumer.domain.events import OperatorAction
from consumer.kafka.cluster import partitions_by_topic
from consumer.kafka.errors import KafkaGone
from consumer.kafka.inbox import Partition
from consumer.kafka.producers import LedgerProducer, Outgoing
from consumer.kafka.reader import Reader
from consumer.kafka.topics import TopicError
from consumer.wire.errors import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from consumer.domain.events import OperatorActionKind
    from consumer.settings import Settings

ACKNOWLEDGED_WITHIN = 10.0
LONGEST_WORDS = 500
"""Characters of a name or a reason that are kept."""


class _Words(click.ParamType[str]):
    """Text that says something."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text without blanks around it."""
        return value.strip() or self.fail("it is kept for ever, and says nothing", param, ctx)


def accountable(*, required: bool = True) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the options that say who does it, and why."""
    by = click.option(
        "--by", metavar="NAME", type=_Words(), default=getpass.getuser, help="Who does it; else the account."
    )
    reason = click.option(
        "--reason", metavar="TEXT", type=_Words(), required=required, help="Why; it is kept for ever."
    )
    return lambda command: reason(by(command))


def write_down(
    settings: Settings,
    action: OperatorActionKind,
    *,
    by: str,
    reason: str,
    seconds: int = 0,
    buckets: Sequence[int] = (),
    places: Sequence[str] = (),
) -> OperatorAction:
    """Write an action down and return it once Kafka has it. Raises KafkaGone and TopicError."""
    topic = settings.operator_action_topic
    if topic not in partitions_by_topic(deployment.admin_client(settings)):
        raise TopicError(f"there is no topic {topic} to write this down in: run `optout topics create`")
    done = OperatorAction(
        action_id=secrets.token_hex(8),
        action=action,
        by=by[:LONGEST_WORDS],
        reason=reason[:LONGEST_WORDS],
        seconds=seconds,
        buckets=tuple(buckets),
        recorded_at=time.time_ns() // 1_000_000,
        places=tuple(places),
    )
    producer = LedgerProducer(deployment.client_config(settings), lambda *_: None)
    producer.write(Outgoing(topic, action.encode(), deployment.codec(settings).encode(done)))
    if not producer.flush(ACKNOWLEDGED_WITHIN):
        raise KafkaGone(f"{topic} does not take what is to be done, so it is not done: ask again when Kafka is well")
    return done


def written_down(settings: Settings) -> list[OperatorAction]:
    """Return everything that operators did, oldest first. Raises KafkaGone and TopicError."""
    topic = settings.operator_action_topic
    numbers = partitions_by_topic(deployment.admin_client(settings)).get(topic)
    if numbers is None:
        raise TopicError(f"there is no topic {topic}: run `optout topics create`")
    codec = deployment.codec(settings)
    found = []
    with Reader(deployment.client_config(settings), [Partition(topic, number) for number in range(numbers)]) as reader:
        for message in reader.read():
            with suppress(Unreadable):  # a stranger's; what is looked for is ours
                found.append(codec.decode(OperatorAction, message.value()))
    return sorted(found, key=lambda action: action.recorded_at)
