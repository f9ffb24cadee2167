"""Where a worker can be struck: every step of the protocol, and the trap that waits there.

The table is the only place that knows what the product's parts are called. A name that the product has no more is
refused before a worker begins.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class When(StrEnum):
    """On which side of a call the trap stands."""

    BEFORE = "before"
    AFTER = "after"
    DURING = "during"


@dataclass(frozen=True)
class Step:
    """A step of the protocol: a call that the thread `thread` of the worker makes.

    `target` is "module:name" or "module:class.method". Calls that `concerns` refuses do not count; it is asked at every
    call, with its arguments, so that it may remember. It comes by `most` times for certain. `flush`: Redis is flushed
    first, for the step belongs to a replay.
    """

    name: str
    thread: str
    target: str
    when: When
    concerns: Callable[[tuple[Any, ...]], bool] = lambda _: True
    flush: bool = False
    most: int = 3


def _to_ledger(arguments: tuple[Any, ...]) -> bool:
    return bool(arguments[1].topic.endswith("keyword-ledger"))


def _of_ledger(arguments: tuple[Any, ...]) -> bool:
    return any(partition.topic.endswith("keyword-ledger") for partition in arguments[1])


def _of_inbound(arguments: tuple[Any, ...]) -> bool:
    return any(partition.topic.endswith("sms.inbound") for partition in arguments[1])


def _something(arguments: tuple[Any, ...]) -> bool:
    return bool(arguments[1])


def _taken(arguments: tuple[Any, ...]) -> bool:
    return arguments[1] is None  # an error otherwise


def _an_audit(arguments: tuple[Any, ...]) -> bool:
    return any(call.script.name == "audit" for call in arguments[1])


class _Replaying:
    """Whether a batch of records is applied that this process has applied before."""

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}

    def __call__(self, arguments: tuple[Any, ...]) -> bool:
        again = False
        for batch in arguments[1]:
            again |= batch.end <= self._ends.get(batch.bucket, 0)
            self._ends[batch.bucket] = max(batch.end, self._ends.get(batch.bucket, 0))
        return again


PRODUCERS = "consumer.kafka.producers"
INBOX = "consumer.kafka.inbox"
OFFSETS = "consumer.kafka.offsets"
VIEW = "consumer.suppression.view"

STEPS: Mapping[str, Step] = {
    step.name: step
    for step in (
        Step("classify-before-produce", "classify", f"{PRODUCERS}:LedgerProducer.write", When.BEFORE, _to_ledger),
        Step("classify-after-produce", "classify", f"{PRODUCERS}:LedgerProducer.write", When.AFTER, _to_ledger),
        Step("classify-before-commit", "classify", f"{INBOX}:Inbox.commit_soon", When.BEFORE, _something),
        Step("classify-after-commit", "classify", f"{INBOX}:Inbox._committed", When.AFTER, _taken),
        Step("apply-before", "apply", f"{VIEW}:View.apply", When.BEFORE),
        Step("apply-after", "apply", f"{VIEW}:View.apply", When.AFTER),
        Step("vouch-after-servers", "vouch", f"{VIEW}:View.servers", When.AFTER),
        Step("vouch-after-metas", "vouch", f"{VIEW}:View.metas", When.AFTER),
        Step("vouch-after-partitions", "vouch", f"{OFFSETS}:Offsets.partitions", When.AFTER),
        Step("vouch-after-committed", "vouch", f"{OFFSETS}:Offsets.kept", When.AFTER),
        Step("vouch-after-inbound-starts", "vouch", f"{OFFSETS}:Offsets.starts", When.AFTER, _of_inbound),
        Step("vouch-after-inbound-ends", "vouch", f"{OFFSETS}:Offsets.ends", When.AFTER, _of_inbound),
        Step("vouch-after-ledger-starts", "vouch", f"{OFFSETS}:Offsets.starts", When.AFTER, _of_ledger),
        Step("vouch-after-ledger-ends", "vouch", f"{VIEW}:View.vouch", When.BEFORE),
        Step("vouch-after-vouch", "vouch", f"{VIEW}:View.vouch", When.AFTER),
        Step("audit-after-listing", "vouch", f"{VIEW}:run", When.BEFORE, _an_audit),
        Step("audit-after-counting", "vouch", f"{VIEW}:View.audit", When.AFTER),
        Step("replay-after-begin", "apply", f"{VIEW}:View.begin_all", When.AFTER, flush=True, most=1),
        Step("replay-before-apply", "apply", f"{VIEW}:View.apply", When.BEFORE, _Replaying(), flush=True, most=2),
        Step("replay-after-apply", "apply", f"{VIEW}:View.apply", When.AFTER, _Replaying(), flush=True, most=2),
        Step("publish-after-take", "publish", f"{VIEW}:View.take", When.AFTER),
        Step("publish-after-produce", "publish", f"{PRODUCERS}:Producer.flush", When.AFTER),
        Step("publish-after-offsets", "publish", f"{PRODUCERS}:TransactionalOutbox._send_offsets", When.AFTER),
        Step("publish-in-commit", "publish", f"{PRODUCERS}:Producer.commit_transaction", When.DURING),
        Step("publish-before-trim", "publish", f"{PRODUCERS}:Producer.commit_transaction", When.AFTER),
        Step("publish-after-trim", "publish", f"{VIEW}:View.trim", When.AFTER),
    )
}

LOWERED: Mapping[str, float] = {
    "consumer.voucher:VOUCH_EVERY": 0.2,
    "consumer.voucher:AUDIT_EVERY": 0.3,
    "consumer.applier:MOST_RECORDS": 3,  # so that a replay takes several batches
}
"""What the struck worker does more often than others, so that each step comes by while texts are on their way."""

TRANSACTION_SECONDS = 5.0
"""After which the broker ends the transaction that a struck worker left open."""

LINGER_SECONDS = 60.0


class Trap:
    """Strikes at the `hit`-th time that its step comes by once it is armed: says so in a file, then kills or stops.

    With `linger` the thread that was stopped stays where it is when the others go on, until a file releases it.
    """

    def __init__(
        self, step: Step, folder: Path, *, hit: int, number: signal.Signals, delay: float, linger: bool
    ) -> None:
        self.step = step
        self._armed, self._reached, self._released = folder / "armed", folder / "reached", folder / "released"
        self._linger = linger
        self._hit = hit
        self._signal = number
        self._delay = delay
        self._count = 0

    def pass_by(self) -> None:
        """Strike here and now, if it is time."""
        if self._due():
            self._strike("")

    def beside(self, call: Callable[[], Any]) -> Any:
        """Make the call, and strike `delay` seconds after it began: while it is on its way, unless it is quicker."""
        if not self._due():
            return call()
        done = threading.Event()
        began = threading.Event()

        def strike() -> None:
            began.set()
            time.sleep(self._delay)
            self._strike("the call was over" if done.is_set() else "the call was on its way")

        thread = threading.Thread(target=strike, daemon=True)
        thread.start()
        began.wait()
        try:
            return call()
        finally:
            done.set()
            thread.join()

    def _due(self) -> bool:
        if threading.current_thread().name != self.step.thread or not self._armed.exists():
            return False
        self._count += 1
        return self._count == self._hit

    def _strike(self, what: str) -> None:
        ready = self._reached.with_suffix(".tmp")
        ready.write_text(what)
        ready.rename(self._reached)
        # Sent to this very thread, so that it does not get a step further.
        signal.pthread_kill(threading.get_ident(), self._signal)
        until = time.monotonic() + LINGER_SECONDS
        while self._linger and not self._released.exists() and time.monotonic() < until:
            time.sleep(0.02)


def prepare(trap: Trap) -> None:
    """Set the trap in the product's parts, in this process. Raises ImportError and AttributeError for a wrong name."""
    producers = importlib.import_module(PRODUCERS)
    # The client's own class is not Python's: methods can be replaced in a subclass only.
    producers.Producer = type("Producer", (producers.Producer,), {})  # type: ignore[attr-defined]
    for place, value in LOWERED.items():
        owner, name = owner_of(place)
        getattr(owner, name)
        setattr(owner, name, value)
    defaults = producers.TransactionalOutbox.__init__.__kwdefaults__
    assert "timeout" in defaults
    defaults["timeout"] = TRANSACTION_SECONDS
    owner, name = owner_of(trap.step.target)
    setattr(owner, name, _wrapped(getattr(owner, name), trap))


def owner_of(target: str) -> tuple[Any, str]:
    """Return the module or class that holds the target, and the target's name there."""
    module, _, path = target.partition(":")
    *classes, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for each in classes:
        owner = getattr(owner, each)
    return owner, name


def unknown() -> list[str]:
    """Return the targets that the product has not."""

    def is_there(target: str) -> bool:
        try:
            owner, name = owner_of(target)
        except (ImportError, AttributeError):
            return False
        return hasattr(owner, name)

    return sorted(target for target in {*LOWERED, *(step.target for step in STEPS.values())} if not is_there(target))


def _wrapped(original: Callable[..., Any], trap: Trap) -> Callable[..., Any]:
    step = trap.step

    @functools.wraps(original)
    def call(*arguments: Any, **named: Any) -> Any:
        if not step.concerns(arguments):
            return original(*arguments, **named)
        if step.when is When.BEFORE:
            trap.pass_by()
        elif step.when is When.DURING:
            return trap.beside(lambda: original(*arguments, **named))
        answer = original(*arguments, **named)
        if step.when is When.AFTER:
            trap.pass_by()
        return answer

    return call


def trap_of(environment: Mapping[str, str]) -> Trap:
    """Return the trap that the environment describes."""
    return Trap(
        STEPS[environment["MATRIX_STEP"]],
        Path(environment["MATRIX_FOLDER"]),
        hit=int(environment["MATRIX_HIT"]),
        number=signal.Signals[environment["MATRIX_SIGNAL"]],
        delay=float(environment["MATRIX_DELAY"]),
        linger=bool(environment["MATRIX_LINGER"]),
    )


def environment_of(
    step: Step, folder: Path, *, hit: int, number: signal.Signals, delay: float, linger: bool
) -> dict[str, str]:
    """Return the environment that describes a trap."""
    return {
        "MATRIX_STEP": step.name,
        "MATRIX_FOLDER": os.fspath(folder),
        "MATRIX_HIT": str(hit),
        "MATRIX_SIGNAL": number.name,
        "MATRIX_DELAY": str(delay),
        "MATRIX_LINGER": "1" if linger else "",
    }
