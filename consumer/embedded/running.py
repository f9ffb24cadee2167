"""Where a stack that is kept running says so, so that commands in other terminals find it.

It is a settings file, as OPTOUT_CONFIG_FILE takes one, which the stack's process keeps locked: what a killed process
leaves behind is not taken for a stack that runs.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from consumer.embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_KAFKA: Final = "OPTOUT_KAFKA_"
_PREFIX: Final = "OPTOUT_"


def path() -> Path:
    """Return where the file of this user's running stack is, if one runs."""
    return Path(click.get_app_dir("sms-optout")) / "dev.toml"


def find() -> Path | None:
    """Return the settings file of the stack that this user keeps running, None if there is none."""
    try:
        descriptor = os.open(path(), os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:  # its owner lives
        return path()
    finally:
        os.close(descriptor)
    return None


@contextmanager
def announced(environment: Mapping[str, str]) -> Iterator[Path]:
    """Have the stack with these settings (OPTOUT_* variables) be found until the end; gives the file.

    Raises EmbeddedError where another one runs already, or the file cannot be written.
    """
    file = path()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)  # a URL of Redis may hold a password
    except OSError as problem:
        raise EmbeddedError(
            f"{file} cannot be written ({problem.strerror}): other commands find the stack by it"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise EmbeddedError(f"another stack runs already, see {file}: end it first") from None
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, as_toml(environment).encode())
        yield file
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)


def as_toml(environment: Mapping[str, str]) -> str:
    """Return OPTOUT_* variables as a settings file. A JSON string of plain characters is one of TOML, too."""
    ours = {name: value for name, value in environment.items() if name.startswith(_PREFIX)}
    plain = [
        f"{name.removeprefix(_PREFIX).lower()} = {json.dumps(v)}" for name, v in ours.items() if _KAFKA not in name
    ]
    kafka = [
        f"{json.dumps(name.removeprefix(_KAFKA).lower().replace('_', '.'))} = {json.dumps(v)}"
        for name, v in ours.items()
        if _KAFKA in name
    ]
    return "\n".join([*plain, "", "[kafka]", *kafka, ""])
