"""Publishing: what was taken of a bucket that has moved meanwhile is its new owner's to tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.test_publisher import each_once, keywords, once, owner, publish, turn
from tests.parts.system import Applying, Watched, wait_for

if TYPE_CHECKING:
    from tests.parts.system import System


def test_bucket_that_moved_away_is_not_sent(system: System) -> None:
    """A worker that keeps one bucket and lost another since it took from both sends neither under its new metadata."""
    keywords(system, "STOP", "STOP")
    guests: list[Applying] = []

    def move() -> None:
        guests.append(Applying(system))
        turn(member, guests[0], until=lambda: len(member.owned) == len(guests[0].owned) == 1)
        publish(guests[0])

    member = owner(system, view=Watched(system.view(), after={"take": once(move)}))
    wait_for("something is taken", lambda: member.publish() and guests)
    publish(member, guests[0])
    each_once(system, 4)
    guests[0].die()
    member.die()
