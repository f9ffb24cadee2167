"""The commands under `optout maintenance`: what each takes and answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from consumer.durations import Duration, in_short
from consumer.maintenance import window
from consumer.maintenance.window import LONGEST
from consumer.operators import accountable

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.settings import Settings


@click.group("maintenance")
def maintenance() -> None:
    """Stop all workers for a while, as planned, without every answer becoming UNKNOWN.

    Begin before they are stopped. Until it ends, guards accept what was vouched for when it began, however old; texts
    that come in meanwhile are not known to anybody. Who is opted out stays SUPPRESSED.
    """


@maintenance.command("begin")
@click.option(
    "--for",
    "seconds",
    type=Duration(at_most=LONGEST),
    required=True,
    help=f"When it ends by itself, as in 45m or 1h30m; {in_short(LONGEST)} at most, and to be begun again.",
)
@accountable()
@click.pass_obj
def begin(settings: Callable[[], Settings], /, *, seconds: int, by: str, reason: str) -> int:
    """Begin a maintenance window. It ends by itself when its time is over, or when the workers are back."""
    done = window.begin(settings(), seconds=seconds, by=by, reason=reason)
    closed = done.buckets - len(done.open)
    click.echo(f"maintenance for {in_short(seconds)} at most, in {len(done.open)} buckets; stop the workers now")
    if closed:
        click.echo(f"{closed} buckets are not vouched for: their locations stay UNKNOWN", err=True)
    return 0


@maintenance.command("end")
@accountable()
@click.pass_obj
def end(settings: Callable[[], Settings], /, *, by: str, reason: str) -> int:
    """End it now: guards accept no more than they do at any other time."""
    found = window.end(settings(), by=by, reason=reason)
    click.echo(f"ended in {len(found.open)} buckets" if found.open else "no maintenance was going on")
    return 0


@maintenance.command("status")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def status(settings: Callable[[], Settings], /, *, as_json: bool) -> int:
    """Say whether there is a window, and who did what last."""
    found = window.status(settings())
    if as_json:
        click.echo(json.dumps(window.as_dict(found)))
        return 0
    for line in window.in_words(found):
        click.echo(line)
    return 0
