"""The crash matrix on real Kafka and Redis, as far as CI has time for it; `make crash-matrix` runs all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from tests.faults.crash import FAULTS, crash
from tests.faults.matrix import chosen_for_ci, pool
from tests.faults.points import LOWERED, STEPS, owner_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

    from tests.faults.judging import Outcome
    from tests.faults.matrix import Cell
    from tests.parts.kafka import Kafka
    from tests.parts.redis import MakeRedis


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, kafka: Kafka) -> Iterator[Mapping[Cell, Future[Outcome]]]:
    """Begin all runs that were selected, some at once; each test waits for its own."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    cells = [cast("Cell", item.callspec.params["cell"]) for item in items if "outcomes" in item.fixturenames]
    with pool() as runs:
        yield {cell: runs.submit(crash, kafka.bootstrap, cell.step, cell.fault, cell.seed) for cell in cells}
        runs.shutdown(cancel_futures=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cell", chosen_for_ci(), ids=str)
def test_nothing_is_lost_doubled_or_allowed(
    outcomes: Mapping[Cell, Future[Outcome]], own_redis: MakeRedis, cell: Cell
) -> None:
    """A worker killed or stopped at any step loses no change, tells none twice, and lets no message pass."""
    outcome = outcomes[cell].result()
    print(outcome)  # noqa: T201 - its time, and what was drawn
    assert outcome.well, outcome


def test_ci_meets_every_step_and_fault() -> None:
    """What CI runs leaves out no step and no fault."""
    cells = chosen_for_ci()
    assert {cell.step for cell in cells} == set(STEPS)
    assert {cell.fault for cell in cells} == set(FAULTS)


@pytest.mark.parametrize("target", sorted({*LOWERED, *(step.target for step in STEPS.values())}))
def test_each_step_is_a_call_of_the_product(target: str) -> None:
    """A trap is never set at a name that the product has no more."""
    owner, name = owner_of(target)
    assert hasattr(owner, name)
