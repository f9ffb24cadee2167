"""Where the tests' chance comes from: the same draws at each run, unless somebody goes exploring.

A newcomer's run must not be red by chance, so `make test` and CI draw from fixed seeds. `make prove` explores: it sets
OPTOUT_TEST_EXPLORE, draws anew, tries ten times as many examples, and its header prints the OPTOUT_TEST_SEED that
repeats it.
"""

from __future__ import annotations

import os
import random
import zlib

from hypothesis import settings

EXPLORE, SEED = "OPTOUT_TEST_EXPLORE", "OPTOUT_TEST_SEED"
REPEATABLE, EXPLORING = "repeatable", "exploring"
MORE_EXAMPLES = 10


def exploring() -> bool:
    """Return whether this run is to find something new."""
    return bool(os.environ.get(EXPLORE))


def base_seed() -> int:
    """Return the seed that every other one comes from: the one that was given, a new one to explore with, or 0.

    A new one is written into the environment, where the processes that pytest starts find it.
    """
    if SEED not in os.environ and exploring():
        os.environ[SEED] = str(random.SystemRandom().randrange(1, 2**31))
    return int(os.environ.get(SEED) or 0)


def seed_of(name: str) -> int:
    """Return the seed of one test: another for each name, the same at each run with the same base seed."""
    return zlib.crc32(f"{base_seed()}/{name}".encode())


def times(count: int) -> int:
    """Return how often to try what may go wrong by chance alone: that often, and more where this run explores."""
    return count * MORE_EXAMPLES if exploring() else count


def load_profile() -> None:
    """Give Hypothesis its settings. No example has a deadline: a busy machine is not a fault."""
    settings.register_profile(REPEATABLE, derandomize=True, database=None, deadline=None, print_blob=True)
    settings.register_profile(
        EXPLORING, database=None, deadline=None, print_blob=True, max_examples=MORE_EXAMPLES * settings().max_examples
    )
    settings.load_profile(EXPLORING if exploring() else REPEATABLE)


def report() -> str:
    """Return the line of the header: which draws these are, and how to have them again."""
    seed = base_seed()
    if exploring():
        return f"exploring: the same draws again with {EXPLORE}=1 {SEED}={seed}"
    return "draws are the same at each run" + (f" with {SEED}={seed}" if seed else "")
