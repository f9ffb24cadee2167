"""One run of the crash matrix: two workers, one of them struck at one step while five cases are on their way."""

from __future__ import annotations

import random
import secrets
import shutil
import signal
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from tests.faults.deployment import BUCKETS, EVERYTHING, HERE, Deployment, has_a_share, owned
from tests.faults.judging import Outcome, judge
from tests.faults.points import STEPS, environment_of
from tests.faults.texts import Texts
from tests.faults.watching import Watch
from tests.parts import oracle
from tests.parts.system import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.faults.texts import Text
    from tests.parts.system import Worker

FAULTS = ("kill", "stop", "kill-flush", "stop-flush", "kill-rollback", "stop-rollback")
PORTION_SECONDS = 0.12
"""Between two portions of texts: all of them take about a second."""
COMMIT_DELAYS = (0.0, 0.0005, 0.001, 0.002, 0.004, 0.008)
"""Seconds after which a commit that is on its way is struck; it takes a few milliseconds."""


class Run:
    """One run. What differs from seed to seed is drawn here, so that a run can be repeated."""

    def __init__(self, outcome: Outcome, deployment: Deployment) -> None:
        chance = random.Random(f"{outcome.step}/{outcome.fault}/{outcome.seed}")
        step, fault = STEPS[outcome.step], outcome.fault
        self.step, self.fault, self.there, self.outcome = step, fault, deployment, outcome
        self.texts = Texts(chance, BUCKETS)
        self.watch = Watch(deployment.redis_url, BUCKETS)
        self.sent: list[Text] = []
        self.kills = fault.startswith("kill")
        self.spare_from_the_start = chance.random() < 0.5
        self.lose_late = chance.random() < 0.5
        self.copy = "struck" if self.lose_late and chance.random() < 0.5 else "before"
        self.pause = chance.choice((0.0, 0.0, 0.3, 1.0))
        # The threads that poll cannot: a worker whose poll stands still never comes back to its group.
        self.linger = step.thread in ("publish", "vouch") and chance.random() < 0.5
        self.trap = environment_of(
            step,
            deployment.folder,
            hit=chance.randint(1, step.most),
            number=signal.SIGKILL if self.kills else signal.SIGSTOP,
            delay=chance.choice(COMMIT_DELAYS),
            linger=self.linger,
        )
        self.unseen = chance.random() < 0.5
        self.struck: Worker
        self.spare: Worker | None = None

    def play(self) -> None:
        """Let it happen, to the end. Raises AssertionError where something does not come."""
        self.struck = self.there.start_struck(self.trap)
        if self.spare_from_the_start:
            self.spare = self.there.start_spare()
            wait_for("both have a share", self.both_have_a_share, 60)
        else:
            wait_for("the worker has everything", lambda: self.struck_owns() == EVERYTHING, 60)
        with self.watch:
            self.send(self.texts.prelude())
            self.await_rest()
            self.there.save_redis("before")
            with self.texts_on_their_way():
                self.strike()
                self.follow()
            self.await_rest()
            for text in self.texts.epilogue():
                self.send([text])
            self.await_rest()
        self.end()

    def struck_owns(self) -> tuple[int, int]:
        """Return what the worker owns that is to be struck. Raises AssertionError if it has ended before."""
        if self.struck.process.poll() is not None:
            raise AssertionError(f"the worker ended: {self.struck.log_file.read_text().splitlines()[-1:]}")
        return owned(self.struck)

    def both_have_a_share(self) -> bool:
        """Whether each worker has something to do."""
        return self.spare is not None and has_a_share(self.struck) and has_a_share(self.spare)

    def send(self, texts: Sequence[Text]) -> None:
        """Send texts in one go, each patient's to a partition of its own, and wait until Kafka has them."""
        stops = self.watch.sending(texts)
        self.sent += texts
        self.there.write("inbound", *((crc32(t["patient_number"].encode()) % 2, self.there.text(t)) for t in texts))
        self.watch.accepted(stops)

    @contextmanager
    def texts_on_their_way(self) -> Iterator[None]:
        """Send the cases, then other patients' texts until the block is over."""
        over = threading.Event()
        failed: list[BaseException] = []

        def run() -> None:
            try:
                for portion in self.texts.portions():
                    self.send(portion)
                    over.wait(PORTION_SECONDS)
                while not over.wait(PORTION_SECONDS):
                    self.send([self.texts.other()])
            except BaseException as problem:  # noqa: BLE001 - raised below
                failed.append(problem)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(60)
        assert not failed, f"sending failed: {failed[0]}"

    def strike(self) -> None:
        """Arm the trap and wait until the worker has met it."""
        folder = self.there.folder
        reached, process = folder / "reached", self.struck.process
        (folder / "armed").touch()
        if self.step.flush:
            self.there.flush_redis()
        wait_for("the step is reached", lambda: reached.exists() or process.poll() is not None, 30)
        assert reached.exists(), f"the step was not reached; the worker's last words: {self.struck.events()[-3:]}"
        if said := reached.read_text():
            self.outcome.notes.append(said)
        if self.kills:
            assert process.wait(10) == -signal.SIGKILL
            self.outcome.kills += 1
        else:
            wait_for("the worker stands still", lambda: _is_stopped(process.pid), 10)
            self.outcome.stops += 1
        self.there.save_redis("struck")

    def follow(self) -> None:
        """Let the other worker take over, Redis lose what it is to lose, and a stopped worker go on."""
        if not self.lose_late:
            self.lose()
        spare = self.spare = self.spare or self.there.start_spare()
        wait_for("the other worker has everything", lambda: owned(spare) == EVERYTHING, 60)
        if self.lose_late:
            self.lose()
        if not self.kills:
            time.sleep(self.pause)
            self.go_on()

    def lose(self) -> None:
        """Flush Redis, or put an older copy of it in its place."""
        if self.fault.endswith("flush"):
            self.there.flush_redis()
        elif self.fault.endswith("rollback"):
            with self.spare_unaware():
                self.there.roll_back_redis(self.copy)

    @contextmanager
    def spare_unaware(self) -> Iterator[None]:
        """In some runs, let the other worker stand still for a moment: it never sees that Redis was away."""
        if self.spare is None or not self.unseen:
            yield
            return
        self.spare.process.send_signal(signal.SIGSTOP)
        yield
        self.spare.process.send_signal(signal.SIGCONT)

    def go_on(self) -> None:
        """Let the stopped worker go on, and wait until it has its share again, or has ended.

        Where its struck thread lingers, that one goes on then: under an assignment that is not the one it knew.
        """
        process = self.struck.process
        process.send_signal(signal.SIGCONT)

        def is_back() -> bool:
            return process.poll() is not None or self.both_have_a_share()

        wait_for("the stopped worker has come back or ended", is_back, 60)
        if self.linger:
            (self.there.folder / "released").touch()
            time.sleep(0.5)

    def await_rest(self) -> None:
        """Wait until everything is told and every guard's verdict is right."""
        wait_for("everything is read, applied and told", self.there.settled, 60)
        self.watch.settled()
        opted_out = oracle.members_after(self.sent)

        def right() -> bool:
            assert self.watch.failure is None, f"the guards' thread failed: {self.watch.failure!r}"
            return all(
                kind.value == ("SUPPRESSED" if patient in opted_out else "ALLOWED")
                for verdicts in self.watch.verdicts()
                for patient, kind in verdicts.items()
            )

        wait_for("every verdict is right", right, 30)

    def end(self) -> None:
        """End the workers in order, and look at what they said."""
        assert self.spare is not None
        for name, worker in (("struck", self.struck), ("other", self.spare)):
            last = [line["event"] for line in worker.log() if line.get("level") == "critical"]
            if worker.process.poll() is None:
                if code := worker.stop():
                    self.outcome.wrong.append(f"the {name} worker ended with {code}")
            elif worker is self.spare or not self.kills:
                where = self.outcome.wrong if worker is self.spare or "unexpected" in str(last) else self.outcome.notes
                where.append(f"the {name} worker ended by itself: {last}")


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except FileNotFoundError:  # not Linux
        time.sleep(0.5)
        return True


def crash(bootstrap: str, step: str, fault: str, seed: int, product: Path = HERE) -> Outcome:
    """Make one run of the product in that folder, and judge it. The run's folder stays where something was wrong."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"optout-{step}-{fault}-{seed}-"))
    outcome = Outcome(step, fault, seed, folder=str(folder))
    try:
        with Deployment(bootstrap, f"m{secrets.token_hex(4)}.", folder, product) as there:
            run = Run(outcome, there)
            with outcome.noting_failures():
                run.play()
            there.end_workers()
            outcome.allowed = len(run.watch.violations)
            outcome.wrong += sorted(set(run.watch.violations))[:3]
            outcome.probes = run.watch.seen.total()
            with outcome.noting_failures():
                judge(outcome, there, run.sent)
    except Exception as problem:  # noqa: BLE001 - it is this run's verdict; the next run is to come
        outcome.failed(problem)
    outcome.seconds = time.monotonic() - began
    if outcome.well:
        shutil.rmtree(folder)
    return outcome
