"""How any command is run: what goes wrong becomes one sentence on stderr and an exit code, never a traceback."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

import click

from consumer.domain.phone import NotANumber
from consumer.embedded import running
from consumer.ops.terminal import say
from consumer.ops.unforeseen import unexpected
from consumer.settings import ConfigurationError, load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from consumer.settings import Settings

WRONG = (ConfigurationError, NotANumber)


def run(
    command: click.Command,
    arguments: Sequence[str],
    failed: tuple[type[Exception], ...],
    in_words: Callable[[Exception], str] = str,
) -> int:
    """Run a command and return its exit code. `failed` says of itself what went wrong, as `in_words` puts it."""
    _show_everything()
    try:
        answer = command.main(args=list(arguments), prog_name="optout", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        click.echo(help_wanted.format_message())
        answer = 2
    except click.Abort:
        answer = 130
    except click.ClickException as wrong:
        answer = say(wrong.format_message(), 2)
    except WRONG as wrong:
        answer = say(str(wrong), 2)
    except failed as problem:
        answer = say(in_words(problem), 1)
    except BrokenPipeError:  # whoever reads our answer has gone
        sys.stderr.close()
        answer = 1
    except OSError as problem:  # a full disk, for one
        answer = say(f"{problem.filename or 'the output'} cannot be read or written: {problem.strerror}", 1)
    except UnicodeError:
        answer = say("an argument or setting is not UTF-8 text", 2)
    except Exception as problem:  # noqa: BLE001 - a traceback could quote a patient
        answer = say(unexpected(problem), 1)
    return answer if isinstance(answer, int) else 0


def _show_everything() -> None:
    """Have characters that a terminal cannot show be shown by their numbers, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def settings() -> Settings:
    """Return the settings; where they name neither a Kafka nor a Redis, those of the stack that `optout dev` runs."""
    found = load()
    if found.kafka.get("bootstrap.servers") or found.redis_url is not None:
        return found
    file = running.find()
    if file is None:
        return found
    click.echo("(asking the stack that `optout dev` runs here, with its own settings)", err=True)
    return load(alone=file)
