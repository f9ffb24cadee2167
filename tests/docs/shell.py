"""What can be said of a command line without running it: its program is known, and takes these arguments."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import click

from consumer.cli import optout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parents[2]
JAVASCRIPT = ROOT / "examples" / "javascript"
_ASSIGNMENT = re.compile(r"[A-Z_][A-Z0-9_]*=")
_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[([\w,-]+)\])?")
_FILE_OPTIONS = ("-f", "--file", "--env-file", "-r", "--requirement")


def faults(text: str) -> list[str]:
    """Return a sentence on everything in these command lines that cannot be right."""
    return [fault for line in command_lines(text) for command in commands(line) for fault in _faults(command)]


def command_lines(text: str) -> list[str]:
    """Return the command lines, with those that are continued put together."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def commands(line: str) -> Iterator[list[str]]:
    """Return the words of each command of a line, without its assignments. Raises ValueError for an open quote."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    command: list[str] = []
    for word in [*lexer, ";"]:
        if word in (";", "&&", "||", "|", "&"):
            if command:
                yield command
            command = []
        elif command or not _ASSIGNMENT.match(word):
            command.append(word)


def is_command(line: str) -> bool:
    """Return whether this is a command line of a program that is known here."""
    try:
        first = next(commands(line), [""])
    except ValueError:
        return False
    return bool(_ASSIGNMENT.match(line)) or program(first) in CHECKS


def program(command: Sequence[str]) -> str:
    """Return the name of a command's program."""
    return command[0].rpartition("/")[2]


def _faults(command: Sequence[str]) -> list[str]:
    name = program(command)
    if name not in CHECKS:
        return [f"`{name}` is a program that tests/docs/shell.py does not know"]
    return CHECKS[name](list(command[1:]))


def make_faults(words: Sequence[str]) -> list[str]:
    """Return whether `make` knows what it is asked for."""
    tried = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return [tried.stderr.strip()] if tried.returncode else []


def optout_faults(words: Sequence[str]) -> list[str]:
    """Return whether the command line takes these arguments. Files that they name need not be there."""
    command, name, left = named(words)
    if isinstance(command, click.Group) and left and not left[0].startswith("-"):
        return [f"`{name}` has no command `{left[0]}`"]
    try:
        command.make_context(name, list(left))
    except (click.exceptions.Exit, click.exceptions.NoArgsIsHelpError):
        return []
    except click.BadParameter as wrong:
        return [] if wrong.param and isinstance(wrong.param.type, click.File) else [wrong.format_message()]
    except click.UsageError as wrong:
        return [wrong.format_message()]
    return []


def named(words: Sequence[str]) -> tuple[click.Command, str, Sequence[str]]:
    """Return the command that the first words name, its full name, and the words that are left."""
    command: click.Command = optout
    name = "optout"
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command, name, words = command.commands[words[0]], f"{name} {words[0]}", words[1:]
    return command, name, words


def pip_faults(words: Sequence[str]) -> list[str]:
    """Return whether what is installed is ours, with extras that exist, or something that ours needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *(need for extra in extras.values() for need in extra)]
    known = {project["name"], *(found[1] for need in needed if (found := _REQUIREMENT.match(need))), "uv"}
    wrong = []
    for word in words[1:]:
        found = _REQUIREMENT.fullmatch(word)
        if found is None:  # an option, a path
            continue
        wrong += [] if found[1] in known else [f"{found[1]} is not among our dependencies"]
        wrong += [
            f"there is no extra `{extra}`" for extra in (found[2] or "").split(",") if extra and extra not in extras
        ]
    return wrong


def python_faults(words: Sequence[str]) -> list[str]:
    """Return whether the module or file that is run is there."""
    if words[:1] == ["-m"]:
        if words[1] == "pip":
            return pip_faults(words[2:])
        missing = [word for word in words[2:] if "/" in word and not (ROOT / word).exists()]
        try:
            found = importlib.util.find_spec(words[1])
        except ModuleNotFoundError:  # nor what it should lie in
            found = None
        return [f"there is no {word}" for word in missing] + ([] if found else [f"there is no module {words[1]}"])
    return [f"there is no {word}" for word in words[:1] if not word.startswith("-") and not (ROOT / word).exists()]


def node_faults(words: Sequence[str]) -> list[str]:
    """Return whether the file that is run is one of the example's."""
    return [f"there is no examples/javascript/{word}" for word in words[:1] if not (JAVASCRIPT / word).exists()]


def npm_faults(words: Sequence[str]) -> list[str]:
    """Return whether npm is told to install what is locked, or to run a script that is there."""
    scripts = json.loads((JAVASCRIPT / "package.json").read_text("utf-8"))["scripts"]
    return [] if words and words[0] in {"ci", *scripts} else [f"`npm {' '.join(words)}` is nothing of the example's"]


def file_faults(words: Sequence[str]) -> list[str]:
    """Return whether the files that options name are there."""
    named_files = [word for option, word in pairwise(words) if option in _FILE_OPTIONS]
    return [f"there is no {file}" for file in named_files if file != "-" and not (ROOT / file).exists()]


def anything(words: Sequence[str]) -> list[str]:
    """Return nothing: this program's arguments are not ours to judge."""
    return []


CHECKS: dict[str, Callable[[Sequence[str]], list[str]]] = {
    **dict.fromkeys(
        ("cat", "cd", "cp", "curl", "echo", "git", "grep", "head", "jq", "mkdir", "sleep", "tail"), anything
    ),
    **dict.fromkeys(("lint-imports", "mypy", "redis-cli", "ruff", "source"), anything),
    **dict.fromkeys(("docker", "helm", "kubectl"), file_faults),
    **dict.fromkeys(("pip", "pipx"), pip_faults),
    **dict.fromkeys(("python", "python3"), python_faults),
    "export": anything,  # the variables are looked at wherever they stand
    "make": make_faults,
    "node": node_faults,
    "npm": npm_faults,
    "optout": optout_faults,
}
"""What is known of each program that documents may name."""
