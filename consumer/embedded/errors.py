"""What goes wrong with the embedded stack."""


class EmbeddedError(Exception):
    """One sentence for a person: what failed, where, and what to do about it."""
