"""Whether the guard can ask its Redis.

Ready is who is answered, whatever the answer: a view that nobody vouches for is no fault of this process, another one
would say the same, and whoever asks is told UNKNOWN with its reason instead of nothing at all.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

from consumer.domain.buckets import bucket_of
from consumer.guard import Unknown
from consumer.serve.words import Ready

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from consumer.guard import Verdict

KEPT_S = 1.0
"""Probes need no token: however many there are, Redis is asked once in so long."""
MOST_BUCKETS = 64
"""Buckets that are asked: all, or as many of more. They are asked in one round trip, and so in one timeout."""
NOBODY = "+12025550100"
UNANSWERED = {Unknown.UNREACHABLE, Unknown.TIMEOUT, Unknown.REFUSED, Unknown.WRONG_MODE, Unknown.GARBLED}
SAID = {
    Unknown.UNREACHABLE: "it cannot be reached",
    Unknown.TIMEOUT: "it does not answer in time",
    Unknown.REFUSED: "it refuses the user, the password or the database",
    Unknown.WRONG_MODE: "it is a node of a cluster and OPTOUT_REDIS_MODE says otherwise, or the other way round",
    Unknown.GARBLED: "what it answers is no answer",
}


class Readiness:
    """Asks Redis about every bucket, once in a while."""

    def __init__(self, ask: Callable[[Sequence[tuple[str, str]]], Awaitable[Sequence[Verdict]]], buckets: int) -> None:
        self._ask = ask
        self._pairs = [(location_id, NOBODY) for location_id in _one_in_each(buckets)]
        self._found: tuple[float, Ready] | None = None
        self._asking = asyncio.Lock()

    async def now(self) -> Ready:
        """Return what is known, at most KEPT_S seconds old."""
        async with self._asking:
            if self._found is None or time.monotonic() - self._found[0] >= KEPT_S:
                verdicts = await self._ask(self._pairs)
                self._found = time.monotonic(), _judged(verdicts)
            return self._found[1]


def _judged(verdicts: Sequence[Verdict]) -> Ready:
    reasons = [verdict.reason for verdict in verdicts]
    unanswered = sorted({reason for reason in reasons if reason in UNANSWERED})
    ready = any(reason not in UNANSWERED for reason in reasons)
    buckets = Counter(reason.value if reason else "vouched" for reason in reasons)
    return Ready(
        ready=ready, parts={} if ready else {"redis": [SAID[reason] for reason in unanswered]}, buckets=dict(buckets)
    )


def _one_in_each(buckets: int) -> list[str]:
    """Return a location for each bucket, or for MOST_BUCKETS of them. They need not exist to be asked about."""
    found: dict[int, str] = {}
    for number in count():
        if len(found) == min(buckets, MOST_BUCKETS):
            return list(found.values())
        found.setdefault(bucket_of(f"readyz-{number}", buckets), f"readyz-{number}")
    raise AssertionError
