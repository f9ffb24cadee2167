"""The command `optout lint-templates`: what is wrong with templates of messages, before one of them is sent."""

from __future__ import annotations

import json
from json.decoder import JSONDecodeError, JSONDecoder
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import click

from consumer.domain.content import content_faults
from consumer.domain.words import printable
from consumer.simulate import read_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from consumer.domain.content import ContentFault

FORMAT_OF = {"": "text", ".txt": "text", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
"""The format of a file by the end of its name; another one has to be said."""
EXAMPLE = '{"name": "reminder", "text": "..."}'


class Template(NamedTuple):
    """A template: the line on which it begins, what it is called, where it has a name, and what it says."""

    line: int
    name: str | None
    text: str
    confirms_opt_out: bool = False


@click.command("lint-templates")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.File("rb"))
@click.option(
    "--format",
    "chosen",
    type=click.Choice(["text", "lines", "jsonl", "json"]),
    help="Said by the end of a file's name where this does not: .txt, .jsonl, .json.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, a line for each finding.")
def lint_templates(files: tuple[IO[bytes], ...], chosen: str | None, as_json: bool) -> int:  # noqa: FBT001 - click's
    """Say what is wrong with templates of automated messages: each must tell the patient about STOP. - is stdin.

    \b
    text    the whole file is one template
    lines   each line is one
    jsonl   each line is {"name": "...", "text": "..."}
    json    {"name": "text", ...}, or a list of {"name": "...", "text": "..."}

    The template that confirms an opt-out need not tell it again: give its object "confirms_opt_out": true.

    Exit 0: nothing is wrong. 1: something is, a line for each. 2: a file cannot be read as templates, nothing was said.
    """  # noqa: D301 - click's mark of what is not to be wrapped
    templates = [(file.name, template) for file in files for template in _read(file, chosen)]
    found = [
        (name, template, fault)
        for name, template in templates
        for fault in content_faults(template.text, confirms_opt_out=template.confirms_opt_out)
    ]
    for name, template, fault in found:
        click.echo(json.dumps(_as_dict(name, template, fault)) if as_json else _in_words(name, template, fault))
    wrong = len({(name, template) for name, template, _ in found})
    looked_at = f"{len(templates)} template{'s' * (len(templates) != 1)} looked at"
    click.echo(f"{looked_at}, {f'{wrong} of them with faults' if wrong else 'nothing is wrong'}", err=True)
    return 1 if found else 0


def _as_dict(file: str, template: Template, fault: ContentFault) -> dict[str, Any]:
    where = {"file": file, "line": template.line, "name": template.name}
    return {**where, "code": fault.code, "sentence": fault.sentence, "word": fault.word}


def _in_words(file: str, template: Template, fault: ContentFault) -> str:
    named = "" if template.name is None else f" ({printable(template.name)})"
    return f"{printable(file)}:{template.line}: {fault.code}: {fault.sentence}{named}"


def _read(file: IO[bytes], chosen: str | None) -> list[Template]:
    """Return the templates of a file, one at least. Raises UsageError, which quotes no text, for what is none."""
    suffix = "" if file.name == "<stdin>" else PurePath(file.name).suffix.lower()
    form = chosen or FORMAT_OF.get(suffix)
    if form is None:
        raise click.UsageError(f"{file.name}: say what is in it by --format: text, lines, jsonl or json")
    if form == "jsonl":
        templates = [_template(file.name, line, value) for line, value in read_lines(file, file.name)]
    else:
        text = _decoded(file)
        if chosen is None and form == "text" and len(text.strip().splitlines()) > 1:
            raise click.UsageError(  # one STOP would stand for all
                f"{file.name} has several lines: say --format text if they are one template, --format lines if each is"
            )
        templates = list(_TEMPLATES_OF[form](file.name, text))
    if not templates:
        raise click.UsageError(f"{file.name}: there is no template in it")
    return templates


def _decoded(file: IO[bytes]) -> str:
    content = file.read()
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise click.UsageError(f"{file.name}, line {line}: this is not UTF-8 text") from None


def _whole(_file: str, text: str) -> Iterator[Template]:
    if text.strip():
        yield Template(1, None, text)


def _line_by_line(_file: str, text: str) -> Iterator[Template]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield Template(number, None, line)


def _json(file: str, text: str) -> Iterator[Template]:
    """Return the templates of a JSON object or list. It is taken apart by hand: only so each has its line."""
    if not text.strip():
        return
    try:
        whole = json.loads(text)
        members = list(_members(text)) if isinstance(whole, dict | list) else None
    except JSONDecodeError as problem:
        raise click.UsageError(f"{file}, line {problem.lineno}: this is not JSON") from None
    except (ValueError, RecursionError):  # a number of thousands of digits is a ValueError, too
        raise click.UsageError(f"{file}: this is not JSON that can be read") from None
    if members is None:
        raise click.UsageError(f"{file}: this is neither a JSON object nor a list")
    seen: set[str] = set()
    for place, name, value in members:
        line = text.count("\n", 0, place) + 1
        template = _template(file, line, {"text": value} if isinstance(value, str) and name is not None else value)
        if name is not None:
            template = template._replace(name=name)
            if name in seen:
                raise click.UsageError(f"{file}, line {line}: there is another template of that name before it")
            seen.add(name)
        yield template


def _members(text: str) -> Iterator[tuple[int, str | None, Any]]:
    """Return each member of sound JSON: where it begins, its name in an object, and its value."""
    decoder, begin = JSONDecoder(), _behind(text, 0)
    at = _behind(text, begin + 1)
    while text[at] not in "]}":
        start, name = at, None
        if text[begin] == "{":
            name, at = decoder.raw_decode(text, at)
            at = _behind(text, _behind(text, at) + 1)  # the colon
        value, at = decoder.raw_decode(text, at)
        yield start, name, value
        at = _behind(text, at)
        at = _behind(text, at + 1) if text[at] == "," else at


def _behind(text: str, at: int) -> int:
    """Return where the white space of JSON that begins at a place ends."""
    while text[at] in " \t\r\n":
        at += 1
    return at


def _template(file: str, line: int, value: object) -> Template:
    where = f"{file}, line {line}"
    if not isinstance(value, dict):
        raise click.UsageError(f"{where}: this is not a template, as in {EXAMPLE}")
    text, name, confirms = value.get("text"), value.get("name"), value.get("confirms_opt_out", False)
    if not isinstance(text, str):
        raise click.UsageError(f'{where}: there is no "text" that is a text, as in {EXAMPLE}')
    if not isinstance(name, str | None):
        raise click.UsageError(f'{where}: its "name" is not a text')
    if not isinstance(confirms, bool):
        raise click.UsageError(f'{where}: its "confirms_opt_out" is neither true nor false')
    return Template(line, name, text, confirms)


_TEMPLATES_OF: dict[str, Callable[[str, str], Iterator[Template]]] = {
    "text": _whole,
    "lines": _line_by_line,
    "json": _json,
}
