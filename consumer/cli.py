"""Every command: what it is called, what it takes, what it answers. No logic stands here.

Exit codes: 0 well, 1 it failed, 2 it was used or set up wrongly; `check` has two of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import click

from consumer import app, commandline, deployment, guarding
from consumer.access_checks import remarks
from consumer.checks import check_config
from consumer.dead_letters.commands import dead_letters
from consumer.dead_letters.reading import DeadLetterFault
from consumer.domain.buckets import is_location
from consumer.domain.keywords import Keywords
from consumer.embedded.errors import EmbeddedError
from consumer.guard import Unknown, VerdictKind
from consumer.history import as_dict, history, in_words
from consumer.maintenance.commands import maintenance
from consumer.maintenance.window import NotOpened
from consumer.offsets.commands import offsets
from consumer.offsets.setting import NotSet
from consumer.ops import logs
from consumer.ops.terminal import say
from consumer.recovery.commands import rebuild, verify
from consumer.recovery.rebuild import NotRebuilt
from consumer.recovery.verify import CannotCompare
from consumer.rights.commands import kafka_acl, redis_acl
from consumer.serve.commands import serve
from consumer.serve.errors import CannotListen
from consumer.settings import ConfigurationError, load
from consumer.simulate import Refused, await_read, read_lines, simulate
from consumer.skipping.commands import skip
from consumer.skipping.finding import NotSkipped
from consumer.templates import lint_templates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from consumer.guard import Verdict

FAILED = (
    *deployment.FAULTS,
    CannotCompare,
    CannotListen,
    DeadLetterFault,
    EmbeddedError,
    NotOpened,
    NotRebuilt,
    NotSkipped,
    NotSet,
    Refused,
)

WORTH_SAYING_S = 5.0
"""An age from which on `check` says how old its answer is: with workers running it is about a second."""


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    return commandline.run(optout, arguments, FAILED, deployment.in_words)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sms-optout", prog_name="optout")
@click.pass_context
def optout(context: click.Context) -> None:
    """Keep a patient's STOP: no message passes from the location that it was sent to, until the patient texts START.

    Settings come from the environment (OPTOUT_REDIS_URL, OPTOUT_KAFKA_BOOTSTRAP_SERVERS, ...) or from the TOML file
    that OPTOUT_CONFIG_FILE names; README.md lists them all.
    """
    logs.configure("warning", client=False)
    context.obj = commandline.settings  # for commands that stand in a file of their own


@optout.command()
@click.option("--only", type=click.Choice(["classify", "apply"]), help="Run one of the two stages.")
def worker(only: Literal["classify", "apply"] | None) -> int:
    """Run a worker: classify inbound texts, keep the suppression set, publish what changed. SIGTERM ends it cleanly."""
    settings = load()
    logs.configure(settings.log_level)
    return app.run_worker(settings, only)


@optout.command("check-config")
def check_config_command() -> int:
    """Say all that is wrong with the settings at once, and try to connect with them.

    Besides, and without any effect on the exit code: who may write to the ledger and to the topic of skips.
    """
    faults = check_config()
    for sentence in (*faults, *remarks()):
        say(sentence, 1)
    if not faults:
        click.echo("the settings are sound; Kafka and Redis answer")
    return 1 if faults else 0


@optout.group()
def topics() -> None:
    """Look after the topics."""


@topics.command()
def create() -> None:
    """Create the topics that are missing, register schemas, and refuse a ledger that could lose records."""
    done = deployment.create_topics(load())
    for sentence in done or ["nothing to do: every topic is there, and the ledger is sound"]:
        click.echo(sentence)


@optout.command()
@click.argument("location")
@click.argument("numbers", nargs=-1, required=True, metavar="NUMBER...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def check(location: str, numbers: tuple[str, ...], as_json: bool) -> int:  # noqa: FBT001 - click's
    """Ask whether LOCATION may text each NUMBER now. Needs the settings of Redis only.

    Exit 0: all ALLOWED. 3: any SUPPRESSED. 4: none of those, but any UNKNOWN. Only ALLOWED may send.
    """
    if not is_location(location):
        raise click.UsageError("LOCATION is empty or too long")
    settings = commandline.settings()
    verdicts = guarding.guard(settings).check_many(location, numbers)
    if any(verdict.reason is Unknown.WRONG_MODE for verdict in verdicts):
        if settings.redis_mode == "sentinel":
            raise ConfigurationError(
                "OPTOUT_REDIS_MODE is sentinel, and OPTOUT_REDIS_URL names no Sentinels, or none that know the service "
                f"{settings.redis_service}: `optout check-config` says which"
            )
        other = "cluster" if settings.redis_mode == "standalone" else "standalone"
        raise ConfigurationError(f"OPTOUT_REDIS_MODE is {settings.redis_mode}, and this Redis wants {other}")
    for number, verdict in zip(numbers, verdicts, strict=True):
        click.echo(json.dumps(_verdict(number, verdict)) if as_json else _verdict_line(number, verdict))
    kinds = {verdict.kind for verdict in verdicts}
    if VerdictKind.SUPPRESSED in kinds:
        return 3
    return 4 if VerdictKind.UNKNOWN in kinds else 0


def _verdict(number: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "number": number,
        "verdict": verdict.kind,
        "reason": verdict.reason,
        "at": verdict.at,
        "age": verdict.age,
        "in_maintenance": verdict.in_maintenance,
    }


def _verdict_line(number: str, verdict: Verdict) -> str:
    because = f"  ({verdict.reason})" if verdict.reason else ""
    if verdict.in_maintenance:
        because = f"  (as of {verdict.age:.0f} s ago: maintenance)"
    elif verdict.kind is VerdictKind.ALLOWED and verdict.age and verdict.age > WORTH_SAYING_S:
        because = f"  (as of {verdict.age:.0f} s ago: no worker has vouched since)"
    return f"{number}  {verdict.kind}{because}"


@optout.command()
@click.argument("body", required=False)
@click.option(
    "--stdin", "lines", is_flag=True, help='Read JSON lines {"body": "..."}, answer a line for each, in order.'
)
def explain(body: str | None, lines: bool) -> None:  # noqa: FBT001 - click's
    """Say what a text with this BODY would do, as JSON: its action, and the keyword that it is."""
    if (body is None) != lines:
        raise click.UsageError("give either a BODY or --stdin")
    keywords = Keywords()
    bodies = _bodies(sys.stdin.buffer) if body is None else iter([body])
    for text in bodies:
        click.echo(json.dumps(_explained(keywords, text)))


def _explained(keywords: Keywords, body: str) -> dict[str, Any]:
    keyword = keywords.recognise(body)
    if keyword is None:
        near = keywords.near_miss(body)
        return {"action": "NONE", "keyword": None, "near_miss": near, "pack": keywords.pack.name}
    return {
        "action": keyword.action,
        "keyword": keyword.word,
        "near_miss": None,
        "pack": keyword.pack,
        "rule": keyword.rule,
    }


def _bodies(stream: IO[bytes]) -> Iterator[str]:
    for number, value in read_lines(stream, "standard input"):
        body = value.get("body")
        if not isinstance(body, str):
            raise click.UsageError(f'standard input, line {number}: there is no "body" that is a text')
        yield body


@optout.command("simulate")
@click.argument("location", required=False)
@click.argument("number", required=False)
@click.argument("body", required=False)
@click.option(
    "--file",
    "file",
    metavar="FILE",
    type=click.File("rb"),
    help="JSON lines of inbound messages; - is stdin.",
)
@click.option(
    "--wait/--no-wait",
    "wait",
    default=None,
    help="Wait until it is in force; a single text is waited for by default, where the settings name a Redis.",
)
def simulate_command(
    location: str | None,
    number: str | None,
    body: str | None,
    file: IO[bytes] | None,
    wait: bool | None,  # noqa: FBT001 - click's
) -> None:
    """Publish inbound texts as a patient's phone would, on clusters for trying out: LOCATION NUMBER BODY, or --file.

    A line of the file has location_id, patient_number and body, and may have message_id, location_number, received_at
    (ms), provider and provider_opt_out_type.
    """
    if file is None and (location is None or number is None or body is None):
        raise click.UsageError("give LOCATION NUMBER BODY, or --file FILE")
    if file is not None and location is not None:
        raise click.UsageError("give either LOCATION NUMBER BODY or --file FILE, not both")
    texts = (
        (value for _, value in read_lines(file, file.name))
        if file is not None
        else iter([{"location_id": location, "patient_number": number, "body": body}])
    )
    settings = commandline.settings()
    if wait:
        settings.require_redis()  # before anything is published
    sent = simulate(settings, texts, show_progress=file is not None and sys.stderr.isatty())
    click.echo(f"{sent.messages} message{'s' * (sent.messages != 1)} published")
    if sent.messages and (wait or (wait is None and file is None and settings.redis_url is not None)):
        seconds = await_read(settings, sent.locations)
        click.echo(f"{'read' if sent.nameless else 'in force'} after {seconds:.1f} s")
    if sent.nameless:
        click.echo(
            f"{sent.nameless} of them name no location or no number: a keyword among them becomes a dead letter",
            err=True,
        )


@optout.command("history")
@click.argument("location")
@click.argument("number")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, a line for each record.")
def history_command(location: str, number: str, as_json: bool) -> int:  # noqa: FBT001 - click's
    """Show every keyword that NUMBER texted to LOCATION, and what it changed, from the ledger.

    Needs the settings of Kafka only. It says what the ledger says: whether a send may happen now, `check` says.
    """
    if not is_location(location):
        raise click.UsageError("LOCATION is empty or too long")
    found = history(commandline.settings(), location, number)
    if as_json:
        for step in found.steps:
            click.echo(json.dumps(as_dict(step)))
    else:
        for line in in_words(found):
            click.echo(line)
    return say(found.stopped, 1) if found.stopped else 0


optout.add_command(serve)
optout.add_command(lint_templates)
optout.add_command(dead_letters)
optout.add_command(maintenance)
optout.add_command(verify)
optout.add_command(rebuild)
optout.add_command(skip)
optout.add_command(offsets)
optout.add_command(redis_acl)
optout.add_command(kafka_acl)


@optout.command("dev")
@click.option(
    "--workers", metavar="N", type=click.IntRange(1, 16), default=1, show_default=True, help="How many workers to run."
)
def dev_command(workers: int) -> int:
    """Keep an embedded Kafka, a Redis and workers running until Ctrl-C, to try things out.

    `simulate`, `check` and `history` find it by themselves, where no Kafka and no Redis are set.
    """
    from consumer.dev import dev  # noqa: PLC0415 - the embedded stack is loaded by nothing else

    _end_in_order()
    return dev(workers)


@optout.command()
@click.option(
    "--svg",
    "picture",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw it into this file, too.",
)
def demo(picture: Path | None) -> int:
    """Show a day at three practices on an embedded Kafka and Redis: texts, what became of them, sends, and a check."""
    from consumer.demo import demo as show  # noqa: PLC0415 - the embedded stack is loaded by nothing else

    if picture is not None and not os.access(picture.absolute().parent, os.W_OK):
        raise click.UsageError(f"--svg: nothing can be written into {picture.absolute().parent}")
    _end_in_order()
    return show(picture)


def _end_in_order() -> None:
    """Take a SIGTERM, and the end of the terminal, for a Ctrl-C: what was started is ended, and its data removed."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
