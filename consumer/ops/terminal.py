"""What a person at a terminal sees beside an answer: a progress bar, and why there is no answer."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr until the end. Gives what moves it: how much is done, and of how much."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=min(done, total), total=total)


def say(sentences: str, code: int) -> int:
    """Tell a person on stderr what went wrong, a line a sentence, and return the exit code."""
    for sentence in sentences.splitlines():
        click.echo(f"optout: {sentence}", err=True)
    return code
