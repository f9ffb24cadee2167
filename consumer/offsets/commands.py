"""The command `optout offsets set`: what it takes and answers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from consumer.domain.events import OperatorActionKind
from consumer.offsets.setting import Plan
from consumer.operators import accountable, write_down
from consumer.ops.terminal import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.offsets.setting import Stage
    from consumer.settings import Settings

Place = tuple[str | None, int, int]


class _Place(click.ParamType[Place]):
    """A partition and an offset of it."""

    name = "place"

    def convert(self, value: str | Place, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """Return the topic, None where it is not named, the partition and the offset."""
        if not isinstance(value, str):
            return value
        *topic, number, offset = ("", *value.split(":"))[-3:] if value.count(":") else ("", "", "")
        if not (number.isascii() and number.isdigit() and offset.isascii() and offset.isdigit()):
            self.fail("write PARTITION:OFFSET, or TOPIC:PARTITION:OFFSET where there are several topics", param, ctx)
        return (topic[0] or None if topic else None, int(number), int(offset))


@click.group("offsets")
def offsets() -> None:
    """How far the workers' groups have come. An offset that is set with Kafka's own tools does not count."""


@offsets.command("set")
@click.argument("stage", type=click.Choice(["classify", "apply"]))
@click.option(
    "--to",
    "places",
    metavar="[TOPIC:]PARTITION:OFFSET",
    type=_Place(),
    multiple=True,
    required=True,
    help="The offset to go on at; a bucket is a partition of the ledger. May be given several times.",
)
@accountable()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def set_offsets(
    settings: Callable[[], Settings], /, *, stage: Stage, places: tuple[Place, ...], by: str, reason: str, yes: bool
) -> int:
    """Set where a STAGE goes on, while no worker runs it: classifiers in inbound, appliers in what they tell.

    Forward gives up what lies between: a STOP among it never comes into force. It is written down for ever first.
    """
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask at: say --yes")
    loaded = settings()
    plan = Plan(loaded, stage, places)
    for line in plan.in_words():
        click.echo(line, err=True)
    if not yes and not click.confirm("Go on?", err=True):
        return say("nothing was set", 1)
    done = [one.place for one in plan.settings]
    write_down(loaded, OperatorActionKind.OFFSETS_SET, by=by, reason=reason, places=done)
    plan.carry_out()
    click.echo(f"set, in the group and in its copy: {', '.join(done)}")
    return 0
