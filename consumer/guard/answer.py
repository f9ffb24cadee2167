"""What an answer of Redis means: the rules of the guard (L6), without a connection.

A bucket answers only while it is vouched for on the very server that answers: a Redis that was flushed, restarted,
rolled back by a failover or restored from a backup knows nothing until its bucket has been caught up and vouched for.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import redis
from redis.exceptions import AuthenticationError, InvalidResponse, MovedError, NoPermissionError, ResponseError

from consumer.guard.verdict import Unknown, Verdict, VerdictKind
from consumer.nodes import WrongMode

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST_WINDOW = 4 * 3600
"""Seconds that a maintenance window lasts at most from any moment on; one that claims to is none."""
_NUMBER = re.compile(r"-?[0-9]{1,4000}")
_ANSWERS = {0, 1}
_CERTIFICATE = re.compile(r"SSL.*CERTIFICATE")
"""How OpenSSL names what is wrong with a certificate: the server's that we do not trust, or the one that it misses."""
_REFUSALS = ("NOAUTH", "WRONGPASS", "NOPERM", "DB")


class Answer(NamedTuple):
    """What the script returned, taken apart."""

    run: object
    replication: object
    now: int
    marked_run: object
    marked_replication: object
    fresh: bytes | str | None
    window: tuple[bytes | str | None, bytes | str | None]
    members: list[int]
    records: list[bytes | str | None]


class Garbled(Exception):
    """What came back is no answer to what was asked."""


def taken_apart(answer: Any, word: str, count: int) -> Answer:
    """Return the parts of an answer about `count` numbers that was asked for under `word`. Raises Garbled."""
    try:
        said, run, replication, now, marked_run, marked_replication, fresh, opens, closes, members, records = answer
        whole = (
            type(members) is list and len(members) == count and len(records) in (0, count) and {*members} <= _ANSWERS
        )
    except (TypeError, ValueError):
        raise Garbled from None
    if not whole or _text(said) != word or not run or not replication or type(now) is not int:
        raise Garbled
    return Answer(run, replication, now, marked_run, marked_replication, fresh, (opens, closes), members, records)


def folded(answer: Answer, spellings: Sequence[int]) -> Answer:
    """Return an answer about members as one about numbers, which have so many each: any of them makes it a member."""
    members, records = [], []
    start = 0
    for count in spellings:
        asked = answer.members[start : start + count]
        found = start + asked.index(1) if 1 in asked else start
        members.append(answer.members[found])
        if answer.records:
            records.append(answer.records[found])
        start += count
    return answer._replace(members=members, records=records)


def why(error: Exception) -> Unknown:
    """Return why there is no answer."""
    if isinstance(error, (WrongMode, MovedError)):  # a cluster's would have been asked for where it is
        return Unknown.WRONG_MODE
    if isinstance(error, (redis.TimeoutError, TimeoutError)):
        return Unknown.TIMEOUT
    said = str(error)
    if isinstance(error, (AuthenticationError, NoPermissionError)) or said.partition(" ")[0] in _REFUSALS:
        return Unknown.REFUSED
    if isinstance(error, redis.ConnectionError) and _CERTIFICATE.search(said):
        return Unknown.REFUSED
    if "WRONGTYPE" in said:  # a key of the bucket is none of ours, and its owner will begin it anew
        return Unknown.UNVOUCHED
    is_redis = isinstance(error, (redis.RedisError, OSError)) and not isinstance(error, InvalidResponse)
    is_old = isinstance(error, ResponseError) and "unknown command" in said
    return Unknown.UNREACHABLE if is_redis and not is_old else Unknown.GARBLED


class Standing(NamedTuple):
    """What the verdicts of one answer stand on: which server, its clock, and up to when its bucket is vouched for."""

    server: tuple[object, object]
    now: int
    fresh: int | None
    reason: Unknown | None


class Rules:
    """Reads answers for a guard that accepts what is at most so old."""

    def __init__(self, max_staleness: float | None) -> None:
        """`max_staleness` in seconds; None accepts any age."""
        self._max_staleness_ms = None if max_staleness is None else max_staleness * 1000

    @property
    def max_staleness_ms(self) -> float | None:
        """Return the greatest age that is accepted, in ms; None where any is."""
        return self._max_staleness_ms

    def standing(self, answer: Answer) -> Standing:
        """Return what the verdicts of this answer stand on."""
        server, fresh = (answer.run, answer.replication), _number(answer.fresh)
        if None in (answer.marked_run, answer.marked_replication, fresh):
            return Standing(server, answer.now, None, Unknown.UNVOUCHED)
        if (answer.marked_run, answer.marked_replication) != server:
            return Standing(server, answer.now, None, Unknown.OTHER_SERVER)
        return Standing(server, answer.now, fresh, None)

    def verdicts(self, answer: Answer, standing: Standing) -> Sequence[Verdict]:
        """Return the verdict for each number, in the order in which they were asked about."""
        now, fresh = standing.now, standing.fresh
        if standing.reason is not None or fresh is None:  # in a replay the set is not true yet, not even for members
            return [Verdict(VerdictKind.UNKNOWN, standing.reason, now, fresh)] * len(answer.members)
        if 1 not in answer.members:
            return [self._of_others(now, fresh, answer.window)] * len(answer.members)
        suppressed = Verdict(VerdictKind.SUPPRESSED, None, now, fresh)  # stale or not
        other = suppressed if 0 not in answer.members else self._of_others(now, fresh, answer.window)
        verdicts = [suppressed if member else other for member in answer.members]
        if not answer.records:
            return verdicts
        return [
            _explained(verdict, record) if member else verdict
            for verdict, member, record in zip(verdicts, answer.members, answer.records, strict=True)
        ]

    def _of_others(self, now: int, fresh: int, window: Sequence[bytes | str | None]) -> Verdict:
        """Return the verdict for who is no member."""
        if self._accepts(now, fresh):
            return Verdict(VerdictKind.ALLOWED, None, now, fresh)
        if self._excuses(now, fresh, window):
            return Verdict(VerdictKind.ALLOWED, None, now, fresh, in_maintenance=True)
        return Verdict(VerdictKind.UNKNOWN, Unknown.STALE, now, fresh)

    def _accepts(self, now: int, fresh: int) -> bool:
        # A time ahead of now was written before the server's clock was set back: its age is not known.
        return now - fresh >= 0 and (self._max_staleness_ms is None or now - fresh <= self._max_staleness_ms)

    def _excuses(self, now: int, fresh: int, window: Sequence[bytes | str | None]) -> bool:
        """Whether a maintenance window is open, and what it stands on was new enough when it began."""
        begin, end = map(_number, window)
        if begin is None or end is None or self._max_staleness_ms is None:
            return False
        open_ = begin <= now < end <= now + LONGEST_WINDOW * 1000
        return open_ and begin - self._max_staleness_ms <= fresh <= now


def _explained(verdict: Verdict, record: bytes | str | None) -> Verdict:
    """Add when and by which word, where the workers' record says so."""
    parts = _text(record).split(":", 4)
    since = _number(parts[3]) if len(parts) == 5 and parts[0] == "O" else None  # noqa: PLR2004 - status to keyword
    return verdict if since is None else replace(verdict, since=since, keyword=parts[4])


def _text(field: Any) -> str:
    return field.decode("utf-8", "replace") if isinstance(field, bytes) else str(field)


def _number(field: bytes | str | None) -> int | None:
    """Return the number that a field of the marker holds; None for what nobody of ours has written there."""
    found = None if field is None else _NUMBER.fullmatch(_text(field))
    return None if found is None else int(found[0])
