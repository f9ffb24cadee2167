"""Why a part of the test bench cannot be had."""


class PartMissing(Exception):
    """A part is not on this machine and cannot be fetched: one clause that says what to install."""


class PartRefused(Exception):
    """A part is there, but must not be used: one sentence that says why. Ends the run."""
