"""The crash matrix on real Kafka and Redis, as far as CI has time for it; `make crash-matrix` runs all of it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, cast

import pytest

from tests.faults.broken import BROKEN, make
from tests.faults.crash import FAULTS, crash
from tests.faults.matrix import chosen_for_ci, pool
from tests.faults.points import STEPS, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from tests.faults.judging import Outcome
    from tests.faults.matrix import Cell
    from tests.parts.kafka import Kafka
    from tests.parts.redis import MakeRedis

Outcomes = dict["Cell | str", "Future[Outcome]"]


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, replicated_kafka: Kafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcomes]:
    """Begin all runs that were selected, some at once; each test waits for its own.

    Those of broken products come first: they take longest, for they may never come to rest.
    """
    items = [item for item in request.session.items if isinstance(item, pytest.Function) and hasattr(item, "callspec")]
    asked = [item.callspec.params for item in items if "outcomes" in item.fixturenames]
    with pool() as runs:
        begun: Outcomes = {}
        for name in [cast("str", params["rule"]) for params in asked if "rule" in params]:
            one = BROKEN[name]
            product = make(one, tmp_path_factory.mktemp("broken"))
            begun[name] = runs.submit(crash, replicated_kafka.bootstrap, one.step, one.fault, one.seed, product)
        for cell in [cast("Cell", params["cell"]) for params in asked if "cell" in params]:
            begun[cell] = runs.submit(crash, replicated_kafka.bootstrap, cell.step, cell.fault, cell.seed)
        yield begun
        runs.shutdown(cancel_futures=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cell", chosen_for_ci(), ids=str)
def test_nothing_is_lost_doubled_or_allowed(outcomes: Outcomes, own_redis: MakeRedis, cell: Cell) -> None:
    """A worker killed or stopped at any step loses no change, tells none twice, and lets no message pass."""
    outcome = outcomes[cell].result()
    print(outcome)  # noqa: T201 - its time, and what was drawn
    assert outcome.well, outcome


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rule", BROKEN)
def test_a_rule_that_is_taken_out_is_found(outcomes: Outcomes, own_redis: MakeRedis, rule: str) -> None:
    """The matrix says what a product without one of its rules does wrong."""
    outcome = outcomes[rule].result()
    assert getattr(outcome, BROKEN[rule].harm) > 0, outcome
    shutil.rmtree(outcome.folder)  # what was to be found needs no looking into


def test_ci_meets_every_step_and_fault() -> None:
    """What CI runs leaves out no step and no fault."""
    cells = chosen_for_ci()
    assert {cell.step for cell in cells} == set(STEPS)
    assert {cell.fault for cell in cells} == set(FAULTS)


def test_each_step_is_a_call_of_the_product() -> None:
    """A trap is never set at a name that the product has no more."""
    assert unknown() == []
