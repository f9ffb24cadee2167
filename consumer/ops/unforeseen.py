"""What can be said of an error that nobody foresaw."""

from __future__ import annotations

from pathlib import Path


def unexpected(problem: BaseException) -> str:
    """Return its type and place. Its text could quote a record."""
    trace, place = problem.__traceback__, "an unknown place"
    while trace is not None:
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"an unexpected {type(problem).__name__} at {place}; if it recurs, please report it"
