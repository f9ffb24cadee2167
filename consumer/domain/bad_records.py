"""When so many records cannot be read that going on would do more harm than standing still.

A dead letter counts as read, so the time for which verdicts are fresh goes on, while a STOP in it is not in force: the
guard answers ALLOWED. A few such records are somebody's defect, and the error in the log tells of them. Many are a
defect of the whole: a schema that this worker does not know, another format, the wrong topic. Then the worker stops,
and guards answer UNKNOWN once nothing is fresh any more. That order is the product's: rather no text than one after a
STOP. There are two limits, for neither sees everything:

- a run: so many in a row. It needs no history, so it stops a worker that has just been upgraded, or put on a wrong
  topic, before much is put aside. At the default of 100 a burst of one sender that is broken does not reach it, for its
  records lie among those of others.
- a share: of the last 1,000 records, once there were as many. It sees one broken sender of ten, whose every tenth
  record never makes a run: a tenth of the STOPs is lost to the guard. At the default of 5 % one record, or fifty in
  a day's thousand, stops nobody.

Who writes texts under schema ids out of the air must not stop the fleet with them: records under an id that nobody
knows are counted for each id by itself. A sender that was deployed against another registry, or ahead of this worker,
writes all of its records under one id, and reaches a limit as before; ids that hardly come twice never do. These cry
all the same (`unknown`), until somebody looks.

What could be read and not attributed does not count: nothing is wrong with the reading, the next record is as good as
without it, and a standstill would not tell whose it was. It has an error and a count of its own. It ends a run, though.

Counted by each process over all that it reads, and from nothing after a restart: a supervisor that starts a worker
again and again lets through a run each time. None of them is dropped, each time is said, and in between nothing is
fresh for long. Who knows the cause and wants to go on, while letters wait to be replayed, raises the limit.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

WINDOW = 1000
"""Of how many records the share is taken."""
IN_A_ROW = 100
SHARE = 0.05


class BadRecords:
    """Counts records that cannot be read against the limits. None lifts one."""

    def __init__(self, in_a_row: int | None = IN_A_ROW, share: float | None = SHARE) -> None:
        self._in_a_row = in_a_row
        self._share = share
        self.read = 0
        """How many records were read so far, good or bad. Whoever reads counts here."""
        self._bad: deque[_Bad] = deque()
        self._recent: Counter[int | None] = Counter()
        self._run: Counter[int | None] = Counter()
        self._reasons: Counter[str] = Counter()
        """Those of the run that are not for an unknown id."""

    @property
    def unknown(self) -> int:
        """Return how many of the last 1,000 records, up to the last bad one, came under ids that nobody knows."""
        return len(self._bad) - self._recent[None]

    def add(self, reason: str, unknown_id: int | None = None) -> str | None:
        """Note that the record which was counted last is bad; say what is too much, None while nothing is.

        `unknown_id` is the schema id that it came under where that is all that is wrong with it.
        """
        if not self._bad or self._bad[-1].number != self.read - 1:
            self._run.clear()
            self._reasons.clear()
        self._bad.append(_Bad(self.read, reason, unknown_id))
        self._run[unknown_id] += 1
        self._recent[unknown_id] += 1
        if unknown_id is None:
            self._reasons[reason] += 1
        while self._bad[0].number <= self.read - WINDOW:
            self._forget(self._bad.popleft())
        return self._too_much(unknown_id)

    def _forget(self, old: _Bad) -> None:
        self._recent[old.unknown_id] -= 1
        if not self._recent[old.unknown_id] and old.unknown_id is not None:
            del self._recent[old.unknown_id]
            self._run.pop(old.unknown_id, None)

    def _too_much(self, unknown_id: int | None) -> str | None:
        run, recent = self._run[unknown_id], self._recent[unknown_id]
        if unknown_id is not None:  # one that comes now and then in a long run of others is no deployment
            run = min(run, recent)
        under = "cannot be read" if unknown_id is None else f"came under the schema id {unknown_id}, which is not known"
        if self._in_a_row is not None and run >= self._in_a_row:
            listed = f" ({_listed(self._reasons)})" if unknown_id is None else ""
            return f"{run} records in a row {under}{listed}, as OPTOUT_DEAD_LETTERS_IN_A_ROW says"
        if self._share is not None and self.read >= WINDOW and recent > self._share * WINDOW:
            reasons = Counter(bad.reason for bad in self._bad if bad.unknown_id is None)
            listed = f" ({_listed(reasons)})" if unknown_id is None else ""
            return f"{recent} of the last {WINDOW} records {under}{listed}, above OPTOUT_DEAD_LETTERS_SHARE"
        return None


class _Bad(NamedTuple):
    """One record that cannot be read, by its number among all, and the id that nobody knows, if that is why."""

    number: int
    reason: str
    unknown_id: int | None


def _listed(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
