"""May this location text this patient? ALLOWED, SUPPRESSED, or UNKNOWN, which means: hold the message and ask again.

A bucket answers only while it is vouched for on the very server that answers: a Redis that was flushed, restarted,
rolled back by a failover or restored from a backup knows nothing until its bucket has been caught up and vouched for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NoReturn

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    RedisError,
    TryAgainError,
)
from redis.retry import Retry

from consumer.domain.buckets import DEFAULT_BUCKETS, bucket_of, bucket_prefix, digits_of, is_location, meta_key, set_key
from consumer.domain.phone import to_e164
from consumer.nodes import WrongMode, check_database, cluster_at, nodes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.nodes import Nodes

DEFAULT_MAX_STALENESS = 300.0
LONGEST_WINDOW = 4 * 3600
"""Seconds that a maintenance window lasts at most from any moment on; one that claims to is none."""

_SOURCE = files(__package__).joinpath("verdict.lua").read_text(encoding="utf-8")
_DIGEST = sha1(_SOURCE.encode(), usedforsecurity=False).hexdigest()
_REFUSALS = ("NOAUTH", "WRONGPASS", "NOPERM", "DB")
_MOST_NUMBERS = 1000  # in one call; a script's arguments are unpacked onto a stack of limited size


class VerdictKind(StrEnum):
    """The three answers. Only ALLOWED may send."""

    ALLOWED = "ALLOWED"
    SUPPRESSED = "SUPPRESSED"
    UNKNOWN = "UNKNOWN"


class Unknown(StrEnum):
    """Why a verdict is UNKNOWN."""

    UNREACHABLE = "unreachable"
    """Redis does not answer."""
    TIMEOUT = "timeout"
    """Redis did not answer in time."""
    REFUSED = "refused"
    """Redis refuses the user, the password or the database: somebody must be told, it does not pass."""
    UNVOUCHED = "unvouched"
    """The bucket is not there or not whole, or nobody has vouched for it yet."""
    OTHER_SERVER = "other server"
    """It was vouched for on another server, or before this one was started again."""
    STALE = "stale"
    """What it stands on is older than `max_staleness`: the workers are down or far behind."""
    WRONG_MODE = "wrong mode"
    """The server is a node of a Redis Cluster and the guard is none for clusters, or the other way round."""


class NotAllowed(Exception):
    """A send that may not happen. `verdict` says why; no number stands in the message."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"the send is {verdict.kind}" + (f" ({verdict.reason})" if verdict.reason else ""))
        self.verdict = verdict


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one number. Compare `kind`: a verdict is no truth value.

    `at` is when it was asked and `fresh` up to when all that inbound held was known then, both in ms by Redis's clock;
    None where Redis did not say. A message that waits in a queue is to be asked about again at the last hop.
    `in_maintenance` says that it is ALLOWED only because an operator opened a maintenance window: `fresh` is older than
    this guard accepts.
    """

    kind: VerdictKind
    reason: Unknown | None = None
    at: int | None = None
    fresh: int | None = None
    in_maintenance: bool = False

    @property
    def age(self) -> float | None:
        """Return how old what the verdict stands on was when it was given, in seconds."""
        return None if self.at is None or self.fresh is None else (self.at - self.fresh) / 1000

    def __bool__(self) -> NoReturn:
        """Refuse to be a truth value: UNKNOWN would be let through by one reading or the other."""
        raise TypeError("a verdict is no truth value: compare verdict.kind with VerdictKind.ALLOWED, or call require()")


def _called(client: redis.Redis, keys: Sequence[str], members: Sequence[str]) -> Any:
    try:
        return client.evalsha_ro(_DIGEST, len(keys), *keys, *members)
    except NoScriptError:  # the server has not seen it, or has forgotten it
        return client.eval_ro(_SOURCE, len(keys), *keys, *members)


def _why(error: Exception) -> Unknown:
    """Return why there is no answer."""
    if isinstance(error, (WrongMode, MovedError)):  # a cluster's would have been asked for where it is
        return Unknown.WRONG_MODE
    if isinstance(error, redis.TimeoutError):
        return Unknown.TIMEOUT
    word = str(error).partition(" ")[0]
    if isinstance(error, (AuthenticationError, NoPermissionError)) or word in _REFUSALS:
        return Unknown.REFUSED
    if "WRONGTYPE" in str(error):  # a key of the bucket is none of ours, and its owner will begin it anew
        return Unknown.UNVOUCHED
    return Unknown.UNREACHABLE


def _number(field: bytes | None) -> int | None:
    """Return the number that a field of the marker holds; None for what nobody of ours has written there."""
    try:
        return None if field is None else int(field)
    except ValueError:
        return None


class Guard:
    """Asks the view. One round trip for a location; nothing is cached. Safe to share among threads."""

    def __init__(
        self,
        client: redis.Redis | redis.RedisCluster | Nodes,
        *,
        buckets: int = DEFAULT_BUCKETS,
        max_staleness: float | None = DEFAULT_MAX_STALENESS,
        region: str = "US",
    ) -> None:
        """`max_staleness` in seconds; None accepts any age. `region` reads numbers without a country code.

        Buckets and region must be those of the workers. Raises ValueError for an age that is no positive number. Of a
        RedisCluster only its addresses and connection settings are used: primaries are asked, each once.
        """
        if max_staleness is not None and not 0 < max_staleness < math.inf:
            raise ValueError("max_staleness must be a positive number of seconds, or None to accept any age")
        self._nodes = nodes_of(client)
        self._buckets = buckets
        self._max_staleness_ms = None if max_staleness is None else max_staleness * 1000
        self._region = region

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        timeout: float = 1.0,
        cluster: bool = False,
        buckets: int = DEFAULT_BUCKETS,
        max_staleness: float | None = DEFAULT_MAX_STALENESS,
        region: str = "US",
    ) -> Guard:
        """Return a guard for the Redis at this URL that answers within about `timeout` seconds, UNKNOWN if need be.

        With `cluster` it names any node of a Redis Cluster, and the others are found through it. A connection that
        was closed meanwhile is made once more; a Redis that does not answer is not asked again. Raises ValueError for
        what is no URL of a Redis.
        """

        def connect(address: str) -> redis.Redis:
            check_database(address)
            return redis.Redis.from_url(
                address,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
            )

        client = cluster_at(url, connect) if cluster else connect(url)
        return cls(client, buckets=buckets, max_staleness=max_staleness, region=region)

    def check(self, location_id: str, number: str) -> Verdict:
        """Return the verdict for one patient. Raises NotANumber for what is no phone number."""
        return self.check_many(location_id, [number])[0]

    def check_many(self, location_id: str, numbers: Sequence[str]) -> list[Verdict]:
        """Return the verdicts for many patients of a location, in order.

        Raises NotANumber for what is no phone number, ValueError for what is no location id.
        """
        if not is_location(location_id):
            raise ValueError("the location is empty or too long")
        members = [digits_of(to_e164(number, self._region)) for number in numbers]
        verdicts: list[Verdict] = []
        for start in range(0, len(members), _MOST_NUMBERS):
            verdicts += self._ask(location_id, members[start : start + _MOST_NUMBERS])
        return verdicts

    def require(self, location_id: str, number: str) -> Verdict:
        """Return the verdict if it is ALLOWED. Raises NotAllowed otherwise."""
        verdict = self.check(location_id, number)
        if verdict.kind is not VerdictKind.ALLOWED:
            raise NotAllowed(verdict)
        return verdict

    def _ask(self, location_id: str, members: Sequence[str]) -> list[Verdict]:
        prefix = bucket_prefix(bucket_of(location_id, self._buckets), self._buckets)
        keys = (meta_key(prefix), set_key(prefix, location_id))
        try:
            answer = self._run(keys, members)
        except (RedisError, OSError) as error:
            return [Verdict(VerdictKind.UNKNOWN, _why(error))] * len(members)
        return self._verdicts(answer)

    def _run(self, keys: Sequence[str], members: Sequence[str]) -> Any:
        node = self._nodes.serving(keys[0])
        try:
            return _called(node.client, keys, members)
        except (RedisError, OSError) as error:
            if not self._nodes.failed(node, error):
                raise
        try:  # the slot has moved: once more, where it is
            node = self._nodes.serving(keys[0])
            return _called(node.client, keys, members)
        except (RedisError, OSError) as error:
            if self._nodes.failed(node, error):
                raise TryAgainError("the slot has moved again") from None
            raise

    def _verdicts(self, answer: Any) -> list[Verdict]:
        run, replication, now, marked_run, marked_replication, fresh, members, *window = answer
        reason, freshness = None, _number(fresh)
        if None in (marked_run, marked_replication, freshness):
            reason, freshness = Unknown.UNVOUCHED, None
        elif (marked_run, marked_replication) != (run, replication):
            reason, freshness = Unknown.OTHER_SERVER, None
        stale = freshness is not None and not self._accepts(now, freshness)
        excused = stale and freshness is not None and self._excuses(now, freshness, window)
        return [self._verdict(bool(member), reason, now, freshness, stale=stale, excused=excused) for member in members]

    def _accepts(self, now: int, fresh: int) -> bool:
        # A time ahead of now was written before the server's clock was set back: its age is not known.
        return self._max_staleness_ms is None or 0 <= now - fresh <= self._max_staleness_ms

    def _excuses(self, now: int, fresh: int, window: Sequence[Any]) -> bool:
        """Whether a maintenance window is open, and what it stands on was new enough when it began."""
        begin, end = map(_number, window)
        if begin is None or end is None or self._max_staleness_ms is None:
            return False
        open_ = begin <= now < end <= now + LONGEST_WINDOW * 1000
        return open_ and begin - self._max_staleness_ms <= fresh <= now

    @staticmethod
    def _verdict(
        member: bool,  # noqa: FBT001
        reason: Unknown | None,
        now: int,
        fresh: int | None,
        *,
        stale: bool,
        excused: bool,
    ) -> Verdict:
        if reason is not None:  # in a replay the set is not true yet, not even for members
            return Verdict(VerdictKind.UNKNOWN, reason, now, fresh)
        if member:  # stale or not
            return Verdict(VerdictKind.SUPPRESSED, None, now, fresh)
        if stale and not excused:
            return Verdict(VerdictKind.UNKNOWN, Unknown.STALE, now, fresh)
        return Verdict(VerdictKind.ALLOWED, None, now, fresh, in_maintenance=excused)
