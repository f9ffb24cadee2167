"""The commands `optout verify` and `optout rebuild`: what each takes and answers."""

from __future__ import annotations

import json
import sys
from itertools import chain
from typing import TYPE_CHECKING

import click

from consumer import deployment
from consumer.domain.events import OperatorActionKind
from consumer.operators import accountable, write_down
from consumer.ops.terminal import bar, say
from consumer.recovery.origins import Origins
from consumer.recovery.rebuild import Rebuild
from consumer.recovery.verify import CannotCompare, Differences, compare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from consumer.settings import Settings

NOBODY_YET = "nothing moves yet: workers replay, within some 10 s if one was killed; is one running?"

_buckets = click.option(
    "--bucket", "buckets", metavar="N", type=click.IntRange(min=0), multiple=True, help="This bucket; all by default."
)


def _chosen(buckets: Sequence[int], settings: Settings) -> list[int]:
    """Return the buckets that are meant. Raises UsageError for one that there is not."""
    for bucket in buckets:
        if bucket >= settings.buckets:
            raise click.UsageError(
                f"--bucket {bucket}: there are {settings.buckets} buckets, 0 to {settings.buckets - 1}"
            )
    return sorted(set(buckets)) or list(range(settings.buckets))


@click.command("verify")
@_buckets
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, a line for each difference.")
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=0), default=100, show_default=True, help="Differences to show."
)
@click.option("--numbers", is_flag=True, help="Show patients' whole numbers, not the last four digits.")
@click.option(
    "--origins", "with_origins", is_flag=True, help="Hold each opt-in of the ledger against the text that it came from."
)
@click.pass_obj
def verify(
    settings: Callable[[], Settings],
    /,
    *,
    buckets: tuple[int, ...],
    as_json: bool,
    limit: int,
    numbers: bool,
    with_origins: bool,
) -> int:
    """Compare Redis with the ledger and list every difference. Changes nothing; workers may run meanwhile.

    Exit 0: equal. 1: not equal. 2: it could not be compared.
    """
    loaded = settings()
    chosen = _chosen(buckets, loaded)
    differences = Differences(numbers=numbers)
    origins = None
    try:
        with bar("comparing") as moved:
            found = compare(loaded, chosen, moved)
            if with_origins:
                origins = Origins(loaded, chosen, moved)
                found = chain(found, origins.differences())
            for difference in found:
                if differences.add(difference) <= limit:
                    click.echo(
                        json.dumps(differences.as_dict(difference)) if as_json else differences.in_words(difference)
                    )
    except (CannotCompare, *deployment.FAULTS) as failed:
        return say(f"not compared: {deployment.in_words(failed)}", 2)
    if origins is not None:
        click.echo(origins.summary(), err=as_json)
    click.echo(differences.summary(chosen, limit), err=as_json)
    return 1 if differences.found else 0


@click.command("rebuild")
@_buckets
@accountable()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--wait/--no-wait", "wait", default=True, help="Wait until the buckets are vouched for; the default.")
@click.pass_obj
def rebuild(
    settings: Callable[[], Settings], /, *, buckets: tuple[int, ...], reason: str, by: str, yes: bool, wait: bool
) -> int:
    """Have buckets replayed from the ledger. Until each has caught up, its locations answer UNKNOWN.

    Nothing is lost or told twice, whenever it is done. The workers replay: they may run or be started afterwards.
    """
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask at: say --yes")
    loaded = settings()
    begun = Rebuild(loaded, _chosen(buckets, loaded))
    click.echo(begun.announcement(), err=True)
    if not yes and not click.confirm("Go on?", err=True):
        return say("nothing was begun anew", 1)
    write_down(loaded, OperatorActionKind.VIEW_REBUILT, by=by, reason=reason, buckets=sorted(set(buckets)))
    begun.begin()
    if not wait:
        click.echo("begun anew; the workers replay them")
        return 0
    try:
        with bar("replaying") as moved:
            seconds = begun.await_vouched(moved, lambda: click.echo(NOBODY_YET, err=True))
    except KeyboardInterrupt:
        return say("not waited for any longer; workers replay what was begun anew, now or when they run", 130)
    click.echo(f"replayed and vouched for after {seconds:.1f} s")
    return 0
