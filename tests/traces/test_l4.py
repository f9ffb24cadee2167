"""Vouching: what was counted or vouched for on one server says nothing on another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer import open_transactions
from consumer.domain.buckets import bucket_prefix, set_key
from consumer.domain.events import Action
from consumer.guard import Guard, Unknown
from tests.integration.test_voucher import ALLOWED, BEHIND, HERE, OK, PATIENT, SUPPRESSED
from tests.parts import view as guards

if TYPE_CHECKING:
    import pytest

    from tests.integration.test_voucher import Bench, Server
    from tests.parts.redis import MakeRedis


def test_bucket_is_counted_on_every_server(own: Server) -> None:
    """A set that was lost before another server goes on is found before anything is vouched for there."""
    bench, redis = own.bench, own.redis
    bench.classify((PATIENT, "STOP"))
    bench.apply()
    assert bench.voucher.vouch() == OK
    with bench.system.redis() as client:
        assert client.delete(set_key(bucket_prefix(0, 1), HERE)) == 1
    redis.stop()
    redis.start()
    bench.voucher.vouch()
    assert bench.verdict() != ALLOWED
    bench.apply()
    assert bench.voucher.vouch() == OK
    assert bench.verdict() == SUPPRESSED


def test_server_that_was_demoted_and_promoted_again(own_redis: MakeRedis) -> None:
    """A server that came back with a copy of before, its own run id in the marker, does not answer from it."""
    first, second = own_redis(settings=guards.REPLICATING), own_redis(settings=guards.REPLICATING)
    with guards.connect(first.url) as old, guards.connect(second.url) as new:
        guards.follow(new, first.port)
        owner = guards.set_up(old)
        run = owner.view.server().run
        guards.wait_for(lambda: new.hgetall(guards.META) == old.hgetall(guards.META))
        guards.promote(new)  # it holds the copy
        owner.write(Action.OPT_OUT, guards.HERE, guards.FINE)
        owner.vouch()
        guards.follow(old, second.port)
        guards.promote(old)
        assert owner.view.server().run == run
        assert old.hget(guards.META, "run") == run.encode()
        guard = Guard(old, buckets=guards.BUCKETS)
        assert guards.answers(guard) == [guards.unknown(Unknown.OTHER_SERVER)] * 2
        owner.catch_up()
        owner.vouch()
        assert guards.answers(guard) == [guards.SUPPRESSED] * 2


def test_stop_behind_a_strangers_transaction(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody has a transaction open on the ledger its bucket is not vouched for, and the log says why."""
    monkeypatch.setattr(open_transactions, "LONG", 0.0)
    assert bench.voucher.vouch() == OK
    stranger = bench.system.transaction("ledger", b"no record")
    sent = bench.text("STOP")
    bench.classify((PATIENT, "STOP"))
    assert bench.voucher.vouch() == BEHIND
    assert bench.fresh() < sent
    (said,) = [call.kwargs for call in bench.logger.calls if call.args[0] == open_transactions.LEDGER]
    assert said["partitions"] == [f"{bench.system.topics['ledger']} [0] for 0 s, at offset 0"]
    stranger.abort_transaction(10)
