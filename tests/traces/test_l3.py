"""Publishing: of two buckets in one transaction one moves before it ends, and what it held is told once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.test_publisher import Interrupted, each_once, keywords, once, owner, publish, turn
from tests.parts.system import Applying, Watched, wait_for

if TYPE_CHECKING:
    from tests.parts.system import System


def test_bucket_that_moved_before_the_commit_is_waited_for(system: System) -> None:
    """Who got a bucket while the transaction that tells its changes is pending tells nothing before that has ended."""
    keywords(system, "STOP", "STOP")
    guests: list[Applying] = []

    def move() -> None:
        guests.append(Applying(system))
        turn(member, guests[0], until=lambda: len(member.owned) == len(guests[0].owned) == 1)
        assert not guests[0].publish()
        assert system.metas("outbox") == {0: 2, 1: 2}

    outbox = Interrupted(system.client(), timeout=40.0)  # the broker is not to end it by itself
    outbox.before = {"commit_transaction": once(move)}
    member = owner(system, outbox=outbox)
    wait_for("it is committed", lambda: member.publish() and guests)
    publish(member, guests[0])
    each_once(system, 4)
    guests[0].die()
    member.die()


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
