"""What a stage asks of a schema registry before it takes a partition from anybody: it waits for the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.wire.errors import SchemaSourceUnavailable

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from consumer.ops.complaints import Complaints
    from consumer.ops.health import Health

ASK_AGAIN = 1.0


def answered(
    ask: Callable[[], None], part: str, stop: threading.Event, *, health: Health, complaints: Complaints
) -> bool:
    """Ask until the registry answers; False if told to stop meanwhile.

    Waits for one that is away without end: no id is ever guessed, and those who know theirs keep their partitions.
    Raises what else `ask` does: SchemaError where the registry does not hold a schema of ours.
    """
    while not stop.is_set():
        health.beat(part)
        try:
            ask()
        except SchemaSourceUnavailable as problem:
            health.trouble(part, "registry", f"it has not met the schema registry yet: {problem}")
            complaints.say("waiting for the schema registry before taking any partition", reason=str(problem))
            stop.wait(ASK_AGAIN)
        else:
            health.clear(part, "registry")
            return True
    return False
