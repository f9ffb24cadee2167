"""Where a stack that is kept running says so, so that commands in other terminals find it.

It is a settings file, as OPTOUT_CONFIG_FILE takes one, which the stack's process keeps locked: what a killed process
leaves behind is not taken for a stack that runs. Only this user's own plain file counts.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from consumer.embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_KAFKA: Final = "OPTOUT_KAFKA_"
_PREFIX: Final = "OPTOUT_"
_CAREFULLY: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
LOCK_WITHIN_S: Final = 0.5
"""For how long a lock may be held by somebody who only looks."""


def path() -> Path:
    """Return where the file of this user's running stack is, if one runs."""
    folder = Path(click.get_app_dir("sms-optout"))
    if not folder.is_absolute():  # an empty or relative XDG_CONFIG_HOME counts as unset
        folder = Path.home() / ".config" / "sms-optout"
    return folder / "dev.toml"


def find() -> Path | None:
    """Return the settings file of the stack that this user keeps running, None if there is none."""
    file = path()
    try:
        descriptor = os.open(file, os.O_RDONLY | _CAREFULLY)
    except OSError:
        return None
    try:
        return file if _is_our_own(descriptor) and not _lock(descriptor, fcntl.LOCK_SH) else None
    finally:
        os.close(descriptor)


@contextmanager
def announced() -> Iterator[Callable[[Mapping[str, str]], Path]]:
    """Be the one stack of this user until the end. Gives what announces it, by its settings (OPTOUT_* variables).

    Raises EmbeddedError where another one runs already, or the file cannot be written.
    """
    file = path()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = _claim(file)
    except OSError as problem:
        raise EmbeddedError(
            f"{file} cannot be written ({problem.strerror}), and other commands find the stack by it: set "
            "XDG_CONFIG_HOME to a folder of yours"
        ) from None

    def announce(environment: Mapping[str, str]) -> Path:
        os.write(descriptor, as_toml(environment).encode())
        return file

    try:
        yield announce
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)


def _claim(file: Path) -> int:
    """Return a descriptor of the file, empty, ours alone and locked. Raises OSError, EmbeddedError if it is taken."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | _CAREFULLY, 0o600)
        refusal = _refusal(descriptor, file)
        if refusal is None and file.exists() and file.stat().st_ino == os.fstat(descriptor).st_ino:
            os.fchmod(descriptor, 0o600)  # a URL of Redis may hold a password
            os.truncate(descriptor, 0)
            return descriptor
        os.close(descriptor)
        if refusal is not None:
            raise EmbeddedError(refusal)
        # Else it was removed by the one who had it until now: make another.


def _refusal(descriptor: int, file: Path) -> str | None:
    if not _is_our_own(descriptor):
        return f"{file} is somebody else's, or no plain file: remove it"
    if not _lock(descriptor, fcntl.LOCK_EX, within=LOCK_WITHIN_S):
        return f"another stack runs already, see {file}: end it first"
    return None


def _is_our_own(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid()


def _lock(descriptor: int, kind: int, within: float = 0.0) -> bool:
    """Whether the lock could be had."""
    deadline = time.monotonic() + within
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


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
