"""Why `optout serve` does not begin."""


class CannotListen(Exception):
    """The address is taken, or none of this machine; in a sentence."""
