"""Who is in a consumer group: for naming those who must not be.

The admin client's question brings its process down where a group's coordinator has moved, as with each restart of a
broker. So a process of its own asks, which may die of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka.admin import AdminClient

from consumer.kafka.committed import Partition
from consumer.kafka.errors import CLIENT_ERRORS

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

STARTS_WITHIN = 20.0
"""Seconds that the process which asks may take beside the question itself."""
LOOKS_UP_EVERY = 0.2
"""Seconds after which whoever waits for it looks whether it is to stop: a worker that ends waits for nobody's name."""


class GroupMember(NamedTuple):
    """A member of a group, as the broker knows it."""

    group: str
    id: str
    """Which the broker gave it when it joined."""
    client_id: str
    host: str
    partitions: frozenset[Partition]


def members(
    config: Mapping[str, Any], groups: Sequence[str], timeout: float, stop: threading.Event | None = None
) -> list[GroupMember]:
    """Return everybody who is in these groups.

    Raises TimeoutError where Kafka does not say, `stop` is set, or no process that asks can be started: whoever names
    strangers asks again, and ends nothing for it.
    """
    plain = {name: value for name, value in config.items() if isinstance(value, str | int | float)}
    asked = json.dumps({"config": plain, "groups": list(groups), "timeout": timeout})
    try:
        answer = json.loads(_asked(asked, time.monotonic() + timeout + STARTS_WITHIN, stop))
    except TimeoutError:
        raise
    except (OSError, ValueError) as problem:
        raise TimeoutError(f"Kafka cannot be asked who is in the group: {type(problem).__name__}") from None
    return [
        GroupMember(group, member_id, client_id, host, frozenset(Partition(*place) for place in owned))
        for group, member_id, client_id, host, owned in answer
    ]


def _asked(question: str | None, until: float, stop: threading.Event | None) -> str:
    with subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-m", __name__],  # the question is no argument: it may hold a password
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as asking:
        while True:
            try:
                answer, _ = asking.communicate(question, timeout=LOOKS_UP_EVERY)
                break
            except subprocess.TimeoutExpired:
                question = None  # it was sent
            if time.monotonic() > until or (stop is not None and stop.is_set()):
                asking.kill()
                raise TimeoutError("Kafka did not say who is in the group")
    if asking.returncode != 0:
        raise TimeoutError("Kafka could not be asked who is in the group")
    return answer


def _answer(config: Mapping[str, Any], groups: Sequence[str], timeout: float) -> list[list[Any]]:
    found: list[list[Any]] = []
    admin = AdminClient({**config, "log_level": 0})
    for group, future in admin.describe_consumer_groups(list(groups), request_timeout=timeout).items():
        for member in future.result(timeout + 1).members:
            owned = [[place.topic, place.partition] for place in member.assignment.topic_partitions]
            found.append([group, member.member_id, member.client_id, member.host, owned])
    return found


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps(_answer(**json.load(sys.stdin))))
    except (*CLIENT_ERRORS, TimeoutError):
        sys.exit(1)
