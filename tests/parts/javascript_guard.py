"""The example in JavaScript as a guard: a `check.js` that keeps its connection and answers line by line."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any, Self

from consumer.guard import Unknown, VerdictKind

if TYPE_CHECKING:
    from tests.parts.javascript import JavaScript

END_DEADLINE_S = 10


def environment(url: str, **settings: object) -> dict[str, str]:
    """Return the environment of the example: `settings` are named as in it, in lower case."""
    own = {name.upper(): str(value) for name, value in settings.items()}
    others = {name: value for name, value in os.environ.items() if not name.startswith("OPTOUT_")}
    return {**others, "OPTOUT_REDIS_URL": url, **own}


class JavaScriptGuard:
    """Asks through `check.js`; a context manager, which ends it. Not for several threads at once."""

    def __init__(self, javascript: JavaScript, url: str, **settings: object) -> None:
        """`settings` are those of the example, `optout_buckets` for one."""
        self._process = subprocess.Popen(
            javascript.command("check.js"),
            env=environment(url, **settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            bufsize=1,
        )

    def answer(self, line: str) -> dict[str, Any]:
        """Return what it answers to a line. Raises RuntimeError if it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        if not (said := self._process.stdout.readline()):
            raise RuntimeError(f"check.js ended with {self._process.wait(END_DEADLINE_S)}")
        answer: dict[str, Any] = json.loads(said)
        return answer

    def check(self, location_id: str, number: str) -> tuple[VerdictKind, Unknown | None]:
        """Return the verdict on a number in E.164, and why it is UNKNOWN."""
        said = self.answer(json.dumps({"location_id": location_id, "number": number}))
        return VerdictKind(said["kind"]), said["reason"] and Unknown(said["reason"])

    def close(self) -> None:
        """End it in order. Raises subprocess.TimeoutExpired if it does not end."""
        try:
            self._process.communicate(timeout=END_DEADLINE_S)
        finally:
            self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
