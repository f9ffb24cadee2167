"""A planned stop of the workers: for a limited time guards accept what was vouched for before it.

While no worker runs `fresh` ages, and past the age that a guard accepts everybody who is not opted out is UNKNOWN. A
maintenance window says that these minutes are meant. What patients text meanwhile is not known to anybody, which is the
risk that the operator takes; so each window is written down, with who and why, before it is opened, and it ends by
itself: when its time is over, or when workers vouch again after a silence. Who is opted out stays SUPPRESSED with it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from consumer import deployment
from consumer.domain.events import OperatorActionKind
from consumer.domain.words import at, printable
from consumer.durations import in_short
from consumer.guard.answer import LONGEST_WINDOW
from consumer.kafka.reader import OpenTransaction
from consumer.operators import write_down, written_down
from consumer.suppression.answers import Status
from consumer.suppression.scripts import ViewUnavailable
from consumer.suppression.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from consumer.domain.events import OperatorAction
    from consumer.settings import Settings
    from consumer.suppression.answers import Window

LONGEST = LONGEST_WINDOW
"""Seconds for which a window is opened at a time. Whoever needs more opens it again, and gives a reason again."""
SHOWN = 10
"""Actions of the past that are shown."""


class NotOpened(Exception):
    """No window could be opened: one sentence."""


@dataclass(frozen=True, slots=True)
class Maintenance:
    """The window of each bucket, and the last that operators did, oldest first."""

    buckets: int
    windows: Mapping[int, Window]
    actions: Sequence[OperatorAction]
    unread: str | None = None
    """A sentence on what keeps the last actions from being read."""

    @property
    def open(self) -> list[int]:
        """Return the buckets whose window is open."""
        return [bucket for bucket, window in self.windows.items() if window.left > 0]

    @property
    def seconds_left(self) -> float:
        """Return when the last window ends by itself."""
        return max((window.left for window in self.windows.values()), default=0) / 1000


def begin(settings: Settings, *, seconds: int, by: str, reason: str) -> Maintenance:
    """Open a window in every bucket that is vouched for now; one that is open gets a new end.

    Raises NotOpened where nothing is vouched for, or all of it too long ago, KafkaGone, TopicError, ViewUnavailable and
    OtherLedger.
    """
    view, buckets = _view(settings), range(settings.buckets)
    ages = [window.age for window in view.windows(buckets).values() if window.status is Status.OK]
    if not ages:
        raise NotOpened(
            "nothing is vouched for, so there is nothing that a window could keep: wait until the workers vouch "
            "(`optout check` answers ALLOWED then), and open it before they are stopped"
        )
    if settings.max_staleness is not None and min(ages) > settings.max_staleness * 1000:
        raise NotOpened(
            f"what is vouched for is {in_short(min(ages) / 1000)} old, and guards accept no more than "
            f"{in_short(settings.max_staleness)}: a window keeps what was accepted when it began; start the workers, "
            "and open it before they are stopped"
        )
    done = write_down(settings, OperatorActionKind.MAINTENANCE_BEGUN, by=by, reason=reason, seconds=seconds)
    return Maintenance(len(buckets), view.open_window(buckets, seconds * 1000), [done])


def end(settings: Settings, *, by: str, reason: str) -> Maintenance:
    """Close every window that is open; return those that were.

    Raises KafkaGone, TopicError, ViewUnavailable and OtherLedger.
    """
    view, buckets = _view(settings), range(settings.buckets)
    found = view.windows(buckets)
    closed = view.close_window(buckets)  # before it is written down: this is never the dangerous direction
    done = write_down(settings, OperatorActionKind.MAINTENANCE_ENDED, by=by, reason=reason)
    if left := len(buckets) - len(closed):
        raise ViewUnavailable(f"{left} buckets cannot be reached: a window of theirs ends when its time is over")
    return Maintenance(len(buckets), found, [done])


def status(settings: Settings) -> Maintenance:
    """Return how it stands. Raises as `end` does."""
    windows = _view(settings).windows(range(settings.buckets))
    try:
        return Maintenance(settings.buckets, windows, written_down(settings)[-SHOWN:])
    except OpenTransaction as held:  # whether a window is open is known all the same
        return Maintenance(settings.buckets, windows, [], str(held))


def as_dict(found: Maintenance) -> dict[str, Any]:
    """Return it as JSON has it; times in ms since the epoch."""
    return {
        "open": found.open,
        "unasked": sorted(set(range(found.buckets)) - found.windows.keys()),
        "seconds_left": round(found.seconds_left, 1),
        "actions": [asdict(action) for action in found.actions],
        "unread": found.unread,
    }


def in_words(found: Maintenance) -> Iterator[str]:
    """Return what a person reads."""
    if unasked := found.buckets - len(found.windows):
        yield f"{unasked} of {found.buckets} buckets cannot be asked: a window of theirs ends when its time is over"
    if found.open:
        yield (
            f"maintenance in {len(found.open)} of {found.buckets} buckets, for another "
            f"{in_short(found.seconds_left)} at most"
        )
    else:
        yield "no maintenance is going on" + (" in the others" if unasked else "")
    if found.unread:
        yield f"what operators did last is not known: {found.unread}"
    for action in found.actions:
        long = f" for {in_short(action.seconds)}" if action.seconds else ""
        where = f" to {', '.join(action.places)}" if action.places else ""
        why = f"by {printable(action.by)}: {printable(action.reason)}"
        yield f"{at(action.recorded_at)}  {action.action}{long}{where} {why}"


def _view(settings: Settings) -> View:
    ledger = deployment.ledger_as_it_is(settings)
    return View(deployment.redis_nodes(settings), buckets=settings.buckets, ledger=ledger.identity)
