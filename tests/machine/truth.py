"""What must hold after each step, computed from what came in and what the topics hold."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from consumer.domain.buckets import bucket_prefix, meta_key
from consumer.guard import Guard, VerdictKind
from consumer.nodes import OneNode
from tests.parts import oracle
from tests.parts.system import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis

    from tests.machine.servers import Servers
    from tests.parts.fake_kafka import Broker, Place

NUMBERS = ("+12025550101", "+12025550102")
Key = tuple[str, str]
decode = functools.lru_cache(maxsize=10_000)(oracle.decode)


class Text(NamedTuple):
    """A keyword that came in: when the patient sent it and when Kafka had it, in ms."""

    key: Key
    sent: int
    opt_out: bool
    arrived: int


class Truth:
    """Watches the guard and the events from outside."""

    def __init__(self, broker: Broker, servers: Servers, locations: dict[str, int]) -> None:
        self._broker = broker
        self._servers = servers
        self._locations = locations
        self._buckets = sorted(set(locations.values()))
        self.texts: list[Text] = []
        self._applied = dict.fromkeys(self._buckets, 0)
        self._epochs: dict[int, bytes | None] = {}
        self._newest: dict[Key, tuple[int, bool]] = {}
        self._told: dict[Key, list[oracle.Change]] = {}
        self._read: dict[Place, int] = {}
        self.damaged: dict[int, float] = {}
        """Buckets that lost a key, and when: until they are counted again a guard may be wrong."""
        prefixes = [bucket_prefix(bucket, len(self._buckets)) for bucket in self._buckets]
        self._metas = [("HMGET", meta_key(prefix), "applied", "epoch") for prefix in prefixes]
        self._client = _Foreseen(servers)
        self._guard = Guard(OneNode(cast("redis.Redis", self._client)), buckets=len(self._buckets), max_staleness=None)
        for location in locations:
            self._guard.check_many(location, NUMBERS)

    # What was ever applied

    def look(self) -> None:
        """Look at Redis: how far each bucket is applied, and what the guard says of everybody."""
        if not self._servers.touched:
            return
        self._servers.touched = False
        answers = self._servers.ask([*self._metas, *self._client.asked])
        self._client.answers = dict(zip(self._client.asked, answers[len(self._metas) :], strict=True))
        self._note_metas(answers[: len(self._metas)])
        self.check_guard()

    def observe(self) -> None:
        """Note how far each bucket is applied. To be called before any memory is lost."""
        self._note_metas(self._servers.ask(self._metas))

    def _note_metas(self, metas: Iterable[object]) -> None:
        for bucket, meta in zip(self._buckets, metas, strict=True):
            applied, epoch = meta if isinstance(meta, list) else (None, None)
            if epoch != self._epochs.get(bucket):
                self._epochs[bucket] = epoch
                self.damaged.pop(bucket, None)
            while self._applied[bucket] < int(applied or 0):
                self._note(bucket, self._applied[bucket])
                self._applied[bucket] += 1

    def _note(self, bucket: int, offset: int) -> None:
        record = decode(self._broker.topics[TOPICS["ledger"]][bucket].records[offset].value)
        key = (record["location_id"], record["patient_number"])
        said = (round(record["event_time"].timestamp() * 1000), record["action"] == "OPT_OUT")
        self._newest[key] = max(self._newest.get(key, said), said)

    def counted(self, bucket: int, when: float) -> None:
        """Note that somebody counted this bucket: what was deleted before is found, or does not matter."""
        if when > self.damaged.get(bucket, when):
            del self.damaged[bucket]

    # The guard

    def check_guard(self) -> None:
        """No ALLOWED for a patient whose newest keyword, of all applied ones and of all up to `fresh`, is a STOP."""
        for location, bucket in self._locations.items():
            if bucket in self.damaged:
                continue
            for number, verdict in zip(NUMBERS, self._guard.check_many(location, NUMBERS), strict=True):
                if verdict.kind is VerdictKind.ALLOWED:
                    assert verdict.fresh is not None
                    self._check_allowed((location, number), verdict.fresh)

    def _check_allowed(self, key: Key, fresh: int) -> None:
        said = [(text.sent, text.opt_out) for text in self.texts if text.key == key and text.arrived <= fresh]
        if key in self._newest:
            said.append(self._newest[key])
        newest = max(said, default=(0, False))
        assert not newest[1], f"ALLOWED for {key}, who said STOP at {newest[0]}; fresh is {fresh}"

    def definite(self) -> bool:
        """Whether every guard answers, for all that came in."""
        last = max((text.arrived for text in self.texts), default=0)
        verdicts = [v for location in self._locations for v in self._guard.check_many(location, NUMBERS)]
        return all(v.kind is not VerdictKind.UNKNOWN and v.fresh is not None and v.fresh >= last for v in verdicts)

    # The events

    def ledger(self) -> Iterable[oracle.Written]:
        """Return the ledger, up to the record of each bucket that cannot be read."""
        for bucket, log in enumerate(self._broker.topics[TOPICS["ledger"]]):
            for record in log.records:
                if record.value is None or record.value[:1] != b"\0":
                    break
                yield oracle.Written(bucket, record.offset, record.timestamp, decode(record.value))

    def check_told(self) -> None:
        """What is told is what the ledger says, in order, each once."""
        news = False
        for place in self._broker.places([TOPICS["changed"]]):
            start = self._read.get(place, 0)
            for record in self._broker.committed_records(place, start):
                assert record.value is not None
                written = oracle.Written(place.number, record.offset, record.timestamp, decode(record.value))
                (change,) = oracle.told([written])
                self._told.setdefault((change.location, change.number), []).append(change)
                news = True
            self._read[place] = self._broker.log(place).stable_end
        if news:
            due = self.due()
            for key, told in self._told.items():
                assert told == due.get(key, [])[: len(told)], f"told of {key}: {told}, and the ledger: {due.get(key)}"

    def due(self) -> dict[Key, list[oracle.Change]]:
        """Return what is to be told of each subscription."""
        due: dict[Key, list[oracle.Change]] = {}
        for change in oracle.changes_of(self.ledger()):
            due.setdefault((change.location, change.number), []).append(change)
        return due

    def all_told(self) -> bool:
        """Whether everything that is to be told is."""
        return self._told == self.due()


class _Foreseen:
    """The guard's client. What it asks is always the same, so that it can be asked together with all else."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self.asked: list[tuple[Any, ...]] = []
        self.answers: dict[tuple[Any, ...], Any] = {}

    def execute_command(self, *command: Any) -> Any:
        if command[0] != "EVALSHA_RO":
            return self._servers.here.execute_command(*command)
        after = 3 + int(command[2])  # digest, number of keys, keys; then the word, which is another one each time
        word, always = command[after], (*command[:after], "word", *command[after + 1 :])
        if always not in self.answers:
            self.asked.append(always)
            return [word, "run", "replication", 0, None, None, None, None, None, [0] * len(NUMBERS), []]
        if isinstance(self.answers[always], Exception):
            raise self.answers[always]
        return [word, *self.answers[always][1:]]
