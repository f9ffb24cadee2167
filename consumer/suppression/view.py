"""The view of each bucket in Redis: begin, apply, take what waits to be published, trim, vouch, audit.

Every change is one script, safe to be called by anyone at any time: a batch is refused where it does not continue what
the bucket holds, so an owner that does not know yet that it is none any more can do no harm.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

import redis

from consumer.domain.bucket import Decided, Waiting
from consumer.domain.buckets import (
    bucket_prefix,
    locations_key,
    meta_key,
    outbox_key,
    passes_key,
    set_key,
    state_key,
)
from consumer.domain.events import Action
from consumer.domain.subscription import Decision
from consumer.nodes import ask, nodes_of
from consumer.suppression.answers import Applied, Audit, Meta, OtherLedger, Server, Status, Taken, Window
from consumer.suppression.scripts import (
    Call,
    ViewDamaged,
    ViewUnavailable,
    run,
    script,
    unavailable,
    unless_all_failed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from consumer.nodes import Node, Nodes
    from consumer.suppression.answers import Batch

APPLY, BEGIN, TAKE, TOUCH, TRIM, VOUCH, AUDIT, WINDOW = map(
    script, ("apply", "begin", "take", "touch", "trim", "vouch", "audit", "window")
)

MOST_RECORDS = 1000
"""Records in one call of apply.lua: Lua unpacks what they lead to onto a stack of limited size."""

_META = ("log", "epoch", "applied", "published", "outbox", "members", "states", "locations")
_DECISIONS = {b"C": Decision.CHANGED, b"U": Decision.UNCHANGED, b"S": Decision.STALE}
_ACTIONS = {Action.OPT_OUT: "O", Action.OPT_IN: "I"}


class View:
    """The buckets of one ledger in one Redis or Redis Cluster.

    `ledger` is the ledger's identity: its topic's id and the group that reads it.

    Every method raises ViewUnavailable when Redis cannot answer for any of the buckets. Where it can for some, the
    others are missing in what the method returns: whatever they were asked may have been done or not. Raises
    OtherLedger when a bucket was made from another ledger. `timed` hears of the seconds of each round trip of script
    calls. Safe to be used by several threads.
    """

    def __init__(
        self,
        client: redis.Redis | redis.RedisCluster | Nodes,
        *,
        buckets: int,
        ledger: str,
        timed: Callable[[str, float], None] = lambda _script, _seconds: None,
    ) -> None:
        self.buckets = buckets
        self._nodes = nodes_of(client)
        self._timed = timed
        self._ledger = ledger
        self._prefixes = [bucket_prefix(bucket, buckets) for bucket in range(buckets)]

    def apply(self, batches: Sequence[Batch]) -> list[Applied]:
        """Apply one batch a bucket, all in one round trip, and return what became of each, AWAY included.

        At most MOST_RECORDS records a batch: Lua unpacks them onto a stack of limited size.
        """
        assert all(len(batch.entries) <= MOST_RECORDS for batch in batches)
        answers = self._run_all([self._apply_call(batch) for batch in batches])
        return [self._applied(answer) for answer in answers]

    def _apply_call(self, batch: Batch) -> Call:
        prefix = self._prefixes[batch.bucket]
        places: dict[str, int] = {}
        records: list[str | bytes | int] = []
        for entry in batch.entries:
            place = places.setdefault(entry.location_id, len(places) + 1)
            records += (
                entry.offset,
                place,
                entry.digits,
                _ACTIONS[entry.action],
                entry.event_time,
                entry.keyword,
                entry.raw if entry.offset >= batch.published else b"",  # below it nothing goes into the outbox
                entry.confirmation,
            )
        keys = [meta_key(prefix), outbox_key(prefix), locations_key(prefix), passes_key(prefix)]
        for location_id in places:
            keys += (set_key(prefix, location_id), state_key(prefix, location_id))
        head: tuple[str | int, ...] = (self._ledger, batch.position, batch.end, batch.published, len(places))
        return Call(APPLY, keys, [*head, *places, *records])

    def _applied(self, answer: Any) -> Applied:
        if isinstance(answer, ViewUnavailable):
            return Applied(Status.AWAY, "", 0, problem=answer)
        if isinstance(answer, ViewDamaged):
            return Applied(Status.DAMAGED, "", 0)
        status, epoch, applied, waiting, decisions = answer
        return Applied(
            self._status(status, epoch),
            epoch.decode(errors="replace"),
            applied,
            waiting,
            tuple(Decided(offset, _DECISIONS[decision], version) for offset, decision, version in decisions),
        )

    def _status(self, status: bytes, other: bytes) -> Status:
        known = Status(status.decode())
        if known is Status.OTHER:
            name = f"{other.decode(errors='replace')}; " if other else ""
            raise OtherLedger(
                f"Redis holds the view of another ledger ({name}this one is {self._ledger}): point OPTOUT_REDIS_URL "
                "at the right database; if the other ledger was lost, this view is the last copy of its opt-outs: "
                "keep a copy before you empty it"
            )
        return known

    def begin(self, bucket: int, *, damaged: str | None = None, published: int = 0, by_operator: bool = False) -> int:
        """Begin a bucket that is not there, or anew the one whose epoch was found `damaged`; return its `applied`.

        An empty `damaged` stands for the epoch that is there now: a key of another type tells nothing of its epoch.
        `by_operator` is kept for the owner, see `take_rebuilt`.
        """
        return self.begin_all({bucket: damaged}, {bucket: published}, by_operator=by_operator)[bucket]

    def begin_all(
        self, damaged: Mapping[int, str | None], published: Mapping[int, int], *, by_operator: bool = False
    ) -> dict[int, int]:
        """Begin each of these buckets, all in one round trip, and return their `applied`."""
        unread = self.metas([bucket for bucket, epoch in damaged.items() if epoch == ""])
        calls = {}
        for bucket, found in damaged.items():
            meta = unread.get(bucket)
            known = meta.epoch if meta else found
            prefix = self._prefixes[bucket]
            keys = [meta_key(prefix), outbox_key(prefix), locations_key(prefix), passes_key(prefix)]
            epoch = secrets.token_hex(8)
            calls[bucket] = Call(
                BEGIN, keys, (self._ledger, epoch, known or "", published.get(bucket, 0), int(by_operator))
            )
        begun = {}
        for bucket, (status, epoch, applied) in self._run(calls).items():
            self._status(status, epoch)
            begun[bucket] = int(applied)
        return begun

    def take_rebuilt(self, buckets: Iterable[int]) -> set[int]:
        """Return those of these buckets that an operator had begun anew, once; none where that cannot be asked."""
        wanted = list(buckets)
        keys = [meta_key(self._prefixes[bucket]) for bucket in wanted]
        answers = ask(self._nodes, [(key, ("HDEL", key, "rebuilt")) for key in keys])
        return {bucket for bucket, answer in zip(wanted, answers, strict=True) if answer == 1}

    def _run_all(self, calls: Sequence[Call]) -> list[Any]:
        began = time.monotonic()
        answers = run(self._nodes, calls)
        if calls:
            self._timed(calls[0].script.name, time.monotonic() - began)
        return answers

    def _run(self, calls: Mapping[int, Call]) -> dict[int, Any]:
        """Run one call a bucket and return the answers of those that answered."""
        answers = zip(calls, self._run_all(list(calls.values())), strict=True)
        return {bucket: answer for bucket, answer in answers if not isinstance(answer, ViewUnavailable)}

    def metas(self, buckets: Iterable[int]) -> dict[int, Meta | None]:
        """Return what each bucket says of itself; None for one that is not there or is not whole."""
        wanted = list(buckets)
        keys = [meta_key(self._prefixes[bucket]) for bucket in wanted]
        asked = ask(self._nodes, [(key, ("HMGET", key, *_META)) for key in keys])
        answers = unless_all_failed([_known(answer) for answer in asked])
        return {
            bucket: self._meta(answer)
            for bucket, answer in zip(wanted, answers, strict=True)
            if not isinstance(answer, ViewUnavailable)
        }

    def _meta(self, answer: Any) -> Meta | None:
        if answer is None:
            return None
        log, epoch, applied, published, waiting = answer[:5]
        if log is not None and log.decode(errors="replace") != self._ledger:
            self._status(b"OTHER", log)
        if None in answer:
            return None
        try:
            return Meta(epoch.decode(errors="replace"), int(applied), int(published), int(waiting))
        except ValueError:  # not what we wrote
            return None

    def take(self, starts: Mapping[int, int], limit: int) -> dict[int, Taken]:
        """Return what waits in each bucket from the given offset on, at most `limit` changes each, in order."""
        calls = {
            b: Call(TAKE, [meta_key(self._prefixes[b]), outbox_key(self._prefixes[b])], [self._ledger, start, limit])
            for b, start in starts.items()
        }
        return {b: self._taken(answer) for b, answer in self._run(calls).items()}

    def _taken(self, answer: Any) -> Taken:
        if isinstance(answer, ViewDamaged):
            return Taken(Status.DAMAGED, 0, 0)
        status, epoch, applied, published, changes = answer
        return Taken(self._status(status, epoch), applied, published, tuple(map(_waiting, changes)))

    def trim(self, below: Mapping[int, int]) -> None:
        """Forget the changes below the given offset of each bucket: only ever one that is committed as published."""
        self._run(
            {
                b: Call(TRIM, [meta_key(self._prefixes[b]), outbox_key(self._prefixes[b])], [self._ledger, offset])
                for b, offset in below.items()
            }
        )

    def touch(self, buckets: Iterable[int]) -> set[int]:
        """Write into each bucket what stands there; return those whose Redis takes writes.

        Raises ViewUnavailable where none does: a replica answers too, and so does a server whose memory is full.
        """
        return set(self._run({b: Call(TOUCH, [meta_key(self._prefixes[b])], []) for b in buckets}))

    def holds(self, buckets: Iterable[int]) -> set[int]:
        """Return the buckets under whose meta's name there is anything at all, whoever wrote it."""
        wanted = list(buckets)
        keys = [meta_key(self._prefixes[bucket]) for bucket in wanted]
        answers = ask(self._nodes, [(key, ("EXISTS", key)) for key in keys])
        return {bucket for bucket, answer in zip(wanted, answers, strict=True) if answer == 1}

    def servers(self, buckets: Sequence[int]) -> dict[int, Server]:
        """Return the identity and the clock of the server that serves each bucket; each server is asked once.

        Which server that is, is what was last heard of the cluster, and can be wrong: after a failover, or when the
        slot has moved. vouch.lua compares the identity with that of the server on which it runs, so being wrong costs
        a bucket its vouching in this pass, and can never vouch for it on a server that was not asked.
        """
        found: dict[int, Server] = {}
        known: dict[Node, Server | ViewUnavailable] = {}
        problem = ViewUnavailable("no bucket")
        for bucket in buckets:
            try:
                node = self._nodes.serving(meta_key(self._prefixes[bucket]))
                server = known[node] = known.get(node) or self._identify(node)
            except (redis.RedisError, OSError) as error:
                server = unavailable(error)
            if isinstance(server, ViewUnavailable):
                problem = server
            else:
                found[bucket] = server
        if not found:
            raise problem
        return found

    def server(self, bucket: int = 0) -> Server:
        """Return the identity and the clock of the server that serves a bucket."""
        return self.servers([bucket])[bucket]

    def _identify(self, node: Node) -> Server | ViewUnavailable:
        try:
            with node.client.pipeline(transaction=True) as pipeline:
                pipeline.info("server", "replication")
                pipeline.time()
                info, (seconds, microseconds) = pipeline.execute()
        except (redis.RedisError, OSError) as error:
            self._nodes.failed(node, error)
            return unavailable(error)
        return Server(info["run_id"], info["master_replid"], seconds * 1000 + microseconds // 1000)

    def vouch(self, server: Server, fresh: int, ends: Mapping[int, tuple[str, int]]) -> dict[int, Status]:
        """Vouch for each bucket that is still of its epoch, on that server, and has reached its ledger end.

        Where `fresh`, or the newest time that was read there, lies ahead of the clock, that was set back: CHANGED.
        `ends` gives epoch and ledger end of each bucket; `fresh` is in ms. The order in which the caller learned the
        three is part of the protocol: server and epochs, then `fresh`, then the ends.
        """
        calls = {
            b: Call(
                VOUCH,
                [meta_key(self._prefixes[b]), passes_key(self._prefixes[b])],
                [self._ledger, epoch, server.run, server.replication, end, fresh, server.time],
            )
            for b, (epoch, end) in ends.items()
        }
        return {b: self._vouched(answer) for b, answer in self._run(calls).items()}

    def _vouched(self, answer: Any) -> Status:
        return Status.CHANGED if isinstance(answer, ViewDamaged) else self._status(answer[0], b"")

    def open_window(self, buckets: Iterable[int], milliseconds: int) -> dict[int, Window]:
        """Open a maintenance window in each of these buckets that is over after so many ms; one that is open goes on.

        CHANGED says that nobody vouches for the bucket on this server: it gets none.
        """
        assert milliseconds > 0
        return self._windows(buckets, milliseconds)

    def close_window(self, buckets: Iterable[int]) -> dict[int, Window]:
        """End the maintenance windows of these buckets; return those that could be asked."""
        return self._windows(buckets, 0)

    def windows(self, buckets: Iterable[int]) -> dict[int, Window]:
        """Return the maintenance window of each bucket; nothing is left of one that is not open."""
        return self._windows(buckets, -1)

    def _windows(self, buckets: Iterable[int], milliseconds: int) -> dict[int, Window]:
        calls = {b: Call(WINDOW, [meta_key(self._prefixes[b])], [self._ledger, milliseconds]) for b in buckets}
        return {b: self._window(answer) for b, answer in self._run(calls).items()}

    def _window(self, answer: Any) -> Window:
        if isinstance(answer, ViewDamaged):
            return Window(Status.CHANGED, 0, 0, 0, 0)
        status, begin, end, left, age = answer
        return Window(self._status(status, b""), begin, end, left, age)

    def audit(self, bucket: int, epoch: str) -> Audit:
        """Count members, records and waiting changes of a bucket of that epoch against its meta.

        The count itself is one step; where the bucket moved on since its locations were listed it says CHANGED.
        """
        prefix = self._prefixes[bucket]
        keys = [meta_key(prefix), outbox_key(prefix), locations_key(prefix)]
        (members,) = ask(self._nodes, [(locations_key(prefix), ("SMEMBERS", locations_key(prefix)))])
        if isinstance(members, redis.ResponseError) and "WRONGTYPE" in str(members):
            return Audit(Status.DAMAGED, 0, 0, 0, 0)
        if isinstance(members, Exception):
            raise unavailable(members)
        try:
            listed = [member.decode() for member in members]
        except UnicodeDecodeError:  # no location that a ledger can name
            return Audit(Status.DAMAGED, 0, 0, 0, 0)
        for location_id in listed:
            keys += (set_key(prefix, location_id), state_key(prefix, location_id))
        answer = self._run_all([Call(AUDIT, keys, [epoch, len(members)])])[0]
        if isinstance(answer, ViewDamaged):
            return Audit(Status.DAMAGED, 0, 0, 0, 0)
        return Audit(Status(answer[0].decode()), *answer[1:])


def _known(answer: Any) -> Any:
    """Return what HMGET answered: None for a key of another type than ours, ViewUnavailable for no answer."""
    if isinstance(answer, redis.ResponseError) and "WRONGTYPE" in str(answer):
        return None
    return unavailable(answer) if isinstance(answer, Exception) else answer


def _waiting(change: bytes) -> Waiting:
    """Return a member of the outbox; one that we did not write as a change without a record, which nobody can tell."""
    try:
        offset, version, raw = change.split(b":", 2)
        return Waiting(int(offset), int(version), raw)
    except ValueError:
        return Waiting(-1, 0, b"")
