"""Children that end with their parent, and not before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from consumer.embedded.errors import EmbeddedError
from consumer.embedded.process import TIE, end, spawn

if TYPE_CHECKING:
    from pathlib import Path

    from consumer.embedded.process import Tie

TIES: list[Tie] = ["signal", "watch"] if TIE == "signal" else ["watch"]

PARENT = """
import sys, time
from pathlib import Path
from consumer.embedded.process import spawn
child = spawn([sys.executable, "-c", sys.argv[3]], output=Path(sys.argv[1]), tie=sys.argv[2])
print(child.pid, flush=True)
time.sleep(60)
"""

BEAT = """
import time
while True:
    print("alive", flush=True)
    time.sleep(0.02)
"""


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.mark.parametrize("tie", TIES)
def test_a_child_ends_with_its_killed_parent(tie: Tie, tmp_path: Path) -> None:
    """A child stops writing soon after its parent was killed, by either means."""
    output = tmp_path / "output"
    command = [sys.executable, "-c", PARENT, str(output), tie, BEAT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        deadline = time.monotonic() + 10
        while not size(output):
            assert time.monotonic() < deadline, "the child wrote nothing"
            time.sleep(0.02)
        time.sleep(0.5)
        living = size(output)
        assert living > len("alive\n") * 5
        parent.kill()
        parent.wait()
    time.sleep(1)
    dead = size(output)
    time.sleep(0.5)
    assert size(output) == dead


@pytest.mark.parametrize("tie", TIES)
def test_the_pid_is_the_programs_own(tie: Tie, tmp_path: Path) -> None:
    """The process that is returned is the program itself, in a session that Ctrl-C does not reach."""
    output = tmp_path / "output"
    script = "import os; print(os.getpid(), os.getsid(0))"
    child = spawn([sys.executable, "-c", script], output=output, tie=tie)
    assert child.wait(10) == 0
    assert output.read_text(encoding="utf-8").split() == [str(child.pid), str(child.pid)]
    assert os.getsid(0) != child.pid


def test_the_program_finds_its_environment_and_folder(tmp_path: Path) -> None:
    """A program gets the environment and the folder that it was given, and nothing else."""
    output = tmp_path / "output"
    script = "import os; print(os.environ['GIVEN'], os.getcwd(), 'HOME' in os.environ)"
    child = spawn([sys.executable, "-I", "-c", script], environment={"GIVEN": "this"}, folder=tmp_path, output=output)
    assert child.wait(10) == 0
    assert output.read_text(encoding="utf-8").split() == ["this", str(tmp_path), "False"]


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    """A program that is not there is one sentence."""
    with pytest.raises(EmbeddedError, match=r"cannot start .*nothing: no executable file is there"):
        spawn([str(tmp_path / "nothing")])


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A folder that is not there is one sentence, and the next child starts all the same."""
    with pytest.raises(EmbeddedError, match="No such file or directory"):
        spawn([sys.executable, "-c", ""], folder=tmp_path / "nowhere")
    assert spawn([sys.executable, "-c", ""]).wait(10) == 0


def test_end_collects_what_has_already_ended(tmp_path: Path) -> None:
    """Ending a mixture of children that run and that have ended leaves all of them ended, with their own exit codes."""
    ended = spawn([sys.executable, "-c", "raise SystemExit(3)"])
    ended.wait(10)
    running = spawn([sys.executable, "-c", BEAT], output=tmp_path / "output")
    end([ended, running], 5)
    assert (ended.returncode, running.returncode) == (3, -signal.SIGTERM)
