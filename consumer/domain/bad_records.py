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

What could be read and not attributed does not count: nothing is wrong with the reading, the next record is as good as
without it, and a standstill would not tell whose it was. It has an error and a count of its own. It ends a run, though.

Counted by each process over all that it reads, and from nothing after a restart: a supervisor that starts a worker
again and again lets through a run each time. None of them is dropped, each time is said, and in between nothing is
fresh for long. Who knows the cause and wants to go on, while letters wait to be replayed, raises the limit.
"""

from __future__ import annotations

from collections import Counter, deque

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
        self._bad: deque[tuple[int, str]] = deque()
        self._run: Counter[str] = Counter()

    def add(self, reason: str) -> str | None:
        """Note that the record which was counted last is bad; say what is too much, None while nothing is."""
        if not self._bad or self._bad[-1][0] != self.read - 1:
            self._run.clear()
        self._run[reason] += 1
        self._bad.append((self.read, reason))
        while self._bad[0][0] <= self.read - WINDOW:
            self._bad.popleft()
        run = self._run.total()
        if self._in_a_row is not None and run >= self._in_a_row:
            return f"{run} records in a row cannot be read ({_listed(self._run)}), as OPTOUT_DEAD_LETTERS_IN_A_ROW says"
        if self._share is not None and self.read >= WINDOW and len(self._bad) > self._share * WINDOW:
            return (
                f"{len(self._bad)} of the last {WINDOW} records cannot be read "
                f"({_listed(Counter(reason for _, reason in self._bad))}), above OPTOUT_DEAD_LETTERS_SHARE"
            )
        return None


def _listed(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
