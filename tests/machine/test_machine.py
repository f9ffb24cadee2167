"""The whole machine under random steps: what came in is in force, told once and in order, whatever comes between."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from consumer.wire.codec import Codec
from consumer.wire.schemas import Schemas
from tests.machine.mutants import Mutant
from tests.machine.servers import Servers
from tests.machine.worker import CLASSIFIERS
from tests.machine.world import APPLIERS, BUCKETS, World
from tests.parts.fake_kafka import Clock, Ending

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.machine.world import Action
    from tests.parts.redis import MakeRedis

AS_IT_IS = Mutant()
RUNS = int(os.environ.get("OPTOUT_TEST_MACHINE_RUNS", "300"))
STEPS = 50

workers = st.integers(0, 2)


def weighted(*choices: tuple[int, st.SearchStrategy[Action]]) -> st.SearchStrategy[Action]:
    """Return a strategy that chooses each of these so often."""
    deck = [strategy for weight, strategy in choices for _ in range(weight)]

    @st.composite  # and not one_of: that one spells out all that it may be whenever a rule is named
    def one(draw: st.DrawFn) -> Action:
        return draw(deck[draw(st.integers(0, len(deck) - 1))])

    return one()


def action(name: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Action]:
    """Return a strategy for one thing that may happen."""
    return st.tuples(st.just(name), *arguments)


words = st.sampled_from(["STOP", "STOP", "STOP", "START", "START", " stop \n", "Stop please", "see you at 3"])
text = action("text", st.integers(0, 3), words, st.sampled_from([0, 0, 0, -1, -1, 1, 3, 20]), st.integers(0, 3))
some_step = action("step", workers, st.sampled_from(["classify", "commit", "apply", "publish", "vouch"]))
everybody = action("round", st.sampled_from([1, 2, 1000, 1000]))
membership = weighted(
    (2, action("kill", workers)),
    (2, action("lose", workers)),
    (1, action("hear", workers)),
    (2, action("start")),
    (2, action("rebalance", st.sampled_from([APPLIERS, APPLIERS, CLASSIFIERS]), st.integers(0, 2))),
)
memory = weighted(
    (2, action("flush")),
    (1, action("snapshot")),
    (5, action("fail_over", st.integers(0, 4))),
    (3, action("delete", st.integers(0, BUCKETS - 1), st.integers(0, 20))),
    (1, action("answer_lost")),
    (1, action("redis_away", st.booleans())),
)
log = weighted(
    (3, action("doubt", st.sampled_from([ending.name for ending in Ending]))),
    (2, action("time_out")),
    (1, action("kafka_away", st.booleans())),
    (1, action("deliver", workers, st.integers(1, 2))),
    (1, action("most", st.sampled_from([1, 1, 2, 1000]))),
    (1, action("partition")),
)
patience = action("wait", st.sampled_from([1, 11, 31, 61]))
anything = weighted((6, text), (4, some_step), (5, everybody), (3, membership), (3, memory), (2, log), (1, patience))
between = st.tuples(st.integers(0, 9), weighted((9, anything), (1, action("kill_me"))))


class Machine(RuleBasedStateMachine):
    """Random steps of a whole deployment. Each rule's arguments are the steps themselves, so that a failure reads."""

    servers: ClassVar[Servers]
    codec: ClassVar[Codec]
    mutant: ClassVar[Mutant] = AS_IT_IS

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.servers, self.codec, self.mutant.change)

    @initialize(more=st.booleans())
    def begin(self, *, more: bool) -> None:
        if more:
            self.world.do(("start",))
        self.world.do(("round", 1000))

    @rule(what=anything)
    def happens(self, what: Action) -> None:
        self.world.do(what)

    @rule(worker=workers, what=st.sampled_from(["apply", "publish", "vouch", "vouch", "classify"]), between=between)
    def disturbed(self, worker: int, what: str, between: tuple[int, Action]) -> None:
        self.world.do(("step", worker, what, between))

    def teardown(self) -> None:
        try:
            self.world.settle()
        finally:
            self.world.close()


@pytest.fixture
def servers(own_redis: MakeRedis) -> Iterator[Servers]:
    """Three servers behind Unix sockets."""
    folder = tempfile.mkdtemp(prefix="optout-")
    try:
        urls = []
        for number in range(3):
            path = Path(folder, f"{number}.sock")
            own_redis(settings={"unixsocket": str(path), "appendonly": "no", "enable-debug-command": "yes"})
            urls.append(f"unix://{path}")
        yield Servers(urls, Clock())
    finally:
        shutil.rmtree(folder)


def run(servers: Servers, runs: int, seed: int, mutant: Mutant = AS_IT_IS) -> None:
    """Run the machine so many times."""
    fields = {"servers": servers, "codec": Codec(Schemas()), "mutant": mutant}
    machine = hypothesis.seed(seed)(type("SeededMachine", (Machine,), fields))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            report_multiple_bugs=False,
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(1800)
def test_nothing_lost_nothing_twice_never_allowed_by_accident(servers: Servers, request: pytest.FixtureRequest) -> None:
    """Whatever comes between which two steps, no STOP is forgotten, and every change is told once and in order."""
    seed = int(request.config.getoption("hypothesis_seed", None) or random.randrange(2**32))
    run(servers, RUNS, seed)
