"""The guard: what it says of membership and what it says of time are of one moment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import redis

from consumer.domain.events import Action
from consumer.guard import Guard, VerdictKind
from tests.parts.view import BUCKETS, HERE, connect, set_up

if TYPE_CHECKING:
    from collections.abc import Callable


class Asking(redis.Redis):
    """A guard's client, and what happens after one of its commands."""

    asked = 0
    then: tuple[int, Callable[[], None]] | None = None

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        answer = super().execute_command(*arguments, **options)  # type: ignore[no-untyped-call]
        self.asked += 1
        if self.then is not None and self.then[0] == self.asked:
            self.then[1]()
        return answer


def test_no_stop_slips_in_between_two_commands(redis_url: str) -> None:
    """Wherever between a guard's commands a STOP is applied and vouched for, it is not ALLOWED at a later time."""
    with connect(redis_url) as client, Asking.from_url(redis_url) as asking:
        owner = set_up(client)
        guard = Guard(asking, buckets=BUCKETS)
        guard.check(HERE, "+12025550100")
        asking.asked = 0
        guard.check(HERE, "+12025550100")
        for command in range(1, asking.asked + 1):
            number = f"+120255501{command:02d}"
            time.sleep(0.002)  # what is vouched for until now is older
            stopped = owner.view.server().time

            def stop(number: str = number) -> None:
                owner.write(Action.OPT_OUT, HERE, number)
                owner.vouch()

            asking.asked, asking.then = 0, (command, stop)
            verdict = guard.check(HERE, number)
            assert verdict.fresh is not None
            told = verdict.kind is VerdictKind.ALLOWED and verdict.fresh >= stopped
            assert not told, f"a STOP of {stopped} is ALLOWED at {verdict.fresh}: it came after command {command}"
            assert guard.check(HERE, number).kind is VerdictKind.SUPPRESSED
