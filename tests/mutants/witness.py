"""A pytest plugin within a mutant's run: writes down what failed, and whether it was a test's own assertion."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import consumer

if TYPE_CHECKING:
    from collections.abc import Generator

ROOT = Path(__file__).parents[2]
_passed: list[str] = []
_assertions: list[str] = []
_broken: list[str] = []


def pytest_sessionstart() -> None:
    imported = Path(consumer.__file__).parents[1]
    if imported != ROOT:
        _broken.append(f"the package that is tested is that of {imported} instead of the copy")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.passed and report.when == "call":
        _passed.append(item.nodeid)
    if report.failed and call.excinfo is not None:
        found = _assertions if report.when == "call" and _is_ours(call.excinfo) else _broken
        first = (str(call.excinfo.value).strip().splitlines() or [""])[0]
        found.append(f"{item.nodeid} ({report.when}): {call.excinfo.typename}: {first}")
    return report


def _is_ours(failure: pytest.ExceptionInfo[BaseException]) -> bool:
    """Whether a test said so: an assertion within tests/, not the product's, or an exception that did not come."""
    if isinstance(failure.value, pytest.fail.Exception):
        return True
    return isinstance(failure.value, AssertionError) and Path(failure.traceback[-1].path).is_relative_to(ROOT / "tests")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _broken.append(f"{report.nodeid} cannot be collected: {report.longreprtext.strip().splitlines()[-1]}")


def pytest_sessionfinish() -> None:
    result = {"passed": len(_passed), "assertions": _assertions, "broken": _broken}
    Path(os.environ["OPTOUT_MUTANT_REPORT"]).write_text(json.dumps(result), "utf-8")
