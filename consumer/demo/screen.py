"""How the demo looks: colours, columns and a table at a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from consumer.demo.day import NOWHERE
from consumer.domain.phone import masked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from consumer.demo.day import Line, Send
    from consumer.demo.outcome import Outcome
    from consumer.guard import Verdict

STYLES: Final = {"out": "bold red", "in": "bold green", "review": "yellow", "dead": "magenta", "talk": "dim"}
VERDICTS: Final = {"ALLOWED": "green", "SUPPRESSED": "red", "UNKNOWN": "bold yellow"}
NAMES: Final = {
    "oak-street": "Oak Street Dental",
    "harbour": "Harbour Children",
    "hillside": "Hillside Heart",
    NOWHERE: "(no practice)",
}
WIDE: Final = 400
"""For what is no terminal: a line is a line, however long."""
NARROWEST: Final = 80
"""Columns that the table needs; with fewer, each figure has a line."""
ROOMY: Final = 100
"""Columns from which on what became of a text stands beside it."""
PICTURE_COLUMNS: Final = 124
SVG: Final = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""A picture that loads nothing from anywhere; the library's own asks for a font."""


class Screen:
    """Where the demo is shown; with `picture`, also drawn into it at the end, as SVG."""

    def __init__(self, picture: Path | None = None) -> None:
        self._picture = picture
        if picture is not None:
            self._console = Console(record=True, force_terminal=True, width=PICTURE_COLUMNS, highlight=False)
        else:
            width = None if sys.stdout.isatty() else WIDE
            self._console = Console(width=width, highlight=False, soft_wrap=width is not None)

    def say(self, sentence: str, style: str = "") -> None:
        """Show a sentence."""
        self._console.print(sentence, style=style, markup=False)

    def waiting(self, what: str) -> AbstractContextManager[object]:
        """Show that something is waited for; nothing where there is no terminal."""
        return nullcontext() if self._picture else self._console.status(what)

    def hour(self, begins: str) -> None:
        """Show that an hour begins."""
        self._console.print()
        self._console.print(begins, style="bold")

    def line(self, line: Line, outcome: Outcome) -> None:
        """Show a text and what became of it."""
        body = "(bytes that are no text)" if isinstance(line.body, bytes) else f"“{line.body}”"
        late = f" sent {line.sent}" if line.sent else ""
        again = " once more" if line.again else ""
        patient = masked(line.patient) if line.patient.startswith("+") else "?"
        self._row(line.arrives, line.location, f"{patient:6}{body}{late}{again}", outcome.why, STYLES[outcome.kind])

    def others(self, others: int, changed: int, reviews: int) -> None:
        """Show in a line what else arrived in this hour."""
        self._row(
            "",
            None,
            f"      … and {others} others",
            f"{changed} changes, {reviews} to staff, nothing else changes",
            "dim",
        )

    def send(self, send: Send, verdicts: Sequence[tuple[str, Verdict]]) -> None:
        """Show which of the texts that a practice wanted to send may go out."""
        kinds = [str(verdict.kind) for _, verdict in verdicts]
        if len(verdicts) == 1:
            said, style = kinds[0], VERDICTS[kinds[0]]
            to = masked(verdicts[0][0])
        else:
            counts = {kind: kinds.count(kind) for kind in VERDICTS if kind in kinds}
            said = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            to, style = str(len(verdicts)), "bold"
        note = f" ({send.note})" if send.note else ""
        self._row(send.at, send.location, f"{to:6}{send.what}", f"guard: {said}{note}", style)

    def _row(self, at: str, location: str | None, what: str, why: str, style: str) -> None:
        """Show a row; at a narrow terminal what became of it stands below."""
        cells = [Text(f"  {at}"), Text("" if location is None else NAMES[location]), Text(what)]
        outcome = Text(f"→ {why}", style=style)
        row = Table.grid(padding=(0, 1))
        for width in (7, 19, 33):
            row.add_column(width=width)
        if self._console.width >= ROOMY:
            row.add_column()
            row.add_row(*cells, outcome)
            self._console.print(row)
        else:
            row.add_row(*cells)
            self._console.print(row, Padding(outcome, (0, 0, 0, 8)))

    def summary(self, columns: Sequence[str], rows: Mapping[str, Sequence[int]]) -> None:
        """Show the table at the end: a row for each practice, and one for all."""
        self._console.print()
        if self._console.width < NARROWEST:  # a figure that is cut is another figure
            for location, figures in rows.items():
                self._console.print(NAMES.get(location, location), style="bold")
                for column, figure in zip(columns, figures, strict=True):
                    self._console.print(f"  {column:14}{figure}")
            return
        table = Table(box=box.SIMPLE_HEAD if self._console.is_terminal else None, collapse_padding=True)
        table.add_column("practice", no_wrap=True, min_width=17)
        for column in columns:
            table.add_column(column.replace(" ", "\n") if self._console.is_terminal else column, justify="right")
        for location, figures in rows.items():
            table.add_row(NAMES.get(location, location), *map(str, figures), style="bold" if location == "all" else "")
        self._console.print(table)

    def close(self) -> None:
        """Draw the picture, if one is wanted."""
        if self._picture is not None:
            drawn = self._console.export_svg(title="make demo", code_format=SVG, unique_id="demo")
            self._picture.write_text(drawn, encoding="utf-8")
