"""What a bucket of the view holds, read in bounded pieces while others go on writing it. Changes nothing.

Reading all of it is not one step: what is written meanwhile may be seen or not. `look_again` reads some subscriptions
and the bucket's meta in one step, for whoever has to know.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis

from consumer.domain.buckets import bucket_prefix, locations_key, meta_key, outbox_key, set_key, state_key
from consumer.nodes import nodes_of
from consumer.suppression.scripts import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from consumer.nodes import Nodes

PIECE = 1000
"""Members, fields or changes that are asked for in one command."""
SCANS = 20
"""Such commands in one round trip. A small set is given whole: an answer can be larger than was asked for."""

Subscription = tuple[str, str]
"""Location id and the patient's digits."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a bucket says of itself, and the lengths of its outbox and locations at the same moment.

    `vouched` is whether it is vouched for on the very server that answers.
    """

    log: str
    epoch: str
    applied: int
    published: int
    members: int
    states: int
    waiting: int
    touched: int
    waiting_counted: int
    touched_counted: int
    vouched: bool


@dataclass(slots=True)
class Contents:
    """What a bucket holds of the locations that it lists."""

    members: set[Subscription] = field(default_factory=set)
    records: dict[Subscription, str] = field(default_factory=dict)
    epochs: dict[str, str | None] = field(default_factory=dict)
    """Under which epoch the records of each listed location are kept; None where that is not said."""
    outbox: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    """Version and record's bytes of each waiting change, by ledger offset."""
    of_other_types: list[str] = field(default_factory=list)
    """Keys that hold another type than ours."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One subscription: in the set or not, its record, whether its location is listed."""

    member: bool
    record: str | None
    listed: bool


class Reading:
    """Reads buckets. Every method raises ViewUnavailable when Redis cannot answer."""

    def __init__(self, client: redis.Redis | redis.RedisCluster | Nodes, *, buckets: int) -> None:
        self._nodes = nodes_of(client)
        self._prefixes = [bucket_prefix(bucket, buckets) for bucket in range(buckets)]

    @contextmanager
    def _server(self, prefix: str) -> Iterator[redis.Redis]:
        """Give a client of the server that has the bucket, and say of its errors what a view says."""
        node = None
        try:
            node = self._nodes.serving(meta_key(prefix))
            yield node.client
        except (redis.RedisError, OSError) as error:
            if node is not None:
                self._nodes.failed(node, error)
            raise unavailable(error) from None

    def standing(self, bucket: int) -> Standing | None:
        """Return what the bucket says of itself, None where there is none or it is not whole."""
        standing, _ = self.look_again(bucket, [])
        return standing

    def look_again(
        self, bucket: int, subscriptions: Sequence[Subscription]
    ) -> tuple[Standing | None, dict[Subscription, Seen]]:
        """Return these subscriptions, PIECE at most, and what the bucket says of itself, all in one moment."""
        assert len(subscriptions) <= PIECE
        prefix = self._prefixes[bucket]
        with self._server(prefix) as client, client.pipeline(transaction=True) as pipeline:
            pipeline.hgetall(meta_key(prefix))
            pipeline.zcard(outbox_key(prefix))
            pipeline.scard(locations_key(prefix))
            pipeline.info("server", "replication")
            for location, digits in subscriptions:
                pipeline.sismember(set_key(prefix, location), digits)
                pipeline.hget(state_key(prefix, location), digits)
                pipeline.sismember(locations_key(prefix), location)
            answers = [None if _of_other_type(answer) else answer for answer in pipeline.execute(raise_on_error=False)]
        seen = {}
        for number, subscription in enumerate(subscriptions):
            member, record, listed = answers[4 + 3 * number : 7 + 3 * number]
            seen[subscription] = Seen(bool(member), None if record is None else _text(record), bool(listed))
        return _standing(*answers[:4]), seen

    def contents(self, bucket: int) -> Contents:
        """Return what the bucket holds."""
        prefix, found = self._prefixes[bucket], Contents()
        with self._server(prefix) as client:
            listed: set[str] = set()
            self._scan(client, [("sscan", locations_key(prefix), listed.update)], found)
            found.epochs = dict.fromkeys((_text(location) for location in listed), None)  # type: ignore[arg-type]
            scans: list[Any] = []
            for location in found.epochs:
                scans.append(("sscan", set_key(prefix, location), _members(location, found)))
                scans.append(("hscan", state_key(prefix, location), _records(location, found)))
            self._scan(client, scans, found)
            self._outbox(client, outbox_key(prefix), found)
        return found

    @staticmethod
    def _scan(client: redis.Redis, scans: list[Any], found: Contents) -> None:
        """Scan these keys to their ends, several in a round trip."""
        left = [(command, key, 0, take) for command, key, take in reversed(scans)]
        while left:
            now = [left.pop() for _ in range(min(SCANS, len(left)))]
            with client.pipeline(transaction=False) as pipeline:
                for command, key, cursor, _ in now:
                    getattr(pipeline, command)(key, cursor, count=PIECE)
                answers = pipeline.execute(raise_on_error=False)
            for (command, key, _, take), answer in zip(now, answers, strict=True):
                if _of_other_type(answer):
                    found.of_other_types.append(key)
                    continue
                cursor, items = answer
                take(items)
                if cursor:
                    left.append((command, key, cursor, take))

    @staticmethod
    def _outbox(client: redis.Redis, key: str, found: Contents) -> None:
        start = "-inf"
        while True:
            with client.pipeline(transaction=False) as pipeline:
                pipeline.zrange(key, start, "+inf", byscore=True, offset=0, num=PIECE, withscores=True)
                (piece,) = pipeline.execute(raise_on_error=False)
            if _of_other_type(piece):
                found.of_other_types.append(key)
                return
            for change, score in piece:
                _, version, raw = [*change.split(b":", 2), b"", b""][:3]
                found.outbox[int(score)] = (_text(version), raw)
            if len(piece) < PIECE:
                return
            start = f"({int(piece[-1][1])}"


def _members(location: str, found: Contents) -> Any:
    return lambda items: found.members.update((location, _text(digits)) for digits in items)


def _records(location: str, found: Contents) -> Any:
    def take(items: dict[bytes, bytes]) -> None:
        for digits, record in items.items():
            if digits == b"epoch":
                found.epochs[location] = _text(record)
            else:
                found.records[location, _text(digits)] = _text(record)

    return take


def _standing(meta: Any, waiting: int | None, touched: int | None, info: Any) -> Standing | None:
    known = {_text(name): _text(value) for name, value in (meta or {}).items()}
    here = (info["run_id"], info["master_replid"])
    try:
        return Standing(
            log=known["log"],
            epoch=known["epoch"],
            applied=int(known["applied"]),
            published=int(known["published"]),
            members=int(known["members"]),
            states=int(known["states"]),
            waiting=int(known["outbox"]),
            touched=int(known["locations"]),
            waiting_counted=-1 if waiting is None else waiting,
            touched_counted=-1 if touched is None else touched,
            vouched="fresh" in known and (known.get("run"), known.get("replication")) == here,
        )
    except (KeyError, ValueError):
        return None


def _of_other_type(answer: Any) -> bool:
    """Whether a key was of another type than ours. Raises what else went wrong."""
    if not isinstance(answer, Exception):
        return False
    if isinstance(answer, redis.ResponseError) and "WRONGTYPE" in str(answer):
        return True
    raise answer


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
