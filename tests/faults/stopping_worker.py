"""`optout worker` with a trap in it: it kills or stops itself at the step that the environment names."""

from __future__ import annotations

import os
import sys

from consumer.cli import run
from tests.faults.points import prepare, trap_of

if __name__ == "__main__":
    prepare(trap_of(os.environ))
    sys.exit(run(["worker"]))
