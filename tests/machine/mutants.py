"""The product with one rule taken away, by name: what the machine must notice."""

from __future__ import annotations

import inspect
import sys
import textwrap
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

from consumer.domain.marks import Marks
from consumer.guard.answer import Rules
from consumer.publisher import Publisher
from consumer.questions import Questions
from consumer.voucher import Voucher

if TYPE_CHECKING:
    from collections.abc import Iterator

Lines = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Mutant:
    """What is replaced by what: in scripts, by their names, and in methods."""

    scripts: tuple[tuple[str, str, str], ...] = ()
    methods: tuple[tuple[Any, str, Lines], ...] = ()

    def change(self, name: str, source: str) -> str:
        """Return the source of a script without the rule."""
        for script, old, new in self.scripts:
            if script == name:
                assert old in source, f"{name}.lua has no {old!r} any more"
                source = source.replace(old, new)
        return source

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Take the rule out of the methods that hold it."""
        with ExitStack() as patches:
            for owner, name, lines in self.methods:
                patches.enter_context(mock.patch.object(owner, name, _rewritten(owner, name, lines)))
            yield


def _rewritten(owner: Any, name: str, lines: Lines) -> Any:
    source = textwrap.dedent(inspect.getsource(getattr(owner, name)))
    for old, new in lines:
        assert source.count(old) == 1, f"{owner.__name__}.{name} has no {old!r} any more"
        source = source.replace(old, new)
    found: dict[str, Any] = {}
    exec(f"from __future__ import annotations\n{source}", vars(sys.modules[owner.__module__]), found)
    return found[name]


MUTANTS = {
    "trim before commit": Mutant(
        methods=(
            (
                Publisher,
                "_publish",
                (("    try:\n", "    self._view.trim(offsets)\n        try:\n"),),
            ),
        )
    ),
    "no outbox": Mutant(scripts=(("apply", "if decision == 'C' and offset >= published then", "if false then"),)),
    "no continuity": Mutant(scripts=(("apply", "if position > applied then", "if false then"),)),
    "told below published": Mutant(scripts=(("take", "ARGV[2], '+inf'", "'-inf', '+inf'"),)),
    "vouch without identity": Mutant(scripts=(("vouch", "or run ~= ARGV[3] or replication ~= ARGV[4] then", "then"),)),
    "vouch without epoch": Mutant(scripts=(("vouch", "m[2] ~= ARGV[2] or run", "run"),)),
    "vouch without end": Mutant(scripts=(("vouch", "if tonumber(m[3]) < tonumber(ARGV[5])", "if false"),)),
    "vouch without count": Mutant(methods=((Voucher, "_is_whole", (("audit.status is Status.DAMAGED", "False"),)),)),
    "inbound read after the ledger's end": Mutant(
        methods=(
            (
                Questions,
                "ask",
                (
                    (
                        "    kept = ",
                        "    early = self._bounds([Partition(self._ledger, b) for b in buckets])\n    kept = ",
                    ),
                    ("lambda: self._bounds(ledger)", "lambda: early"),
                ),
            ),
        )
    ),
    "samples end where inbound may be read": Mutant(
        methods=(
            (
                Questions,
                "ask",
                (
                    (
                        "lambda: self._bounds(known)",
                        "lambda: {p: Bounds(0, end) for p, end in self._offsets.stable_ends(known).items()}",
                    ),
                ),
            ),
        )
    ),
    "commit before acknowledged": Mutant(
        methods=(
            (
                Marks,
                "done",
                ((" and not self._noted[0].outstanding", ""),),
            ),
        )
    ),
    "guard without marker": Mutant(
        methods=((Rules, "standing", (("if (answer.marked_run, answer.marked_replication) != server:", "if False:"),)),)
    ),
    "tie reversed": Mutant(
        scripts=(
            ("apply", "not (status == 'O' and stored.status == 'I')", "not (status == 'I' and stored.status == 'O')"),
        )
    ),
}
