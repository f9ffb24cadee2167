"""What random steps found once, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.wire.codec import Codec
from consumer.wire.schemas import Schemas
from tests.machine.mutants import Mutant
from tests.machine.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.machine.servers import Servers


@pytest.fixture
def world(servers: Servers) -> Iterator[World]:
    """One worker, which owns everything."""
    world = World(servers, Codec(Schemas()), Mutant().change)
    world.do(("round", 1000, -1))
    yield world
    world.close()


@pytest.mark.parametrize("loss", [("flush",), ("delete", 0, 2)])
def test_stopped_bucket_is_caught_up_after_a_loss(world: World, loss: tuple[object, ...]) -> None:
    """A bucket that stands in front of an unreadable record is read again up to it when Redis loses what it held."""
    world.do(("text", 0, "STOP", 0, 0))
    world.do(("round", 1000, -1))
    world.do(("stranger", 0))
    world.do(("round", 1000, -1))
    world.do(loss)
    world.do(("wait", 61))
    for _ in range(4):
        world.do(("round", 1000, -1))
    assert world.servers.here.hget("optout:{0.2}:meta", "applied") == b"1"
    world.settle()


def test_losses_some_time_apart_are_no_gap(world: World) -> None:
    """What was fetched before a bucket was moved back is dropped, however long ago that happened to it before."""
    here, there = ("text", 0, "STOP", 0, 0), ("text", 2, "STOP", 0, 0)
    world.do(there)
    world.do(("round", 1000, 0))
    world.do(("round", 1000, 0, [there]))
    world.do(("fail_over", 1))
    world.do(("lose_round", [here], "fail_over"))
    world.do(("lose_round", [there], "flush"))
    world.do(("wait", 11))
    world.settle()
