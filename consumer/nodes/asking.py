"""Sends commands to the servers of their keys, in one round trip a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError, TryAgainError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from consumer.nodes.node import Node, Nodes

Command = tuple["str | bytes | int", ...]
Keyed = tuple[str, Command]
"""A key, by which the server is found, and what it is asked."""


def ask(nodes: Nodes, commands: Sequence[Keyed], alone: Callable[[Node, Command], Any] | None = None) -> list[Any]:
    """Send each command to the server of its key, in one round trip a server; return the answers in order.

    `alone` sends a command that is a server's only one.

    The answer of a command that could not be sent, or failed, is what redis-py raises for it. A slot that has moved
    away from a server is asked for once more, where it is.
    """
    answers: list[Any] = [None] * len(commands)
    left: list[int] = list(range(len(commands)))
    for _ in range(2):
        moved = []
        for node, places in _by_node(nodes, commands, left, answers).items():
            for place, answer in zip(places, _sent(node, [commands[i][1] for i in places], alone), strict=True):
                answers[place] = answer
                if isinstance(answer, Exception) and nodes.failed(node, answer):
                    answers[place] = TryAgainError("the slot has moved")
                    moved.append(place)
        left = moved
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


def _sent(node: Node, commands: Sequence[Command], alone: Callable[[Node, Command], Any] | None) -> list[Any]:
    try:
        if len(commands) == 1:  # without what a pipeline costs
            return [alone(node, *commands) if alone else node.client.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
        with node.client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            return pipeline.execute(raise_on_error=False)
    except (RedisError, OSError) as error:
        return [error] * len(commands)
