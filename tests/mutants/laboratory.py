"""Runs tests on a copy of the package from which a rule was taken out, and says whether they noticed.

The copy holds the tests, too, and stands in front of the installed package: what is imported, and what a test starts
as a process, is the copy. `witness` runs inside and writes down how each test failed, so that a mutant counts as found
only where a test's own assertion failed, and not where the copy could not be run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.mutants.mutant import Edit, Mutant

ROOT = Path(__file__).parents[2]
PARTS = ("consumer", "tests", "schemas", "pyproject.toml")
BYTECODE = shutil.ignore_patterns("__pycache__")
"""It would name the files that it was made from: an assertion of the copy would seem to be somebody else's."""
NOT_INSIDE = frozenset({"CI", "OPTOUT_TEST_REDIS"})
"""One kind of server is enough, and each run has one of its own: several run at once."""
PATIENCE_S = 15
"""How long a test of a mutant waits for what may never come. Without the mutation the same patience is enough."""
DEADLINE_S = 500


class DoesNotApply(Exception):
    """A mutation's text is not in its file exactly once: the code has changed, and the table has to follow."""


@dataclass(frozen=True, slots=True)
class Run:
    """What became of the tests: how many passed, which assertions failed, and what else went wrong, in words."""

    passed: int
    assertions: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def red(self) -> bool:
        """Whether the test noticed, by an assertion of its own."""
        return bool(self.assertions) and not self.broken

    @property
    def green(self) -> bool:
        """Whether there were tests and all of them passed."""
        return self.passed > 0 and not self.assertions and not self.broken

    @property
    def verdict(self) -> str:
        """Return it in a word: red, green, or broken, which is neither."""
        return "red" if self.red else "green" if self.green else "broken"

    def __str__(self) -> str:
        return ": ".join([self.verdict, *(self.broken or self.assertions)[:1]])


def edited(source: str, edit: Edit) -> str:
    """Return a file's text with one place changed. Raises DoesNotApply."""
    found = source.count(edit.before)
    if found != 1:
        raise DoesNotApply(f"consumer/{edit.file} holds this {found} times instead of once:\n{edit.before}")
    return source.replace(edit.before, edit.after)


def mutated(edits: Iterable[Edit]) -> dict[str, str]:
    """Return the changed files by their names within the package. Raises DoesNotApply."""
    texts: dict[str, str] = {}
    for edit in edits:
        text = texts.get(edit.file) or (ROOT / "consumer" / edit.file).read_text("utf-8")
        texts[edit.file] = edited(text, edit)
    return texts


def run_each(mutant: Mutant, kafka: str | None = None) -> list[Run]:
    """Run each test that must find this mutant, on its own. Raises DoesNotApply."""
    return [run(mutant.edits, [node], kafka) for node in mutant.tests]


def run(edits: Iterable[Edit], nodes: Sequence[str], kafka: str | None = None) -> Run:
    """Run these tests, up to the first that fails, on a copy of everything with these edits. Raises DoesNotApply.

    What is broken soon is run once more: on a busy machine a broker may not answer, which says nothing of the copy.
    """
    texts = mutated(edits)
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, copy / part, ignore=BYTECODE)
            else:
                shutil.copy2(ROOT / part, copy / part)
        for name, text in texts.items():
            (copy / "consumer" / name).write_text(text, "utf-8")
        found = _tested(copy, nodes, kafka)
        if found.broken and found.seconds < DEADLINE_S / 4:
            found = _tested(copy, nodes, kafka)
        return found


def _tested(copy: Path, nodes: Sequence[str], kafka: str | None) -> Run:
    report = copy / "report.json"
    report.unlink(missing_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if name not in NOT_INSIDE},
        "PYTHONPATH": str(copy),
        "OPTOUT_MUTANT_REPORT": str(report),
        "OPTOUT_TEST_PATIENCE": str(PATIENCE_S),
        **({} if kafka is None else {"OPTOUT_TEST_KAFKA": kafka}),
    }
    # A test that hangs takes its process with it: failed by a signal it would look as if it had found something.
    timeout = ["--timeout=120", "--timeout-method=thread"]
    options = ["-x", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "tests.mutants.witness", *timeout]
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *nodes],
            env=environment,
            cwd=copy,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Run(0, broken=[f"the tests did not end in {DEADLINE_S} s"], seconds=DEADLINE_S)
    seconds = time.monotonic() - began
    if not report.exists():
        last = (done.stdout + done.stderr).strip().splitlines()[-20:]
        return Run(0, broken=["pytest did not come to its end:\n" + "\n".join(last)], seconds=seconds)
    return Run(**json.loads(report.read_text("utf-8")), seconds=seconds)
