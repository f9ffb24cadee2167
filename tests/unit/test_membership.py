"""How a member of our groups is set up: how long a dead one keeps its partitions, how soon the others hear of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.app import _consumer_config
from consumer.settings import load

if TYPE_CHECKING:
    import pytest

BROKER_SESSION_MS = 9_000
"""`broker.session.timeout.ms` by default: how long Kafka takes to notice that a group's coordinator is gone."""
ONE_PASS_MS = 1_000
"""What a takeover waits for longest, after the session, is a member that hears late of a group that is joined anew."""


def test_a_takeover_is_soon_and_no_dead_broker_causes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member outlives a coordinator that crashes, and hears within a second that its group is joined anew."""
    monkeypatch.setenv("OPTOUT_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    config = _consumer_config(load(), "g")
    assert config["session.timeout.ms"] > BROKER_SESSION_MS
    assert config["heartbeat.interval.ms"] <= ONE_PASS_MS
    monkeypatch.setenv("OPTOUT_KAFKA_SESSION_TIMEOUT_MS", "6000")
    monkeypatch.setenv("OPTOUT_KAFKA_HEARTBEAT_INTERVAL_MS", "2000")
    config = _consumer_config(load(), "g")
    assert [str(config[name]) for name in ("session.timeout.ms", "heartbeat.interval.ms")] == ["6000", "2000"]
