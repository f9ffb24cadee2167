"""Wrong use of each command: one clear sentence, the right exit code, no traceback, nothing personal."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from consumer.cli import run
from consumer.embedded.kafka_mock import MockKafka
from consumer.embedded.stack import MARKER_TOPIC
from consumer.kafka import cluster
from consumer.kafka.inbox import Partition
from consumer.kafka.reader import Reader
from consumer.settings import load
from consumer.simulate import read_lines, simulate

if TYPE_CHECKING:
    from pathlib import Path

PATIENT = "+12025550143"
NOWHERE = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set but what a test sets, and a Kafka that is not there is given up soon."""
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1.0)
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "CONFIRMATIONS", "UNSAFE_LEDGER", "CONFIG_FILE"):
        monkeypatch.delenv(f"OPTOUT_{name}", raising=False)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run a command; return its exit code and what it said on stderr."""
    code = run(arguments)
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert PATIENT[1:] not in err
    return code, err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["worker", "--only", "both"], "'both' is not one of 'classify', 'apply'"),
        (["worker"], "OPTOUT_CONFIRMATIONS is not set"),
        (["topics", "create"], "OPTOUT_KAFKA_BOOTSTRAP_SERVERS is not set"),
        (["topics", "destroy"], "No such command 'destroy'"),
        (["check"], "Missing argument 'LOCATION'"),
        (["check", "loc-1"], "Missing argument 'NUMBER...'"),
        (["check", "loc-1", PATIENT], "OPTOUT_REDIS_URL is not set"),
        (["check", " ", PATIENT], "LOCATION is empty"),
        (
            ["maintenance", "begin", "--for", "10m", "--reason", " "],
            "'--reason': it is kept for ever, and says nothing",
        ),
        (["rebuild", "--yes", "--reason", "a test", "--by", ""], "'--by': it is kept for ever, and says nothing"),
        (["check", "x" * 257, PATIENT], "LOCATION is empty or too long"),
        (["explain"], "give either a BODY or --stdin"),
        (["explain", "--stdin", "STOP"], "give either a BODY or --stdin"),
        (["simulate", "loc-1"], "give LOCATION NUMBER BODY, or --file FILE"),
        (["simulate", "loc-1", PATIENT, "hi"], "OPTOUT_KAFKA_BOOTSTRAP_SERVERS is not set"),
        (["simulate", "--file", "/nowhere/at-all"], "No such file or directory"),
        (["simulate", "a", "b", "c", "d"], "unexpected extra argument"),
    ],
)
def test_wrong_use(capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str) -> None:
    """Wrong use is one sentence and exit 2."""
    code, err = said(capsys, *arguments)
    assert code == 2
    assert sentence in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("BUCKETS", "many", "OPTOUT_BUCKETS"),
        ("MAX_STALENESS", "nan", "OPTOUT_MAX_STALENESS"),
        ("REGION", "UK", "there is no such country code"),
        ("REDSI_URL", "x", "OPTOUT_REDSI_URL is not a setting"),
        ("KAFKA_GROUP_ID", "mine", "OPTOUT_KAFKA_GROUP_ID cannot be set"),
        ("LEDGER_ID", "mine", "OPTOUT_LEDGER_ID leaves the ledger unchecked"),
        ("REDIS_URL", "nonsense", "OPTOUT_REDIS_URL cannot be understood"),
        ("REDIS_URL", "redis://127.0.0.1:1/0?typo=1", "OPTOUT_REDIS_URL cannot be understood"),
        ("CONFIG_FILE", "/nowhere/at-all", "OPTOUT_CONFIG_FILE /nowhere/at-all cannot be read"),
    ],
)
def test_wrong_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    """A setting that cannot be is named in one sentence, with exit 2."""
    monkeypatch.setenv("OPTOUT_REDIS_URL", f"redis://{NOWHERE}/0")
    monkeypatch.setenv(f"OPTOUT_{name}", value)
    code, err = said(capsys, "check", "loc-1", PATIENT)
    assert code == 2
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_all_that_is_wrong_at_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """check-config says everything that is wrong, a sentence each, and exits 1."""
    monkeypatch.setenv("OPTOUT_REDIS_URL", f"redis://{NOWHERE}/0")
    monkeypatch.setenv("OPTOUT_KAFKA_BOOTSTRAP_SERVERS", NOWHERE)
    code, err = said(capsys, "check-config")
    assert code == 1
    assert [line.split()[1] for line in err.splitlines()] == ["OPTOUT_CONFIRMATIONS", "Redis", "Kafka"]


def test_nothing_is_set(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing is set check-config names everything that has to be."""
    code, err = said(capsys, "check-config")
    assert code == 1
    names = ["OPTOUT_KAFKA_BOOTSTRAP_SERVERS", "OPTOUT_REDIS_URL", "OPTOUT_CONFIRMATIONS"]
    assert [line.split()[1] for line in err.splitlines()] == names


@pytest.mark.parametrize("arguments", [["worker"], ["topics", "create"], ["simulate", "loc-1", PATIENT, "STOP"]])
def test_an_unreachable_kafka(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """Without a Kafka there every command that needs one says so and exits 1."""
    monkeypatch.setenv("OPTOUT_KAFKA_BOOTSTRAP_SERVERS", NOWHERE)
    monkeypatch.setenv("OPTOUT_REDIS_URL", f"redis://{NOWHERE}/0")
    monkeypatch.setenv("OPTOUT_CONFIRMATIONS", "ours")
    code, err = said(capsys, *arguments)
    assert code == 1
    assert f"Kafka at {NOWHERE} cannot be reached" in err


def test_an_unreachable_redis(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Redis there a check says UNKNOWN, with its reason, and exits 4."""
    monkeypatch.setenv("OPTOUT_REDIS_URL", f"redis://{NOWHERE}/0")
    assert run(["check", "--json", "loc-1", PATIENT]) == 4
    answer = json.loads(capsys.readouterr().out)
    assert (answer["verdict"], answer["reason"]) == ("UNKNOWN", "unreachable")


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (b"not json\n", "line 1: this is not JSON"),
        (b'{"body": "hi"}\n[]\n', "line 2: this is not a JSON object"),
        (b'{"text": "hi"}\n', 'line 1: there is no "body"'),
        (b'{"body": "hi"}\n\xff\xfe\n', "line 2: this is not UTF-8 text"),
    ],
)
def test_a_malformed_stream(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lines: bytes, sentence: str
) -> None:
    """A line that cannot be read is named, and nothing of it is quoted."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    code, err = said(capsys, "explain", "--stdin")
    assert code == 2
    assert sentence in err


@pytest.mark.parametrize(
    ("third", "sentence"),
    [
        ("{bad", "line 3: this is not JSON; the 2 before it were published"),
        ('{"body": "hi"}', "message 3: an inbound message needs `location_id`; the 2 before it were published"),
        ('{"received_at": ' + "1" * 5000 + "}", "line 3: this is not JSON; the 2 before it were published"),
        ('{"a\\nb": 1}', "has no field 'a\\nb'"),
    ],
)
def test_what_stands_before_a_bad_line_is_published(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, third: str, sentence: str
) -> None:
    """A file with a bad line is published up to there, all of it and never some of it by chance, and that is said."""
    good = json.dumps({"location_id": "loc-1", "patient_number": PATIENT, "body": "STOP"})
    file = tmp_path / "texts"
    file.write_text(f"\ufeff{good}\r\n{good}\n{third}\n{good}\n", "utf-8")  # as an editor on Windows may have it
    with MockKafka() as kafka:
        kafka.create_topic("sms.inbound", 1)
        kafka.create_topic(MARKER_TOPIC, 1)
        monkeypatch.setenv("OPTOUT_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
        code, err = said(capsys, "simulate", "--file", str(file))
        assert code == 2
        assert sentence in err
        with Reader({"bootstrap.servers": kafka.bootstrap}, [Partition("sms.inbound", 0)]) as reader:
            assert len(list(reader.read())) == 2


def test_at_a_terminal_nothing_is_read_ahead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also where a terminal shows the progress, all that stands before a bad line is published."""
    good = json.dumps({"location_id": "loc-1", "patient_number": PATIENT, "body": "STOP"})
    with MockKafka() as kafka:
        kafka.create_topic("sms.inbound", 1)
        kafka.create_topic(MARKER_TOPIC, 1)
        for lines, bad in ((3, b"{bad\n"), (1500, b'{"body": "\xff"}\n')):
            values = read_lines(io.BytesIO(f"{good}\n".encode() * lines + bad), "texts")
            monkeypatch.setenv("OPTOUT_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
            with pytest.raises(click.UsageError, match=f"line {lines + 1}: .*; the {lines} before it were published"):
                simulate(load(), (value for _, value in values), show_progress=True)
        with Reader({"bootstrap.servers": kafka.bootstrap}, [Partition("sms.inbound", 0)]) as reader:
            assert len(list(reader.read())) == 1503


def test_closed_and_narrow_streams(tmp_path: Path) -> None:
    """A stream that is closed, full or knows no other characters than ASCII ends no command with a traceback."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "HOME": str(tmp_path), "XDG_CONFIG_HOME": ""}
    for line, code, said_so in (
        ("explain stop <&- ", 0, '"OPT_OUT"'),
        ("explain --stdin <&-", 0, ""),
        ("explain stop >&-", 0, ""),
        ("explain stop >/dev/full", 1, "No space left on device"),
        ("check m\u00fcnchen-\u2603 2025550143", 2, "OPTOUT_REDIS_URL is not set"),
    ):
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m consumer {line}"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert "unexpected" not in done.stderr
        assert (done.returncode, said_so in done.stdout + done.stderr) == (code, True), line


def test_which_number_is_none(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several numbers the one that is none is named by its place."""
    monkeypatch.setenv("OPTOUT_REDIS_URL", f"redis://{NOWHERE}/0")
    assert run(["check", "loc-1", "+12025550150", "12", "+12025550150"]) == 2
    assert "number 2 of 3: this is not a possible phone number" in capsys.readouterr().err


def test_simulation_keeps_away_from_real_clusters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster that is not marked for trying out nothing is published, unless that is said to be meant."""
    with MockKafka() as kafka:
        kafka.create_topic("sms.inbound", 1)
        monkeypatch.setenv("OPTOUT_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
        code, err = said(capsys, "simulate", "loc-1", PATIENT, "STOP")
        assert code == 1
        assert "OPTOUT_ALLOW_SIMULATION=1" in err
        monkeypatch.setenv("OPTOUT_ALLOW_SIMULATION", "1")
        assert said(capsys, "simulate", "loc-1", PATIENT, "STOP") == (0, "")


@pytest.mark.parametrize(
    ("body", "action", "keyword"), [(" stop ", "OPT_OUT", "STOP"), ("yes", "OPT_IN", "YES"), ("hi", "NONE", None)]
)
def test_explain(capsys: pytest.CaptureFixture[str], body: str, action: str, keyword: str | None) -> None:
    """What a text would do is said in JSON."""
    assert run(["explain", body]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["action"], answer["keyword"]) == (action, keyword)
