"""Every rule of the model is played on real parts, or it is said why not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.model import rules
from tests.traces.rules import EXCEPTIONS, STATE_RULES, TRACES

ROOT = Path(__file__).parents[2]


def test_every_rule_has_a_trace() -> None:
    """Each rule of the model has a test that plays its trace, or stands among the exceptions, and nothing else does."""
    assert set(TRACES) - STATE_RULES == set(rules.names()) - set(EXCEPTIONS)
    assert all(TRACES.values())


@pytest.mark.parametrize("rule", TRACES)
def test_traces_are_there(rule: str) -> None:
    """Each test that plays a trace is a test of this repository."""
    for node in TRACES[rule]:
        file, _, name = node.partition("::")
        functions = [part.name for part in ast.parse((ROOT / file).read_text("utf-8")).body if hasattr(part, "name")]
        assert name in functions, node
