"""Continuity: what is lost between two steps of an owner is read again from the ledger, and each change told once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.domain.buckets import bucket_prefix, locations_key, meta_key, state_key
from consumer.suppression.answers import Batch, Status
from tests.integration.test_publisher import BUCKETS, HERE, PATIENTS, THERE, each_once, keywords, owner, publish, turn
from tests.parts.system import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.parts.system import Applying, System

PLACES = {0: HERE, 1: THERE}
KEYS: dict[str, Callable[[int], str]] = {
    "meta": lambda bucket: meta_key(bucket_prefix(bucket, BUCKETS)),
    "locations": lambda bucket: locations_key(bucket_prefix(bucket, BUCKETS)),
    "state": lambda bucket: state_key(bucket_prefix(bucket, BUCKETS), PLACES[bucket]),
}


def say(system: System, word: str) -> None:
    """Let the same patient of each bucket text this word."""
    system.append((HERE, PATIENTS[0], word), (THERE, PATIENTS[0], word))


def lose(system: System, key: str) -> None:
    """Delete this key of each bucket."""
    with system.redis() as client:
        assert client.delete(*map(KEYS[key], PLACES)) == BUCKETS


def caught_up(system: System, member: Applying) -> None:
    turn(member, until=lambda: system.metas("applied") == system.ends("ledger"))


def test_bucket_that_was_begun_anew_under_its_owner(system: System) -> None:
    """An owner whose bucket somebody began anew goes back to its beginning instead of applying its next record."""
    say(system, "STOP")
    member = owner(system)
    for bucket, meta in member.view.metas(PLACES).items():
        assert meta is not None
        assert member.view.begin(bucket, damaged=meta.epoch) == 0
    say(system, "START")
    caught_up(system, member)
    assert system.metas("outbox") == {0: 2, 1: 2}
    publish(member)
    each_once(system, 4)
    member.die()


@pytest.mark.parametrize("key", KEYS)
def test_lost_key_loses_no_change(system: System, key: str) -> None:
    """Whatever key is lost before a change is told, and with the next record to come, each change is told once."""
    say(system, "STOP")
    member = owner(system)
    lose(system, key)
    say(system, "START")
    caught_up(system, member)
    assert system.metas("outbox") == {0: 2, 1: 2}
    publish(member)
    each_once(system, 4)
    member.die()


def test_outbox_of_before_is_not_told(system: System) -> None:
    """What a lost bucket left in its outbox is told when the replay has come to it, and not before and then again."""
    keywords(system, "STOP", "STOP")
    member = owner(system)
    lose(system, "meta")
    first = {m.partition(): m.value() for m in system.messages("ledger") if m.offset() == 0}
    for bucket in PLACES:
        assert member.view.begin(bucket) == 0
        entry = system.ledger.entry(first[bucket], bucket, 0, None)
        assert member.view.apply([Batch(bucket, 0, 1, [entry])])[0].status is Status.OK
    wait_for("all that was applied is told", member.publish)
    keywords(system, "START")
    caught_up(system, member)
    publish(member)
    each_once(system, 6)
    member.die()
