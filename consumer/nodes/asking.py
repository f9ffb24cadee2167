"""Sends commands to the servers of their keys, in one round trip a server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError, TryAgainError

from consumer.nodes.deadline import deadline, left

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from consumer.nodes.node import Node, Nodes

Command = tuple["str | bytes | int", ...]
Keyed = tuple[str, Command]
"""A key, by which the server is found, and what it is asked."""


Send = Callable[["Node", "Sequence[Command]"], "list[Any]"]
"""Sends commands to one server in one round trip; returns an answer for each, an error of Redis being one."""


def by_client(node: Node, commands: Sequence[Command]) -> list[Any]:
    """Send as redis-py does. Raises what it does."""
    if len(commands) == 1:  # without what a pipeline costs
        return [node.client.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
    with node.client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        return pipeline.execute(raise_on_error=False)


def ask(
    nodes: Nodes,
    commands: Sequence[Keyed],
    send: Send = by_client,
    *,
    together: bool = False,
) -> list[Any]:
    """Send each command to the server of its key, in one round trip a server; return the answers in order.

    The answer of a command that could not be sent, or failed, is the exception that says why. A slot that has moved
    away from a server is asked for once more, where it is. With `together` all servers are asked at the same time, so
    that one that hangs does not use up the deadline of the others.
    """
    answers: list[Any] = [None] * len(commands)
    places: list[int] = list(range(len(commands)))
    for _ in range(2):
        moved = []
        own = _by_node(nodes, commands, places, answers)
        asked = {node: [commands[i][1] for i in some] for node, some in own.items()}
        found = _sent_together(asked, send) if together and len(asked) > 1 else None
        for node, some in own.items():
            for place, answer in zip(some, found[node] if found else _sent(node, asked[node], send), strict=True):
                answers[place] = answer
                if isinstance(answer, Exception) and nodes.failed(node, answer):
                    answers[place] = TryAgainError("the slot has moved")
                    moved.append(place)
        places = moved
    return answers


def _by_node(
    nodes: Nodes, commands: Sequence[Keyed], places: Iterable[int], answers: list[Any]
) -> dict[Node, list[int]]:
    sorted_: dict[Node, list[int]] = {}
    for place in places:
        try:
            sorted_.setdefault(nodes.serving(commands[place][0]), []).append(place)
        except (RedisError, OSError) as error:
            answers[place] = error
    return sorted_


def _sent(node: Node, commands: Sequence[Command], send: Send) -> list[Any]:
    try:
        return send(node, commands)
    except (RedisError, OSError) as error:
        return [error] * len(commands)


def _sent_together(asked: Mapping[Node, Sequence[Command]], send: Send) -> dict[Node, list[Any]]:
    seconds = left()
    found: dict[Node, list[Any]] = {}

    def ask_one(node: Node) -> None:
        with deadline(seconds):
            found[node] = _sent(node, asked[node], send)

    first, *others = asked
    threads = []
    for node in others:
        thread = threading.Thread(target=ask_one, args=(node,), name="redis-ask", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the machine allows no further thread: asked in turn
            ask_one(node)
        else:
            threads.append(thread)
    ask_one(first)
    for thread in threads:
        thread.join()
    return found
