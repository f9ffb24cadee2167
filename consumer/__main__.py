"""The command `optout`. What goes wrong is one sentence on stderr and an exit code, never a traceback."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line."""
    for name in ("stdin", "stdout", "stderr"):  # closed by whoever started us: libraries count on all three
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+", encoding="utf-8"))  # noqa: SIM115, PTH123 - open until the end
    try:
        from consumer.cli import run  # noqa: PLC0415 - a plain install has the guard alone
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("consumer"):
            raise
        print(  # noqa: T201 - nothing to log with
            f"optout: the command needs more than the guard ({missing.name} is missing): install sms-optout[worker]",
            file=sys.stderr,
        )
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
