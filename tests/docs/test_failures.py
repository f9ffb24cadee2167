"""docs/FAILURES.md: each of its rows is held by a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "FAILURES.md"
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows() -> list[str]:
    """Return the rows of the tables of situations."""
    tables = re.findall(r"^\| situation \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    return [row for table in tables for row in table.splitlines()]


def defined(file: Path) -> set[str]:
    tree = ast.parse(file.read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_there_are_rows() -> None:
    """The tables are found."""
    assert len(rows()) > 30


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.split("|")[1].strip()[:40])
def test_each_row_is_held(row: str) -> None:
    """A situation names at least one test, and every test that it names exists."""
    named = NAMED.findall(row.split("|")[5])
    assert named
    for file, function in named:
        assert function in defined(TESTS / file), f"{file} has no {function}"
