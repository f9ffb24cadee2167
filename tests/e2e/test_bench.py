"""The yardstick for speed, in small: that it measures, and that it gives no figures for a wrong output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from bench import verify, yardstick
from tests.parts.system import wait_for

if TYPE_CHECKING:
    import pytest

    from bench.traffic import Traffic
    from bench.verify import Outcome
    from tests.parts.kafka import Kafka
    from tests.parts.system import System

SMALL = ["--messages", "20000", "--repetitions", "1", "--no-warm-up"]
FIGURES = {"raw_k_per_cpu_s", "worker_k_per_cpu_s", "ratio", "ratio_sparse"}


def test_the_bench_measures(kafka: Kafka, redis_url: str) -> None:
    """The last line is JSON with the four figures and their extremes, and nothing stays on Kafka or in Redis."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.yardstick", *SMALL],
        env={**os.environ, "OPTOUT_TEST_KAFKA": kafka.bootstrap, "OPTOUT_TEST_REDIS": redis_url},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last.keys() >= FIGURES
    assert last["min"].keys() == last["max"].keys() == FIGURES
    for name in FIGURES:
        assert 0 < last["min"][name] <= last[name] <= last["max"][name]
    admin = kafka.admin()
    wait_for("its topics are gone", lambda: not [t for t in admin.list_topics(timeout=10).topics if t[:6] == "bench-"])


def test_a_wrong_output_fails_the_run(kafka: Kafka, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a record is missing or stands twice, the run ends with a sentence and no figures."""
    observe, compare = verify.outcome, verify.faults
    seen: dict[str, Any] = {}

    def one_change_missing(system: System) -> Outcome:
        seen["found"] = found = observe(system)
        return replace(found, changed=found.changed[1:])

    def remembered(traffic: Traffic, found: Outcome) -> list[str]:
        seen["traffic"] = traffic
        return compare(traffic, found)

    monkeypatch.setattr(verify, "outcome", one_change_missing)
    monkeypatch.setattr(verify, "faults", remembered)
    monkeypatch.setenv("OPTOUT_TEST_KAFKA", kafka.bootstrap)
    monkeypatch.setenv("OPTOUT_TEST_REDIS", redis_url)
    done = CliRunner().invoke(yardstick.main, SMALL)
    assert done.exit_code == 1
    assert "the worker's output is wrong" in done.output
    assert "ratio" not in done.output

    traffic, found = seen["traffic"], seen["found"]
    assert compare(traffic, found) == []
    for records in ("ledger", "changed", "confirmations", "reviews"):
        whole = getattr(found, records)
        assert compare(traffic, replace(found, **{records: whole[1:]})), f"{records}: one is missing"
        assert compare(traffic, replace(found, **{records: [*whole, whole[0]]})), f"{records}: one stands twice"
    assert compare(traffic, replace(found, dead=found.ledger[:1]))
    assert compare(traffic, replace(found, members=set(list(found.members)[1:])))
    assert compare(traffic, replace(found, committed=found.ends | {0: found.ends[0] - 1}))


def test_the_guards_bench_measures() -> None:
    """Every verdict is right, and the last line is JSON with a ratio for each question."""
    command = [sys.executable, "-m", "bench.guard", "--turns", "1", "--calls", "100"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert all(last[name] > 0 for name in last)
    assert {"one check / SISMEMBER", "1000 of one / SMISMEMBER", "1000 of 1000 / 1000 SISMEMBER"} <= last.keys()
