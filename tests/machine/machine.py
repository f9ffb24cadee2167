"""Which random steps the machine takes, how often each, and how a run begins and ends.

Two buckets, two locations, two patients at each; two to four partitions of inbound; up to three workers that live, and
zombies. Whatever may happen may also come between two questions that a worker puts to Kafka or Redis. Steps come in
heaps as well (a round of everybody, a round that Redis forgets, buckets that move and are worked on), for single ones
would seldom make up a trace.

Left out, for they are stated limits: a single field of a state is deleted (whole keys are, and members and entries of
the outbox); keys are put back into the server that they came from, under the same identity; a worker or a guard that
still talks to an isolated old primary; offsets that are set by hand; a clock that is set back; ages (`max_staleness`).
After a key was deleted the guard's answers for that bucket are not looked at until its epoch or the server has changed
or a voucher has counted it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from consumer.wire.codec import Codec
from consumer.wire.schemas import Schemas
from tests.machine.mutants import Mutant
from tests.machine.worker import CLASSIFIERS
from tests.machine.world import APPLIERS, BUCKETS, World
from tests.parts.fake_kafka import Ending

if TYPE_CHECKING:
    from tests.machine.servers import Servers
    from tests.machine.world import Action

AS_IT_IS = Mutant()
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
everybody = action("round", st.sampled_from([1000, 1000, 1, 2]), st.integers(0, 4), st.lists(text, max_size=2))
membership = weighted(
    (2, action("kill", workers)),
    (2, action("lose", workers)),
    (1, action("hear", workers)),
    (2, action("start")),
    (2, action("hand_over", st.integers(0, 2))),
    (2, action("rebalance", st.sampled_from([APPLIERS, APPLIERS, CLASSIFIERS]), st.integers(0, 2))),
)
memory = weighted(
    (2, action("flush")),
    (1, action("snapshot")),
    (3, action("lose_round", st.lists(text, min_size=1, max_size=2), st.sampled_from(["fail_over", "flush"]))),
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
    (1, action("stuck", workers, st.booleans())),
    (1, action("most", st.sampled_from([1, 1, 2, 1000]))),
    (1, action("partition")),
    (1, action("upstream_opens", st.integers(0, 3))),
    (1, action("upstream_ends", st.booleans())),
)
patience = action("wait", st.sampled_from([1, 11, 31, 61]))
rare = weighted((3, action("unreadable", st.integers(0, 3))), (1, action("stranger", st.integers(0, BUCKETS - 1))))
anything = weighted((4, text), (4, some_step), (7, everybody), (3, membership), (4, memory), (2, log), (1, patience))
meanwhile = weighted(
    (3, some_step),
    (3, everybody),
    (2, membership),
    (3, memory),
    (1, text),
    (1, log),
    (1, action("kill_me")),
)
between = st.tuples(
    st.integers(0, 9), weighted((3, meanwhile), (1, action("several", st.lists(meanwhile, min_size=2, max_size=3))))
)


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
        self.world.do(("round", 1000, 0))

    @rule(what=anything)
    def happens(self, what: Action) -> None:
        self.world.do(what)

    @rule(what=rare, happens=st.integers(0, 9))
    def happens_rarely(self, what: Action, happens: int) -> None:
        if happens == 9:
            self.world.do(what)

    @rule(worker=workers, what=st.sampled_from(["apply", "publish", "vouch", "vouch", "classify"]), between=between)
    def disturbed(self, worker: int, what: str, between: tuple[int, Action]) -> None:
        self.world.do(("step", worker, what, between))

    def teardown(self) -> None:
        try:
            self.world.settle()
        finally:
            self.world.close()


def run(servers: Servers, runs: int, seed: int, mutant: Mutant = AS_IT_IS, *, shrink: bool = True) -> None:
    """Run the machine so many times, and raise what was found, by as few steps as can be found if `shrink` says so."""
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
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
