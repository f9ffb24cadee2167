"""Demo."""

from __future__ import annotations


def demo() -> int:
    """Show."""
    return 0
