"""What a guard answers: ALLOWED, SUPPRESSED, or UNKNOWN and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn


class VerdictKind(StrEnum):
    """The three answers. Only ALLOWED may send."""

    ALLOWED = "ALLOWED"
    SUPPRESSED = "SUPPRESSED"
    UNKNOWN = "UNKNOWN"

    def __bool__(self) -> NoReturn:
        """Refuse to be a truth value, as a verdict does."""
        raise TypeError("a verdict's kind is no truth value: compare it with VerdictKind.ALLOWED")


class Unknown(StrEnum):
    """Why a verdict is UNKNOWN."""

    UNREACHABLE = "unreachable"
    """Redis does not answer."""
    TIMEOUT = "timeout"
    """Redis did not answer in time."""
    REFUSED = "refused"
    """Redis refuses the user, the password or the database, or a certificate is not trusted: it does not pass."""
    UNVOUCHED = "unvouched"
    """The bucket is not there or not whole, or nobody has vouched for it yet."""
    OTHER_SERVER = "other server"
    """It was vouched for on another server, or before this one was started again."""
    STALE = "stale"
    """What it stands on is older than `max_staleness`: the workers are down or far behind."""
    BEHIND = "behind"
    """What inbound held when the question was asked was not in the view within `catch_up` seconds."""
    WRONG_MODE = "wrong mode"
    """The server is a node of a Redis Cluster and the guard is none for clusters, or the other way round."""
    GARBLED = "garbled"
    """What came back is no answer to the question: there is something else than our Redis, or the line was crossed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one number. Compare `kind`: a verdict is no truth value.

    `at` is when it was asked and `fresh` up to when all that inbound held was known then, both in ms by Redis's clock;
    None where Redis did not say. A message that waits in a queue is to be asked about again at the last hop.
    `in_maintenance` says that it is ALLOWED only because an operator opened a maintenance window: `fresh` is older than
    this guard accepts. Where it was asked why, `since` is when the patient's text of a SUPPRESSED one was sent, in ms,
    and `keyword` what it said.
    """

    kind: VerdictKind
    reason: Unknown | None = None
    at: int | None = None
    fresh: int | None = None
    in_maintenance: bool = False
    since: int | None = None
    keyword: str | None = None

    @property
    def age(self) -> float | None:
        """Return how old what the verdict stands on was when it was given, in seconds."""
        return None if self.at is None or self.fresh is None else (self.at - self.fresh) / 1000

    def __bool__(self) -> NoReturn:
        """Refuse to be a truth value: UNKNOWN would be let through by one reading or the other."""
        raise TypeError("a verdict is no truth value: compare verdict.kind with VerdictKind.ALLOWED, or call require()")


class NotAllowed(Exception):
    """A send that may not happen. `verdict` says why; no number stands in the message."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"the send is {verdict.kind}" + (f" ({verdict.reason})" if verdict.reason else ""))
        self.verdict = verdict

    def __reduce__(self) -> tuple[type[NotAllowed], tuple[Verdict]]:
        """Be made again of the verdict, where a pool of processes hands it on."""
        return type(self), (self.verdict,)
