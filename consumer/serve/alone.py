"""`optout` where nothing of the worker is installed: the command `serve`, and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from consumer import commandline
from consumer.embedded.errors import EmbeddedError
from consumer.ops import logs
from consumer.serve.commands import serve
from consumer.serve.errors import CannotListen

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    return commandline.run(optout, arguments, (CannotListen, EmbeddedError))


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="The other commands come with sms-optout[worker].",
)
@click.version_option(package_name="sms-optout", prog_name="optout")
@click.pass_context
def optout(context: click.Context) -> None:
    """Keep a patient's STOP: no message passes from the location that it was sent to, until the patient texts START."""
    logs.configure("warning", client=False)
    context.obj = commandline.settings


optout.add_command(serve)
