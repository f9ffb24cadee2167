"""A planned stop of the workers, as an operator goes through it."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest
import redis

from consumer.guard import Guard, Unknown
from tests.parts.system import wait_for

if TYPE_CHECKING:
    from tests.parts.system import System

STOPPED, FINE = "+12025550143", "+12025550144"
WHY = ("--reason", "brokers are upgraded", "--by", "on-call")


def verdicts(system: System, max_staleness: str) -> list[str]:
    """Return what is said of who stopped and of somebody else, with the reason."""
    done = system.run("check", "loc-1", STOPPED, FINE, OPTOUT_MAX_STALENESS=max_staleness)
    return [line.split(maxsplit=1)[1] for line in done.stdout.splitlines()]


def test_a_planned_stop(system: System) -> None:
    """With a window a stop of all workers keeps ALLOWED until the window ends; who is opted out is never hidden."""
    worker = system.start_worker()
    wait_for("ALLOWED", lambda: system.verdict("loc-1", FINE) == "ALLOWED")
    assert system.run("simulate", "loc-1", STOPPED, "STOP").returncode == 0

    begun = system.run("maintenance", "begin", "--for", "45m", *WHY)
    assert (begun.returncode, begun.stdout) == (0, "maintenance for 45m at most, in 8 buckets; stop the workers now\n")
    assert worker.stop() == 0
    time.sleep(2.5)
    suppressed, allowed = verdicts(system, "2")
    assert suppressed == "SUPPRESSED"
    assert allowed.startswith("ALLOWED  (as of ")
    assert allowed.endswith("s ago: maintenance)")

    status = json.loads(system.run("maintenance", "status", "--json").stdout)
    assert (len(status["open"]), 2400 < status["seconds_left"] <= 2700) == (8, True)
    assert system.run("maintenance", "end", *WHY).stdout == "ended in 8 buckets\n"
    assert verdicts(system, "2") == ["SUPPRESSED", "UNKNOWN  (stale)"]

    lines = system.run("maintenance", "status").stdout.splitlines()
    assert lines[0] == "no maintenance is going on"
    assert [line.split("  ")[-1] for line in lines[1:]] == [
        "MAINTENANCE_BEGUN for 45m by on-call: brokers are upgraded",
        "MAINTENANCE_ENDED by on-call: brokers are upgraded",
    ]


def test_it_ends_by_itself(system: System) -> None:
    """When its time is over a window is as if it had never been, with nobody to close it."""
    worker = system.start_worker()
    wait_for("ALLOWED", lambda: system.verdict("loc-1", FINE) == "ALLOWED")
    assert system.run("maintenance", "begin", "--for", "15s", *WHY).returncode == 0
    worker.kill()
    guard = Guard(system.redis(), buckets=system.buckets, max_staleness=1)
    wait_for("excused", lambda: guard.check("loc-1", FINE).in_maintenance, 14)
    wait_for("over", lambda: guard.check("loc-1", FINE).reason is Unknown.STALE, 20)


def test_nothing_to_keep(system: System) -> None:
    """Where nothing is vouched for, as on a flushed Redis, no window is opened and none is written down."""
    refused = system.run("maintenance", "begin", "--for", "1h", *WHY)
    assert refused.returncode == 1
    assert "nothing is vouched for" in refused.stderr
    assert system.read("actions") == []


def test_too_late(system: System) -> None:
    """What guards do not accept any more a window would not keep either: it is refused, and says why."""
    worker = system.start_worker()
    wait_for("ALLOWED", lambda: system.verdict("loc-1", FINE) == "ALLOWED")
    worker.kill()
    time.sleep(2)
    refused = system.run("maintenance", "begin", "--for", "1h", *WHY, OPTOUT_MAX_STALENESS="1")
    assert refused.returncode == 1
    assert re.match(r"optout: what is vouched for is \ds old, and guards accept no more than 1s: ", refused.stderr)
    assert system.read("actions") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--for", "soon", *WHY), "is no span of time"),
        (("--for", "0s", *WHY), "is no span of time"),
        (("--for", "45", *WHY), "is no span of time: write it as in 90s, 45m"),
        (("--for", "5h", *WHY), "5h are too long: 4h are the most"),
        (("--for", "10m"), "Missing option '--reason'"),
    ],
)
def test_wrong_use(system: System, arguments: tuple[str, ...], said: str) -> None:
    """A window without an end, too long or without a reason is refused in one sentence."""
    done = system.run("maintenance", "begin", *arguments)
    assert (done.returncode, said in done.stderr, done.stderr.count("\n")) == (2, True, 1)


def test_without_kafka_nothing_is_opened(system: System) -> None:
    """What cannot be written down is not done."""
    system.start_worker()
    wait_for("ALLOWED", lambda: system.verdict("loc-1", FINE) == "ALLOWED")
    refused = system.run("maintenance", "begin", "--for", "1h", *WHY, OPTOUT_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    with redis.Redis.from_url(system.redis_url) as client:
        assert not any(client.hexists(key, "window_until") for key in client.scan_iter("optout:*:meta"))
