"""Why a part of the test bench cannot be had."""


class PartMissing(Exception):  # noqa: N818 # not an error: the tests that need the part are left out, in words
    """A part is not on this machine and cannot be fetched: one clause that says what to install."""


class PartRefused(Exception):  # noqa: N818 # named beside its twin
    """A part is there, but must not be used: one sentence that says why. Ends the run."""
