"""The commands under `optout dead-letters`: what each takes and answers."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from consumer import deployment, letter
from consumer.dead_letters import words
from consumer.dead_letters.reading import DeadLetterFault, Filter, Shelf
from consumer.dead_letters.replay import replay, targets, why_not
from consumer.durations import Duration
from consumer.letter import Place
from consumer.ops.terminal import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.letter import Letter
    from consumer.settings import Settings


class _Name(click.ParamType["tuple[int, int]"]):
    """A letter's name: its partition and offset, as `list` has them."""

    name = "PARTITION:OFFSET"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        said = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,18})", value)
        if said is None:
            self.fail(f"{value!a} is no letter: write PARTITION:OFFSET, as in 2:17", param, ctx)
        return int(said[1]), int(said[2])


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--limit", metavar="N", type=click.IntRange(1), help="Only the newest N."),
        click.option("--source", metavar="TOPIC", help="Only those that came from this topic."),
        click.option("--since", metavar="AGO", type=Duration(), help="Only those put aside within 90s, 30m, 2h, 7d."),
        click.option(
            "--reason", metavar="REASON", type=click.Choice(letter.REASONS), help="Only those with this reason."
        ),
    ):
        command = option(command)
    return command


@click.group("dead-letters")
def dead_letters() -> None:
    """Look after the records that could not be read or attributed. A STOP among them is not in force."""


@dead_letters.command("list")
@_filters
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, a line for each letter.")
@click.pass_obj
def list_command(settings: Callable[[], Settings], /, *, as_json: bool, **chosen: Any) -> int:
    """List the letters, the newest last, and count them by reason. Nothing of their content is shown."""
    found = Shelf(settings()).find(Filter(**chosen))
    if as_json:
        for each in found.letters:
            click.echo(json.dumps(words.as_dict(each, found.again.get(each.place))))
    elif not found.letters:
        click.echo("no dead letters" if all(value is None for value in chosen.values()) else "no such dead letters")
    else:
        for line in (*words.table(found), "", *words.summary(found)):
            click.echo(line)
    return say(f"not all of them: {found.unread}", 1) if found.unread else 0


@dead_letters.command()
@click.argument("name", type=_Name(), metavar="PARTITION:OFFSET")
@click.option("--content", is_flag=True, help="Show what it holds, too: the patient's text and number.")
@click.pass_obj
def show(settings: Callable[[], Settings], /, *, name: tuple[int, int], content: bool) -> None:
    """Show why a record is a dead letter, where it came from, its times and its headers."""
    chosen = settings()
    shelf = Shelf(chosen)
    (message,) = shelf.at([Place(shelf.topic, *name)])
    codec = deployment.codec(chosen) if content else None
    for line in words.described(message, codec, chosen.opt_out_requested_topic, chosen.region):
        click.echo(line)


@dead_letters.command("replay")
@click.argument("names", nargs=-1, type=_Name(), metavar="[PARTITION:OFFSET]...")
@click.option("--all", "everything", is_flag=True, help="All that no newer letter stands for, as the filters say.")
@_filters
@click.option("--dry-run", is_flag=True, help="Say what would be replayed, and do nothing.")
@click.option("--rate", metavar="N", type=click.IntRange(1, 100_000), help="At most N a second.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def replay_command(
    settings: Callable[[], Settings],
    /,
    *,
    names: tuple[tuple[int, int], ...],
    everything: bool,
    dry_run: bool,
    rate: float | None,
    yes: bool,
    **chosen: Any,
) -> int:
    """Send letters back to the topics that they came from, as they were, once what was wrong is repaired.

    They count from when they first came in: a STOP that is older than a START changes nothing, and a second replay
    changes nothing either. What still cannot be read becomes a new letter, which stands for the old one.
    """
    if everything == bool(names):
        raise click.UsageError("give either letters, as PARTITION:OFFSET, or --all")
    if names and any(value is not None for value in chosen.values()):
        raise click.UsageError("--reason, --since, --source and --limit go with --all")
    loaded = settings()
    shelf = Shelf(loaded)
    letters, refused = _chosen(loaded, shelf, names, Filter(**chosen))
    for why, count in refused.items():
        click.echo(f"optout: {count} cannot be replayed: {why}", err=True)
    failed = 1 if refused else 0
    if not letters:
        click.echo("nothing to replay")
        return failed
    if dry_run:
        click.echo(f"would replay {targets(letters)}")
        return failed
    if not yes and not _agreed(letters):
        click.echo("nothing was replayed")
        return 1
    done = replay(loaded, shelf, letters, rate=rate, show_progress=sys.stderr.isatty())
    gone = "" if done.done == done.of or done.interrupted else "; the others were deleted meanwhile"
    click.echo(f"{done.done} of {done.of} replayed{gone}")
    if done.interrupted:
        click.echo("optout: interrupted; the same command again does no harm", err=True)
        return 130
    return failed


def _chosen(
    settings: Settings, shelf: Shelf, names: tuple[tuple[int, int], ...], wanted: Filter
) -> tuple[list[Letter], Counter[str]]:
    """Return the letters to replay, and why others that were meant cannot be.

    Raises DeadLetterFault for one that was named and is not there or cannot be replayed: then nothing is.
    """
    if names:
        places = dict.fromkeys(Place(shelf.topic, *name) for name in names)
        letters = [letter.read(message) for message in shelf.at(places)]
    else:
        found = shelf.find(replace(wanted, limit=None))
        letters = found.open[-(wanted.limit or 0) :]
        if found.unread:
            raise DeadLetterFault(f"{found.unread}; nothing was replayed: name those that are to be, or wait")
    refused: Counter[str] = Counter()
    able = []
    for each in letters:
        why = why_not(each, settings, shelf.topics)
        if why is None:
            able.append(each)
        elif names:
            raise DeadLetterFault(f"{words.name(each.place)} cannot be replayed: {why}; nothing was replayed")
        else:
            refused[why] += 1
    return able, refused


def _agreed(letters: list[Letter]) -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask at: say --yes, or look first with --dry-run")
    return click.confirm(f"replay {targets(letters)}?", err=True)
