"""The command `optout skip`: what it takes and answers."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from consumer.domain.phone import masked
from consumer.domain.words import printable
from consumer.operators import LONGEST_WORDS, accountable
from consumer.ops.terminal import say
from consumer.skipping.finding import NotSkipped, in_inbound, in_ledger
from consumer.skipping.listing import as_dict, in_words, listed
from consumer.skipping.place import PlacesType
from consumer.skipping.writing import ask_for_opt_outs, write_skips

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.settings import Settings
    from consumer.skipping.finding import Find
    from consumer.skipping.place import Places

TOLD = (
    "Changes from this place on were told: another version could read it. Upgrade the workers to that one; if there is "
    "none, what was told stays told, and `version` of what follows may repeat. To skip it all the same, say --told."
)
CRY = "An opt-out may be in it, which is then not in force: somebody has to find out whose."


@click.command("skip")
@click.argument("places", required=False, metavar="TOPIC:PARTITION:FIRST[-LAST]", type=PlacesType())
@click.option(
    "--list", "list_all", is_flag=True, help="Show what was skipped, by whom and why, and what does not count."
)
@click.option("--json", "as_json", is_flag=True, help="With --list: one JSON object a line.")
@accountable(required=False)
@click.option("--opt-out", is_flag=True, help="Ask for the opt-out of each patient whom a record's key names.")
@click.option("--told", is_flag=True, help="Skip also what another version read and told.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def skip(
    settings: Callable[[], Settings],
    /,
    *,
    places: Places | None,
    list_all: bool,
    as_json: bool,
    by: str,
    reason: str | None,
    opt_out: bool,
    told: bool,
    yes: bool,
) -> int:
    """Have workers pass over what nobody can read, at the place where one stands: an opt-out may be in it.

    Never what can be read: in inbound whole batches that cannot be unpacked, in the ledger what stands where its bucket
    stands. It is written down for ever; a worker that stands there goes on by itself.
    """
    if list_all != (places is None):
        raise click.UsageError("give either TOPIC:PARTITION:FIRST[-LAST] or --list")
    if places is None:
        for one in listed(settings()):
            click.echo(json.dumps(as_dict(one)) if as_json else in_words(one))
        return 0
    if reason is None:
        raise click.UsageError("--reason says why; it is kept for ever")
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask at: say --yes")
    loaded = settings()
    find = _find(loaded, places)
    _announce(find, opt_out=opt_out)
    if find.told and not told:
        return say(TOLD, 1)
    if not yes and not click.confirm("Skip it?", err=True):
        return say("nothing was skipped", 1)
    if opt_out:
        click.echo(f"{ask_for_opt_outs(loaded, find)} opt-outs asked for")
    write_skips(loaded, find.skips(by=by[:LONGEST_WORDS], reason=reason[:LONGEST_WORDS]))
    click.echo(f"{places} is skipped: the worker that stands there goes on within some seconds")
    return 0


def _find(settings: Settings, places: Places) -> Find:
    """Return what stands at these places. Raises NotSkipped for a topic that nobody would stand in."""
    if places.partition.topic == settings.keyword_ledger_topic:
        return in_ledger(settings, places)
    if places.partition.topic in settings.inbound:
        return in_inbound(settings, places)
    raise NotSkipped(
        f"{places.partition.topic} is not read by workers under these settings: only places of the ledger "
        f"({settings.keyword_ledger_topic}) and of inbound ({', '.join(settings.inbound)}) are skipped"
    )


def _announce(find: Find, *, opt_out: bool) -> None:
    for piece in find.pieces:
        places = f"{piece.offset}" if piece.end == piece.offset + 1 else f"{piece.offset} to {piece.end - 1}"
        click.echo(f"offset {places}: {piece.what} (SHA-256 {piece.digest})", err=True)
        if piece.subscription is not None:
            location_id, number = piece.subscription
            proposed = "" if opt_out else "; --opt-out asks for that patient's opt-out, which only suppresses more"
            click.echo(f"  its key names {masked(number)} at {printable(location_id)}{proposed}", err=True)
    click.echo(CRY, err=True)
