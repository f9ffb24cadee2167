"""What the documents' examples are true of: a deployment with a STOP in it, and a folder to stand in."""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.parts.system import TOPICS

if TYPE_CHECKING:
    import pytest

    from tests.parts.system import System

WHO_STOPPED = "+12025550143"
BUCKETS = 64
"""Documents say nothing of the number of buckets where it is the default."""

_MADE_UP = re.compile(
    r"(?P<redis>rediss?://[^\s\"'`]+)"
    r"|(?P<kafka>\b(?:kafka[\w.-]*|localhost|127\.0\.0\.1):\d+(?:,[\w.-]+:\d+)*)"
    rf"|(?P<topic>\b(?:{'|'.join(sorted(map(re.escape, TOPICS.values()), key=len, reverse=True))})\b)"
)
"""The servers and topics of examples."""


class World:
    """A deployment in the state that the documents speak of, and a folder to stand in."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system = system
        self.folder = folder
        commands = Path(sys.executable).parent
        self.environment = {**system.environment, "PATH": f"{commands}:{os.environ['PATH']}"}

    def here(self, text: str) -> str:
        """Return an example with this world's servers and topics in place of the made-up ones."""
        ours = {"redis": self.system.redis_url, "kafka": self.system.bootstrap}
        return _MADE_UP.sub(lambda found: ours.get(str(found.lastgroup), self.system.prefix + found[0]), text)

    def shown(self, said: str) -> str:
        """Return what was said with the documents' names of the topics."""
        return said.replace(self.system.prefix, "")


def saved(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what a piece of Python defines that somebody saved into this folder."""
    file = folder / "reader.py"
    file.write_text(text)
    monkeypatch.chdir(folder)
    return runpy.run_path(str(file))
