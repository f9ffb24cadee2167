"""The command `optout`. What goes wrong is one sentence on stderr and an exit code, never a traceback."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OF_THE_WORKER = ("confluent_kafka", "fastavro", "yaml")
"""What sms-optout[worker] brings and sms-optout[serve] does without."""


def main() -> None:
    """Run the command line."""
    for name in ("stdin", "stdout", "stderr"):  # closed by whoever started us: libraries count on all three
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+", encoding="utf-8"))  # noqa: SIM115, PTH123 - open until the end
    try:
        run = _commands()
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("consumer"):
            raise
        print(  # noqa: T201 - nothing to log with
            f"optout: the command needs more than the guard ({missing.name} is missing): install sms-optout[worker], "
            "or sms-optout[serve] for `optout serve` alone",
            file=sys.stderr,
        )
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))


def _commands() -> Callable[[Sequence[str]], int]:
    """Return what runs commands: all of them, or where nothing of the worker is installed `serve`."""
    gc.disable()  # what modules make stays: to look through it again and again takes a fifth of a start
    try:
        from consumer.cli import run  # noqa: PLC0415 - a plain install has the guard alone
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in OF_THE_WORKER:
            raise
        from consumer.serve.alone import run  # noqa: PLC0415 - as above
    gc.freeze()
    gc.enable()
    return run


if __name__ == "__main__":
    main()
