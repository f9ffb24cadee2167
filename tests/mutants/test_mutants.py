"""The proof is proved: without a rule a test turns red, by an assertion of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import redis

from tests.mutants import laboratory
from tests.mutants.laboratory import DoesNotApply
from tests.mutants.mutant import Edit
from tests.mutants.table import MUTANTS
from tests.traces.rules import TRACES

if TYPE_CHECKING:
    from tests.mutants.mutant import Mutant
    from tests.parts.kafka import Kafka

IN_CI = [one for one in MUTANTS if one.in_ci]
CHEAP = "tests/unit/test_wire_framing.py"


def _name(one: Mutant) -> str:
    return one.name


def test_every_rule_is_taken_out() -> None:
    """There is a mutant of each rule that is played on real parts, and eight of them are tried with every change."""
    assert {one.rule for one in MUTANTS} == set(TRACES)
    assert len(IN_CI) == 8


@pytest.mark.parametrize("mutant", MUTANTS, ids=_name)
def test_mutation_applies(mutant: Mutant, redis_url: str) -> None:
    """Each mutation's texts stand in the code exactly once, and what comes of them can still be run."""
    for name, text in laboratory.mutated(mutant.edits).items():
        if name.endswith(".lua"):
            with redis.Redis.from_url(redis_url) as client:
                client.script_load(text)
        else:
            compile(text, name, "exec")


@pytest.mark.parametrize("text", ["no such line", "return"])
def test_mutation_that_does_not_apply_is_refused(text: str) -> None:
    """A text that is not there, or there twice, is an error that names the file: no mutant is passed over."""
    with pytest.raises(DoesNotApply, match=r"consumer/suppression/apply\.lua holds this \d+ times instead of once"):
        laboratory.mutated([Edit("suppression/apply.lua", text, "")])


def test_broken_copy_is_not_found() -> None:
    """A copy that cannot be imported counts as broken, and not as a mutant that was found."""
    edit = Edit("wire/framing.py", "from __future__ import annotations", "from __future__ import nothing")
    found = laboratory.run([edit], [CHEAP])
    assert not found.red
    assert not found.green
    assert "cannot be collected" in str(found)


@pytest.mark.timeout(600)
def test_unchanged_copy_is_green(kafka: Kafka) -> None:
    """Without any mutation the same tests pass on the copy, with the same patience."""
    found = laboratory.run([], sorted({node for one in IN_CI for node in one.tests}), kafka.bootstrap)
    assert found.green, str(found)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", IN_CI, ids=_name)
def test_mutant_is_found(mutant: Mutant, kafka: Kafka) -> None:
    """Without this rule each test that plays its trace fails, by an assertion of its own."""
    for node, found in zip(mutant.tests, laboratory.run_each(mutant, kafka.bootstrap), strict=True):
        assert found.red, f"{mutant.why}, and {node} did not notice: {found}"
