"""The state rules twice, as Lua in Redis and as pure Python: one ledger leads both to the same, whatever happens to it.

The machine lets a ledger grow and hands it to both in batches that are cut anywhere, come twice, too early or from
another log; it loses keys, metas and whole databases, leaves strangers' content behind, and heals as an owner does.
After each step all that Redis holds is compared with what the pure bucket says.
"""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from consumer.domain.bucket import Bucket, Entry, OtherLog, Refused, Waiting, fold
from consumer.domain.buckets import bucket_prefix, locations_key, meta_key, outbox_key, set_key, state_key
from consumer.domain.events import STATUS_OF, Action, Status
from consumer.domain.subscription import Decision, Subscription, decide
from consumer.suppression.answers import Applied, Batch, OtherLedger
from consumer.suppression.answers import Status as Answer
from consumer.suppression.view import View
from tests.parts.chance import MORE_EXAMPLES, exploring

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from consumer.domain.bucket import Decided

LOG = "topic-id/appliers"
BUCKET, BUCKETS = 2, 4
PREFIX = bucket_prefix(BUCKET, BUCKETS)
META, OUTBOX, TOUCHED = meta_key(PREFIX), outbox_key(PREFIX), locations_key(PREFIX)
FIELDS = ("log", "epoch", "applied", "published", "members", "states", "outbox", "locations")
LOCATIONS = ("loc-1", "{lo}c:\u00e9 2")
NUMBERS = ("12025550143", "442079460958")
FINDERS = {
    "outbox": "apply take audit",
    "a change": "apply take audit",
    "locations": "apply audit",
    "a location": "apply audit",
    "state": "apply audit",
    "a state's epoch": "apply",
    "a record": "audit",
    "set": "audit",
    "a member": "audit",
    "field log": "apply take",
    "field epoch": "apply take",
    "field applied": "apply take",
    "field published": "apply take",
    "field members": "apply audit",
    "field states": "apply audit",
    "field locations": "apply audit",
    "field outbox": "apply take audit",
}
"""Who must find each loss; more may."""

locations = st.sampled_from(LOCATIONS)
numbers = st.sampled_from(NUMBERS)
actions = st.sampled_from(Action)
times = st.integers(0, 4) | st.sampled_from([-1, -(2**63), 2**53, 2**53 + 1, 1_790_000_000_000])
delays = st.sampled_from([0, 0, 0, 1, 1, 2, 5, 2**63])
entries = st.builds(
    Entry,
    offset=st.just(0),
    location_id=locations,
    digits=numbers,
    action=actions,
    event_time=times,
    keyword=st.sampled_from(["STOP", "START", "", "a:b:c\n\x00", "\u00e9"]),
    raw=st.sampled_from([b"", b":", b"1:2:x", b"\x00\xff\n"]) | st.binary(max_size=3),
)


def numbered(records: Sequence[Entry]) -> list[Entry]:
    """Return the records as they would stand in a ledger, from offset 0."""
    return [replace(record, offset=offset) for offset, record in enumerate(records)]


ledgers = st.lists(entries, max_size=12).map(numbered)


def examples(count: int) -> int:
    """Return how many examples to try: more of them where nobody waits."""
    return count * MORE_EXAMPLES if exploring() else count


def of_model(bucket: Bucket) -> dict[str, Any]:
    """Return what Redis must hold for this bucket."""
    touched = {location for location, _ in bucket.subscriptions}
    return {
        "log": bucket.log,
        "applied": bucket.applied,
        "published": bucket.published,
        "members": len(bucket.members()),
        "states": len(bucket.subscriptions),
        "outbox": len(bucket.outbox),
        "locations": len(touched),
        "waiting": bucket.outbox,
        "touched": touched,
        "sets": {key: {int(digits) for place, digits in bucket.members() if place == key} for key in touched},
        "records": {
            key: {digits: packed(state) for (place, digits), state in bucket.subscriptions.items() if place == key}
            for key in touched
        },
    }


def of_redis(client: redis.Redis) -> dict[str, Any]:
    """Return what Redis holds, read key by key and past the scripts."""
    raw: Any = client
    meta = {name.decode(): value.decode() for name, value in raw.hgetall(META).items()}
    touched = {location.decode() for location in raw.smembers(TOUCHED)}
    changes = [(value.split(b":", 2), int(score)) for value, score in raw.zrange(OUTBOX, 0, -1, withscores=True)]
    assert [int(offset) for (offset, _, _), _ in changes] == [score for _, score in changes]
    states = {key: raw.hgetall(state_key(PREFIX, key)) for key in touched}
    assert {state.pop(b"epoch") for state in states.values()} <= {meta["epoch"].encode()}
    return {
        "log": meta["log"],
        **{name: int(meta[name]) for name in FIELDS[2:]},
        "waiting": [Waiting(int(offset), int(version), value) for (offset, version, value), _ in changes],
        "touched": touched,
        "sets": {key: {int(member) for member in raw.smembers(set_key(PREFIX, key))} for key in touched},
        "records": {
            key: {digits.decode(): record.decode() for digits, record in state.items()} for key, state in states.items()
        },
    }


def packed(state: Subscription) -> str:
    side = "O" if state.status is Status.OPTED_OUT else "I"
    return f"{side}:{state.version}:{state.event_time}:{state.since}:{state.keyword}"


def dump(client: redis.Redis) -> dict[bytes, Any]:
    """Return every key with its serialised value."""
    raw: Any = client
    return {key: raw.dump(key) for key in raw.scan_iter("*")}


class Agreement(RuleBasedStateMachine):
    """A growing ledger, the bucket of it in Redis, and the same as a pure value."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        client.flushdb()
        self.client: Any = client
        self.view = View(client, buckets=BUCKETS, ledger=LOG)
        self.stranger = View(client, buckets=BUCKETS, ledger="another/appliers")
        self.ledger: list[Entry] = []
        self.model = Bucket(LOG)

    # What the ledger and its reader do

    @initialize(records=st.lists(entries, min_size=1, max_size=6), published=st.integers(0, 3))
    def start(self, records: list[Entry], published: int) -> None:
        """Begin with a ledger that holds something."""
        self.write([replace(record, event_time=0) for record in records])
        self.begin(published)

    def begin(self, published: int) -> None:
        """Begin the bucket, which every script misses until then."""
        self.model = Bucket(LOG, published=published)
        batch = Batch(BUCKET, 0, len(self.ledger), self.ledger, 0)
        assert self.unchanged(lambda: self.view.apply([batch])[0]) == Applied(Answer.MISSING, "", 0)
        assert self.unchanged(lambda: self.view.take({BUCKET: 0}, 1)[BUCKET].status) is Answer.MISSING
        assert self.unchanged(lambda: self.view.metas([BUCKET])) == {BUCKET: None}
        assert self.unchanged(lambda: self.view.audit(BUCKET, "any").status) is Answer.CHANGED
        self.unchanged(lambda: self.view.trim({BUCKET: 1}))
        assert self.view.begin(BUCKET, published=published) == 0

    def write(self, records: list[Entry]) -> None:
        """Append to the ledger."""
        self.ledger = numbered([*self.ledger, *records])

    @rule(records=st.lists(st.tuples(entries, delays), min_size=1, max_size=4), data=st.data())
    def write_and_apply(self, records: list[tuple[Entry, int]], data: st.DataObject) -> None:
        """Append to the ledger, most of it newer than what stands there, and apply some of what is left."""
        now = len(self.ledger)
        self.write([replace(record, event_time=now + n - late) for n, (record, late) in enumerate(records)])
        self.apply_both(self.batch(data, self.model.applied))

    @rule(data=st.data())
    def write_again(self, data: st.DataObject) -> None:
        """Append records that stand in the ledger already."""
        self.write(data.draw(st.lists(st.sampled_from(self.ledger), min_size=1, max_size=3)))

    @rule(data=st.data())
    def apply(self, data: st.DataObject) -> None:
        """Apply a batch that begins anywhere up to `applied` and ends anywhere."""
        self.apply_both(self.batch(data, data.draw(st.integers(0, self.model.applied))))

    @rule()
    def catch_up(self) -> None:
        """Apply all that is left, as an owner does that lags behind."""
        self.apply_both(Batch(BUCKET, self.model.applied, len(self.ledger), self.ledger[self.model.applied :]))

    @rule(ahead=st.integers(1, 3), data=st.data())
    def apply_ahead(self, ahead: int, data: st.DataObject) -> None:
        """Offer a batch that was read from above `applied`, with whatever `published`: both refuse it."""
        batch = self.batch(data, self.model.applied + ahead)
        with pytest.raises(Refused) as refused:
            self.model.apply(LOG, batch.position, batch.entries, batch.end, batch.published)
        answer = self.unchanged(lambda: self.view.apply([batch])[0])
        assert (answer.status, answer.applied, answer.decisions) == (Answer.REFUSED, refused.value.applied, ())

    @rule(data=st.data())
    def apply_another_log(self, data: st.DataObject) -> None:
        """Offer a batch of another log, ahead or not, and everything else that its owner would try."""
        batch = self.batch(data, data.draw(st.integers(0, self.model.applied + 1)))
        with pytest.raises(OtherLog):
            self.model.apply("another/appliers", batch.position, batch.entries, batch.end)
        attempts: list[Callable[[], object]] = [
            lambda: self.stranger.apply([batch]),
            lambda: self.stranger.begin(BUCKET, damaged=self.epoch(), published=99),
            lambda: self.stranger.take({BUCKET: 0}, 9),
            lambda: self.stranger.metas([BUCKET]),
            lambda: self.stranger.vouch(self.stranger.server(), 1, {BUCKET: (self.epoch(), 0)}),
        ]
        for attempt in attempts:
            with pytest.raises(OtherLedger):
                self.unchanged(attempt)
        self.unchanged(lambda: self.stranger.trim({BUCKET: 99}))

    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        """Forget what is known to be told."""
        below = data.draw(self.offsets())
        self.view.trim({BUCKET: below})
        self.model.trim(below)

    @rule(limit=st.integers(1, 5), data=st.data())
    def take(self, limit: int, data: st.DataObject) -> None:
        """Take what waits: from an offset on, in order, and how far the bucket had read."""
        start = data.draw(self.offsets())
        taken = self.unchanged(lambda: self.view.take({BUCKET: start}, limit)[BUCKET])
        waiting = [change for change in self.model.outbox if change.offset >= start]
        assert taken.status is Answer.OK
        assert (taken.applied, taken.published) == (self.model.applied, self.model.published)
        assert taken.changes == tuple(waiting[:limit])

    @rule(damaged=st.sampled_from([None, "another epoch"]), published=st.integers(0, 25))
    def begin_again(self, damaged: str | None, published: int) -> None:
        """Begin what is there and whole: it stays as it is."""
        answer = self.unchanged(lambda: self.view.begin(BUCKET, damaged=damaged, published=published))
        assert answer == self.model.applied

    # What happens to Redis

    @rule(flush=st.booleans(), garbage=st.lists(st.tuples(locations, numbers), max_size=3), published=st.integers(0, 2))
    def lose_everything(self, flush: bool, garbage: list[tuple[str, str]], published: int) -> None:  # noqa: FBT001
        """Lose the database, or the meta alone with all else left over, and find strangers' content there besides."""
        if flush:
            self.client.flushdb()
        self.client.delete(META)
        for location, digits in garbage:
            self.client.delete(set_key(PREFIX, location), state_key(PREFIX, location))
            self.client.sadd(set_key(PREFIX, location), digits, "1")
            self.client.hset(state_key(PREFIX, location), mapping={digits: "O:7:9:9:OLD", "epoch": "an older one"})
            self.client.zadd(OUTBOX, {f"3:1:{digits}": 3})
        self.begin(published)

    @rule(
        location=locations,
        keys=st.sampled_from([[set_key], [state_key], [set_key, state_key]]),
        kind=st.sampled_from(["string", "list", "hash", "set"]),
    )
    def find_another_system(self, location: str, keys: list[Callable[[str, str], str]], kind: str) -> None:
        """Find keys of any type where a location of ours, not touched in this epoch, is going to live."""
        if location in of_model(self.model)["touched"]:
            return
        for key in (make(PREFIX, location) for make in keys):
            self.client.delete(key)
            strangers: dict[str, Callable[[], object]] = {
                "string": partial(self.client.set, key, "1"),
                "list": partial(self.client.lpush, key, "1", NUMBERS[0]),
                "hash": partial(self.client.hset, key, NUMBERS[0], "1"),
                "set": partial(self.client.sadd, key, "1", NUMBERS[0]),
            }
            strangers[kind]()

    @rule(data=st.data(), told=st.integers(0, 2))
    def lose_a_key(self, data: st.DataObject, told: int) -> None:
        """Lose something and heal it, with or without a trim between."""
        lost = data.draw(st.sampled_from(sorted(self.losses())))
        below = data.draw(st.none() | self.offsets())
        self.lose_and_heal(lost, told, below)

    def lose_and_heal(self, lost: str, told: int, below: int | None) -> None:
        """Lose one key or field: who must find it finds it, and changes nothing; a new beginning heals it."""
        epoch = self.epoch()
        self.lose(lost)
        if below is not None:
            self.view.trim({BUCKET: below})
        found = {name for name, answer in self.diagnosis(epoch).items() if answer is Answer.DAMAGED}
        assert set(FINDERS[lost].split()) <= found
        published = int(self.client.hget(META, "published") or 0)
        assert self.view.begin(BUCKET, damaged=epoch, published=told) == 0
        self.model = Bucket(LOG, published=max(told, published))
        assert self.epoch() != epoch
        self.apply_both(Batch(BUCKET, 0, len(self.ledger), self.ledger, told))

    @rule(data=st.data())
    def lose_a_key_unnoticed(self, data: st.DataObject) -> None:
        """Lose something and go on: then it is found later, unless by then nothing is missing any more."""
        epoch, published = self.epoch(), self.lose(data.draw(st.sampled_from(sorted(self.losses()))))
        batch = self.batch(data, self.model.applied)
        expected = deepcopy(self.model)
        expected.apply(LOG, batch.position, batch.entries, batch.end, batch.published)
        status = self.view.apply([batch])[0].status
        if status is Answer.OK and set(self.diagnosis(epoch).values()) == {Answer.OK}:
            self.model = expected  # which the invariant compares with what is there
        else:
            self.view.begin(BUCKET, damaged=epoch)
            self.model = Bucket(LOG, published=max(published, expected.published if status is Answer.OK else 0))

    # What must hold after each step

    @invariant()
    def they_agree(self) -> None:
        """All that Redis holds is what the pure bucket says, and its own counts are right."""
        if self.client.exists(META):
            assert of_redis(self.client) == of_model(self.model)
            audit = self.view.audit(BUCKET, self.epoch())
            counts = (len(self.model.members()), len(self.model.subscriptions))
            assert (audit.status, audit.members, audit.states) == (Answer.OK, *counts)
            meta = self.view.metas([BUCKET])[BUCKET]
            assert meta is not None
            assert (meta.applied, meta.published) == (self.model.applied, self.model.published)
            assert (meta.epoch, meta.waiting) == (self.epoch(), len(self.model.outbox))

    @invariant()
    def history_does_not_matter(self) -> None:
        """The content is that of an undisturbed reader of the same log, in one batch, who lost nothing."""
        undisturbed = Bucket(LOG)
        undisturbed.apply(LOG, 0, self.ledger[: self.model.applied], self.model.applied)
        assert self.model.subscriptions == undisturbed.subscriptions
        told = self.model.published
        assert [change for change in self.model.outbox if change.offset >= told] == [
            change for change in undisturbed.outbox if change.offset >= told
        ]

    # Tools

    def batch(self, data: st.DataObject, position: int) -> Batch:
        end = data.draw(st.integers(position, max(position, len(self.ledger))))
        published = data.draw(
            st.sampled_from([0, 0, 0, 0, 0, 0, 1, self.model.published + 1, self.model.applied, end + 1])
        )
        return Batch(BUCKET, position, end, self.ledger[position:end], published)

    def apply_both(self, batch: Batch) -> None:
        decided = self.model.apply(LOG, batch.position, batch.entries, batch.end, batch.published)
        assert self.view.apply([batch])[0] == Applied(
            Answer.OK, self.epoch(), self.model.applied, len(self.model.outbox), tuple(decided)
        )

    def epoch(self) -> str:
        return str(self.client.hget(META, "epoch").decode())

    def unchanged(self, step: Callable[[], Any]) -> Any:
        """Run a step that must change nothing in Redis."""
        before = dump(self.client)
        try:
            return step()
        finally:
            assert dump(self.client) == before

    def losses(self) -> dict[str, Callable[[], object]]:
        """Return what can be lost now, by name, with how."""
        losses: dict[str, Callable[[], object]] = {
            f"field {name}": partial(self.client.hdel, META, name) for name in FIELDS
        }
        if self.model.outbox:
            losses["outbox"] = lambda: self.client.delete(OUTBOX)
            losses["a change"] = lambda: self.client.zremrangebyrank(OUTBOX, 0, 0)
        if self.model.subscriptions:
            location, patient = min(self.model.subscriptions)
            state = state_key(PREFIX, location)
            losses["locations"] = lambda: self.client.delete(TOUCHED)
            losses["a location"] = lambda: self.client.srem(TOUCHED, location)
            losses["state"] = lambda: self.client.delete(state)
            losses["a record"] = lambda: self.client.hdel(state, patient)
            losses["a state's epoch"] = lambda: self.client.hdel(state, "epoch")
        if self.model.members():
            place, member = min(self.model.members())
            losses["set"] = lambda: self.client.delete(set_key(PREFIX, place))
            losses["a member"] = lambda: self.client.srem(set_key(PREFIX, place), member)
        return losses

    def lose(self, what: str) -> int:
        """Lose it; return the `published` that is left in meta."""
        assert self.losses()[what]()
        return int(self.client.hget(META, "published") or 0)

    def offsets(self) -> st.SearchStrategy[int]:
        """Return where one may take from or trim to: mostly where changes wait, and anywhere."""
        anywhere = st.integers(0, len(self.ledger) + 2)
        return (
            st.sampled_from([change.offset for change in self.model.outbox]) | anywhere
            if self.model.outbox
            else anywhere
        )

    def diagnosis(self, epoch: str) -> dict[str, Answer]:
        """Return what apply, take and audit say. The probe touches each location, at an offset that is applied."""
        probe = [
            Entry(-1, location, digits, Action.OPT_IN, 0, "") for location, digits in sorted(self.model.subscriptions)
        ]
        return {
            "take": self.unchanged(lambda: self.view.take({BUCKET: 0}, 1)[BUCKET].status),
            "apply": self.unchanged(lambda: self.view.apply([Batch(BUCKET, 0, 0, probe)])[0].status),
            "audit": self.unchanged(lambda: self.view.audit(BUCKET, epoch).status),
        }


@pytest.mark.timeout(600)  # a failure is made small before it is shown
def test_lua_and_python_agree(redis_url: str) -> None:
    """One ledger leads the scripts and the pure bucket to the same decisions, positions, counts and content."""
    with redis.Redis.from_url(redis_url) as client:
        run_state_machine_as_test(
            lambda: Agreement(client),  # type: ignore[arg-type] # anything that makes one will do
            settings=settings(
                max_examples=examples(100),
                stateful_step_count=25,
                deadline=None,
                phases=set(Phase) - {Phase.explain},  # a failing example is long enough
            ),
        )


@pytest.mark.parametrize("below", [None, 1])
@pytest.mark.parametrize("lost", FINDERS)
def test_each_loss_is_found_and_healed(redis_url: str, lost: str, below: int | None) -> None:
    """Whatever key or field is lost, those who must find it do, after a trim too, and a new beginning heals it."""
    patients = [(location, digits) for location in LOCATIONS for digits in NUMBERS]
    with redis.Redis.from_url(redis_url) as client:
        agreement = Agreement(client)
        agreement.write([Entry(0, *patient, Action.OPT_OUT, 0, "STOP") for patient in patients])
        agreement.begin(0)
        agreement.apply_both(Batch(BUCKET, 0, len(patients), agreement.ledger))
        agreement.lose_and_heal(lost, 0, below)
        agreement.they_agree()


@given(records=st.lists(entries, min_size=1, max_size=4), data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=examples(50))
def test_times_of_any_size_are_told_apart(redis_url: str, records: list[Entry], data: st.DataObject) -> None:
    """Event times that differ by a millisecond differ in Redis too, as far out as a ledger record can state them."""
    far = st.sampled_from([-(2**63), 2**53, 2**63 - 2]).flatmap(lambda base: st.sampled_from([base, base + 1]))
    ledger = numbered([replace(record, location_id="loc-1", event_time=data.draw(far)) for record in records])
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        view = View(client, buckets=BUCKETS, ledger=LOG)
        view.begin(BUCKET)
        decided = view.apply([Batch(BUCKET, 0, len(ledger), ledger)])[0].decisions
    assert decided == tuple(Bucket(LOG).apply(LOG, 0, ledger, len(ledger)))


@given(ledgers, st.randoms(use_true_random=False), st.data())
def test_order_and_duplicates_do_not_matter_in_the_end(ledger: list[Entry], order: Random, data: st.DataObject) -> None:
    """The same records in any order, any of them several times, lead to the same statuses and event times."""
    again = [*ledger, *(data.draw(st.lists(st.sampled_from(ledger), max_size=6)) if ledger else [])]
    order.shuffle(again)
    assert final(fold(numbered(again))) == final(fold(ledger))


@given(ledgers)
def test_the_last_event_wins_by_the_patients_clock(ledger: list[Entry]) -> None:
    """The status at the end is that of the newest record, and of an opt-out where two are as new."""
    newest: dict[tuple[str, str], tuple[int, bool]] = {}
    for record in ledger:
        key, mark = (record.location_id, record.digits), (record.event_time, record.action is Action.OPT_OUT)
        newest[key] = max(newest.get(key, mark), mark)
    assert final(fold(ledger)) == {
        key: (Status.OPTED_OUT if opted_out else Status.OPTED_IN, time) for key, (time, opted_out) in newest.items()
    }


@given(ledgers.filter(bool), st.data())
def test_a_record_changes_nothing_the_second_time(ledger: list[Entry], data: st.DataObject) -> None:
    """A record that stands in the ledger again, at once or later, is STALE there and leaves all others as they were."""
    first = data.draw(st.integers(0, len(ledger) - 1))
    second = data.draw(st.integers(first + 1, len(ledger)))
    without, repeated = decisions(ledger), decisions([*ledger[:second], ledger[first], *ledger[second:]])
    assert repeated[second].decision is Decision.STALE
    assert what(repeated[:second] + repeated[second + 1 :]) == what(without)


@given(ledgers)
def test_versions_count_the_changes(ledger: list[Entry]) -> None:
    """A subscription's version is the number of its changes, without gaps, and each change turns its status over."""
    changes: Counter[tuple[str, str]] = Counter()
    statuses: dict[tuple[str, str], Status] = {}
    for record, decided in zip(ledger, decisions(ledger), strict=True):
        key = (record.location_id, record.digits)
        if decided.decision is Decision.CHANGED:
            changes[key] += 1
            assert STATUS_OF[record.action] is not statuses.get(key, Status.OPTED_IN)
            statuses[key] = STATUS_OF[record.action]
        assert decided.version == changes[key]
    bucket = fold(ledger)
    assert {key: state.version for key, state in bucket.subscriptions.items() if state.version} == changes
    assert bucket.members() == {key for key, status in statuses.items() if status is Status.OPTED_OUT}


@given(ledgers)
def test_since_and_keyword_are_those_of_the_last_change(ledger: list[Entry]) -> None:
    """Staff see since when and by which word a patient is opted out: those of the record that last changed it."""
    last: dict[tuple[str, str], Entry] = {}
    for record, decided in zip(ledger, decisions(ledger), strict=True):
        if decided.decision is Decision.CHANGED:
            last[record.location_id, record.digits] = record
    states = fold(ledger).subscriptions
    shown = {key: (states[key].since, states[key].keyword) for key in last}
    assert shown == {key: (record.event_time, record.keyword) for key, record in last.items()}


@given(times, st.booleans())
def test_the_opt_out_wins_a_tie(time: int, stop_first: bool) -> None:  # noqa: FBT001
    """Of a STOP and a START of one millisecond the STOP holds, whichever the ledger has first."""
    order = (Action.OPT_OUT, Action.OPT_IN) if stop_first else (Action.OPT_IN, Action.OPT_OUT)
    state = None
    for action in order:
        _, state = decide(state, action, time, action)
    assert state == Subscription(Status.OPTED_OUT, time, 1, time, Action.OPT_OUT)


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.too_slow])  # it tells of other work here
@given(ledgers, st.data())
def test_batches_may_be_cut_anywhere_and_come_again(ledger: list[Entry], data: st.DataObject) -> None:
    """Any batches that leave no gap decide each record once, as one batch of all would."""
    bucket, decided = Bucket(LOG), []
    while bucket.applied < len(ledger):
        position = data.draw(st.integers(0, bucket.applied))
        nothing_new = st.integers(position, bucket.applied)
        end = data.draw(nothing_new | st.integers(bucket.applied, len(ledger)))
        decided += bucket.apply(LOG, position, ledger[position:end], end)
    assert decided == decisions(ledger)
    assert bucket.subscriptions == fold(ledger).subscriptions
    assert bucket.outbox == fold(ledger).outbox


def decisions(ledger: Sequence[Entry]) -> list[Decided]:
    return Bucket(LOG).apply(LOG, 0, numbered(ledger), len(ledger))


def what(decided: Sequence[Decided]) -> list[tuple[Decision, int]]:
    """Return decisions and versions, whatever the offsets."""
    return [(one.decision, one.version) for one in decided]


def final(bucket: Bucket) -> dict[tuple[str, str], tuple[Status, int]]:
    """Return what does not depend on the order of the records."""
    return {key: (state.status, state.event_time) for key, state in bucket.subscriptions.items()}
