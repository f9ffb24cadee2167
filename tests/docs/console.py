"""Console blocks: commands behind a `$`, each with the output that it is shown to have."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.docs import shell

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.docs.documents import Block

PROMPT = "$ "
RUNNABLE = frozenset({"optout", "echo", "export"})
"""The programs that are run as they stand. A block with any other is only looked over."""

_VARYING = {
    r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}\b": "<time>",
    r"\b1[0-9]{12}\b": "<ms>",
    r"\b[0-9]+\.[0-9]+\b": "<number>",
    r"\b[0-9a-f]{32}\b": "<id>",
}
"""What differs from run to run: times, ages, ids. Documents write `...` for whatever else does."""

_MARK = "\x1e"


@dataclass
class Step:
    """One command, and the lines that follow it."""

    command: str
    output: list[str] = field(default_factory=list)


def steps(text: str) -> list[Step]:
    """Return the commands of a console block. Lines in front of the first are none."""
    found: list[Step] = []
    for line in text.splitlines():
        if line.startswith(PROMPT):
            found.append(Step(line.removeprefix(PROMPT)))
        elif found and found[-1].command.endswith("\\"):
            found[-1].command = f"{found[-1].command[:-1]} {line.lstrip('> ')}"
        elif found:
            found[-1].output.append(line.rstrip())
    return found


def can_run(block: Block) -> bool:
    """Return whether this is a block whose every command is run."""
    if block.kind != "console":
        return False
    programs = [shell.program(command) for step in steps(block.text) for command in shell.commands(step.command)]
    return RUNNABLE.issuperset(programs)


def run(lines: list[Step], *, environment: Mapping[str, str], folder: Path, seconds: float = 60.0) -> list[str]:
    """Run the commands in one shell, one after the other, and return what each of them said."""
    script = "".join(f"{step.command} 2>&1\n_code=$?; printf '{_MARK}'; (exit $_code)\n" for step in lines)
    done = subprocess.run(
        ["bash", "-c", script],
        env=dict(environment),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert not done.stderr, done.stderr
    return [said.strip("\n") for said in done.stdout.split(_MARK)[:-1]]


def matches(shown: list[str], said: str) -> bool:
    """Return whether this is what was shown: `...` stands for anything, and what varies by nature may."""
    pattern = re.escape(_normal("\n".join(shown).strip("\n"))).replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, _normal(said), re.DOTALL) is not None


def _normal(text: str) -> str:
    for varying, name in _VARYING.items():
        text = re.sub(varying, name, text)
    return "\n".join(line.rstrip() for line in text.splitlines())
