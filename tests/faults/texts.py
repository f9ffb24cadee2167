"""What patients text in one run of the crash matrix: five cases, each at a location of its own, among others' texts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.parts.system import inbound, location_in

if TYPE_CHECKING:
    from random import Random

Text = dict[str, Any]

CASES = ("stop", "start", "both", "again", "disorder")
BYSTANDERS = 4
"""Patients in each bucket who have opted out before the fault: what a replay has to read."""


@dataclass
class Texts:
    """The texts of one run. Each is dated a millisecond after the one that was made before it."""

    chance: Random
    buckets: int
    sent: list[Text] = field(default_factory=list)
    _clock: int = field(default_factory=lambda: time.time_ns() // 1_000_000 - 300_000)
    _others: int = 0

    def __post_init__(self) -> None:
        self.start_first = self.chance.random() < 0.5
        self.late_start = self.chance.random() < 0.5

    def text(self, case: str, body: str, *, later: int = 0) -> Text:
        """Return a text of this case's patient; `later` ms later than its turn."""
        number = CASES.index(case)
        self._clock += 10
        location = location_in(number % self.buckets, self.buckets, number)
        return inbound(location, f"+120255501{number:02}", body, received_at=self._clock + later)

    def other(self, bucket: int | None = None) -> Text:
        """Return the STOP of a patient who has not been met yet."""
        self._others += 1
        self._clock += 10
        bucket = self._others % self.buckets if bucket is None else bucket
        location = location_in(bucket, self.buckets, 10 + self._others // 90)
        return inbound(location, f"+120255501{10 + self._others % 90}", "Stop", received_at=self._clock)

    def prelude(self) -> list[Text]:
        """Return what is sent and told before anything goes wrong."""
        opted_out = ["start", *(["both"] if self.start_first else []), *([] if self.late_start else ["disorder"])]
        others = [self.other(bucket) for bucket in range(self.buckets) for _ in range(BYSTANDERS)]
        return [self.text(case, "STOP") for case in opted_out] + others

    def portions(self) -> list[list[Text]]:
        """Return what is sent while the fault happens; the texts of a portion go out together."""
        both = [self.text("both", body) for body in ("START", "STOP")]
        if not self.start_first:
            both = [self.text("both", body) for body in ("STOP", "START")]
        stop = self.text("again", "Quit")
        # The later one of the two arrives first.
        disorder = [self.text("disorder", "Unstop"), self.text("disorder", "End", later=1)]
        if not self.late_start:
            disorder = [self.text("disorder", "End"), self.text("disorder", "Yes", later=1)]
        disorder.reverse()
        cases = [
            [[self.text("stop", "STOP")]],
            [[self.text("start", "start ")]],
            [both],
            [[stop], [{**stop, "message_id": "again"}]],
            [[text] for text in disorder],
        ]
        mixed = []
        while cases:
            case = self.chance.choice(cases)
            mixed.append([*case.pop(0), *([self.other()] if self.chance.random() < 0.5 else [])])
            cases = [case for case in cases if case]
        return mixed

    def epilogue(self) -> list[Text]:
        """Return a STOP and a START of each case's patient: the count of its versions must go on."""
        return [self.text(case, body) for case in CASES for body in ("STOP", "START")]
