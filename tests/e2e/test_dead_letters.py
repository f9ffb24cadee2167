"""`optout dead-letters`, as whoever is paged meets it: the whole on a real Kafka, each command on an embedded one."""

from __future__ import annotations

import json
import logging
import os
import pty
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from consumer import deployment
from consumer.cli import run
from consumer.dead_letters import replay as module
from consumer.dead_letters.reading import Filter, Shelf
from consumer.domain.events import InboundMessage
from consumer.embedded.kafka_mock import MockKafka
from consumer.kafka import cluster
from consumer.kafka.errors import KafkaGone
from consumer.kafka.inbox import Partition
from consumer.kafka.reader import Reader
from consumer.letter import headers_of
from consumer.settings import load
from consumer.wire.codec import Codec
from consumer.wire.schemas import Schemas
from tests.parts.system import inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from confluent_kafka import Message

    from tests.parts.system import System

PATIENT = "+12025550143"
BRITISH, BRITAIN = "07700 900123", "+447700900123"
BODY = " Stop \x1b[31m"
HOUR = 3_600_000
SILENT = logging.getLogger("tests.e2e.dead_letters")
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False
COMMAND = [sys.executable, "-m", "consumer", "dead-letters"]


def test_a_stop_that_nobody_could_be_named_for(system: System) -> None:
    """Who is paged for a STOP finds it, repairs the setting, replays it, and it holds; once more changes nothing."""
    worker = system.start_worker()
    system.send([inbound("loc-1", BRITISH, "STOP"), inbound("loc-2", BRITISH, "STOP")], raw=[b"\xffgarbage"])
    wait_for("read", lambda: system.committed("classify", "inbound") == system.ends("inbound"))
    listed = system.run("dead-letters", "list").stdout
    assert "2 opt-outs that nobody can be named for (unattributable-opt-out)" in listed
    assert worker.stop() == 0
    said = [line for line in worker.log() if "nobody can be named for" in line["event"]]
    assert {line["level"] for line in said} == {"error"}
    assert sum(line["count"] for line in said) == sum(len(line["where"]) for line in said) == 2
    system.start_worker(OPTOUT_REGION="GB")
    system.send([inbound("loc-2", BRITISH, "START")])
    wait_for("read", system.settled)
    for _ in range(2):
        done = system.run("dead-letters", "replay", "--all", "--reason", "unattributable-opt-out", "--yes")
        assert (done.returncode, done.stdout) == (0, "2 of 2 replayed\n")
        wait_for("read", system.settled)
        assert system.members() == {("loc-1", BRITAIN)}
    assert len(system.read("changed")) == 1
    assert system.run("check", "loc-1", BRITAIN).returncode == 3


@pytest.mark.parametrize(
    ("value", "many"),
    [
        (b"not ours", "20 records in a row cannot be read (not-framed 20)"),
        (b"\x00\x00\x00\x00\x63not ours", "20 records in a row came under the schema id 99, which is not known"),
    ],
    ids=["garbage", "one unknown id"],
)
def test_too_many_end_the_worker(system: System, value: bytes, many: str) -> None:
    """A topic that nobody can read ends the worker with exit code 1 and one sentence: where, why, what to do."""
    worker = system.start_worker("--only", "classify", OPTOUT_DEAD_LETTERS_IN_A_ROW="20")
    system.send([], raw=[value] * 50)
    assert worker.process.wait(30) == 1
    (said,) = (line["event"] for line in worker.log() if line["level"] == "critical")
    assert said.startswith(system.topics["inbound"])
    for part in (many, "dead-letters list", "raise the limit"):
        assert part in said
    committed = sum(offset for offset in system.committed("classify", "inbound").values() if offset > 0)
    assert committed == len(system.read("dead")) == 20


# Each command, on the embedded Kafka


class Desk:
    """Dead letters on an embedded Kafka, and who looks after them."""

    def __init__(self, kafka: MockKafka) -> None:
        self.kafka = kafka
        self.now = time.time_ns() // 1_000_000
        codec = Codec(Schemas())
        self.text = codec.encode(InboundMessage(**inbound("loc-1", PATIENT, BODY, received_at=self.now)))
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap}, logger=SILENT)

    def put(self, reason: str, *, offset: int = 7, value: bytes | None = None, ago: int = 0, topic: str = "sms.inbound",
            more: Sequence[tuple[str, bytes]] = ()) -> None:  # fmt: skip
        """Write a letter into partition 0."""
        when = str(self.now - ago).encode()
        said = {"topic": topic, "partition": "0", "offset": str(offset), "stage": "TRANSFORMATION"}
        self._producer.produce(
            "sms.inbound.dead-letter",
            self.text if value is None else value,
            f"loc-1:{PATIENT}",
            partition=0,
            headers=[
                ("theirs", PATIENT.encode()),
                ("optout.first-kafka-timestamp", when),
                ("optout.reason", reason.encode()),
                ("optout.recorded-at", when),
                *((f"__connect.errors.{name}", word.encode()) for name, word in said.items()),
                ("__connect.errors.exception.class.name", b"Unattributable"),
                *more,
            ],
        )
        assert self._producer.flush(10) == 0

    def came_back(self) -> list[Message]:
        """Return what stands on the inbound topic."""
        partitions = [Partition("sms.inbound", number) for number in range(2)]
        with Reader({"bootstrap.servers": self.kafka.bootstrap}, partitions) as reader:
            return list(reader.read())


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for name in [name for name in os.environ if name.startswith("OPTOUT_")]:
        monkeypatch.delenv(name)
    with MockKafka() as kafka:
        for topic in ("sms.inbound", "sms.opt-out-requested", "sms.inbound.dead-letter"):
            kafka.create_topic(topic, 2)
        monkeypatch.setenv("OPTOUT_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
        yield Desk(kafka)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    """Run a command; return its exit code, the lines of its answer, and what it said on stderr."""
    code = run(["dead-letters", *arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    if "--content" not in arguments:
        assert PATIENT[1:] not in out + err
        assert "Stop" not in out + err
    return code, out.splitlines(), err


def test_list(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """The letters are listed newest last with where they came from, and counted: opt-outs of nobody first and apart."""
    assert said(capsys, "list") == (0, ["no dead letters"], "")
    desk.put("not-avro", ago=5 * HOUR)
    desk.put("unattributable-opt-out", offset=9, ago=HOUR)
    desk.put("not-avro", ago=2 * HOUR, topic="sms.opt-out-requested")
    desk.put("not-avro", more=[("optout.replay-of", b"sms.inbound.dead-letter:0:0")])
    _, lines, _ = said(capsys, "list")
    assert [line.split()[0] for line in lines[:5]] == ["letter", "0:0", "0:2", "0:1", "0:3"]
    assert lines[1].endswith("came back as 0:3")
    assert lines[3].split()[4:] == ["unattributable-opt-out", "sms.inbound", "[0]", "9", str(len(desk.text) + 18)]
    assert lines[6:] == [
        "1 opt-out that nobody can be named for (unattributable-opt-out): not in force, find out whose",
        "2 others: not-avro 2",
        "1 that came back after a replay: a newer one stands for each",
    ]
    for filters, expected in (
        (["--reason", "not-avro"], ["0:0", "0:2", "0:3"]),
        (["--since", "90m"], ["0:1", "0:3"]),
        (["--source", "sms.inbound", "--limit", "1"], ["0:3"]),
        (["--reason", "none"], []),
    ):
        _, lines, _ = said(capsys, "list", "--json", *filters)
        assert [json.loads(line)["letter"] for line in lines] == expected


def test_show(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """All is shown but what a patient wrote, and that, too, for whoever asks; what is no record in hexadecimal."""
    desk.put("unattributable-opt-out")
    desk.put("not-avro", value=b"\xff\x00" * 600)
    code, lines, _ = said(capsys, "show", "0:0")
    assert code == 0
    assert any(line.split() == ["came", "from", "sms.inbound", "[0]", "7"] for line in lines)
    assert "    theirs  (12 bytes: --content shows them)" in lines
    _, lines, _ = said(capsys, "show", "0:0", "--content")
    assert any(line.split()[:1] == ["body"] and line.endswith("Stop \\x1b[31m") for line in lines)
    assert f"key: loc-1:{PATIENT}" in lines
    _, lines, _ = said(capsys, "show", "0:1", "--content")
    assert lines[-1] == "    and 176 bytes more"
    assert lines[-2] == "    " + " ".join(["ff00ff00"] * 8)


def test_show_says_why_nobody_can_be_named(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Who looks for a STOP's patient is told what is wrong with the number, or that it can be read by now."""
    codec = Codec(Schemas())
    for number, why in (
        ("1202555O145", "location and number: this holds letters"),
        ("202-555-0143 x12", "location and number: an extension"),
        ("0000000000", "location and number: this is not a possible phone number"),
        (PATIENT, "location and number: both are read now: replay it"),
    ):
        desk.put("unattributable-opt-out", value=codec.encode(InboundMessage(**inbound("loc-1", number, "STOP"))))
        _, listed, _ = said(capsys, "list", "--json")
        _, lines, _ = said(capsys, "show", json.loads(listed[-1])["letter"], "--content")
        assert lines[-1].startswith(why)
    desk.put("unattributable-opt-in", value=codec.encode(InboundMessage(**inbound(" ", PATIENT, "START"))))
    _, lines, _ = said(capsys, "show", "0:4", "--content")
    assert lines[-1] == "location and number: the location is empty or too long"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["show", "0:5"], 1, "there is no letter 0:5 in sms.inbound.dead-letter"),
        (["show", "2:0"], 1, "sms.inbound.dead-letter has no partition 2: they are 0 to 1"),
        (["show", "five"], 2, "'five' is no letter: write PARTITION:OFFSET"),
        (["list", "--since", "yesterday"], 2, "'yesterday' is no span of time"),
        (["replay"], 2, "give either letters, as PARTITION:OFFSET, or --all"),
        (["replay", "0:0", "--all"], 2, "give either letters, as PARTITION:OFFSET, or --all"),
        (["replay", "0:0", "--since", "2h"], 2, "go with --all"),
        (["replay", "0:0"], 2, "there is no terminal to ask at: say --yes"),
        (["replay", "0:0", "0:5", "--yes"], 1, "there is no letter 0:5"),
        (["replay", "0:1", "--yes"], 1, "0:1 cannot be replayed: workers do not read sms.other"),
        (["replay", "0:2", "--yes"], 1, "0:2 cannot be replayed: no header says where from"),
        (["replay", "--all", "--yes", "--rate", "0"], 2, "0 is not in the range 1<=x<=100000"),
        (["list", "--reason", "unattributable"], 2, "'unattributable' is not one of 'unattributable-opt-out'"),
    ],
)
def test_wrong_use(
    desk: Desk, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, sentence: str
) -> None:
    """What cannot be done is said in one sentence, with the right exit code, and nothing is replayed."""
    desk.put("unattributable-opt-out")
    desk.put("not-avro", topic="sms.other")
    desk.put("not-avro", more=[("stranger", b"1")])
    found, _, err = said(capsys, *arguments)
    assert (found, len(err.splitlines())) == (code, 1)
    assert sentence in err
    assert not desk.came_back()


def test_without_a_topic_or_a_kafka(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no topic of dead letters, or no Kafka, each command says so."""
    monkeypatch.setenv("OPTOUT_DEAD_LETTER_TOPIC", "elsewhere")
    commands = (["list"], ["show", "0:0"], ["replay", "--all"])
    for command in commands:
        assert said(capsys, *command) == (
            1,
            [],
            "optout: there is no topic elsewhere: run `optout topics create`\n",
        )
    monkeypatch.setenv("OPTOUT_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    for command in commands:
        code, _, err = said(capsys, *command)
        assert (code, "cannot be reached" in err) == (1, True)


def test_replay(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Letters go back as they came, with the first time and the letter's name; what cannot is said, the rest goes."""
    desk.put("unattributable-opt-out", ago=HOUR)
    desk.put("not-avro", topic="sms.other")
    desk.put("not-avro", more=[("optout.replay-of", b"sms.inbound.dead-letter:0:0")])
    would = said(capsys, "replay", "--all", "--dry-run")
    assert would[:2] == (1, ["would replay 1 letter: 1 to sms.inbound"])
    assert not desk.came_back()
    assert said(capsys, "replay", "--all", "--yes")[:2] == (1, ["1 of 1 replayed"])
    assert said(capsys, "replay", "--yes", "--rate", "100", "0:0", "0:0") == (0, ["1 of 1 replayed"], "")
    assert said(capsys, "replay", "--all", "--reason", "not-framed") == (0, ["nothing to replay"], "")
    newer, older = desk.came_back()
    for message, at, letter in ((older, desk.now - HOUR, b"0:0"), (newer, desk.now, b"0:2")):
        assert (message.value(), message.key(), message.partition()) == (desk.text, f"loc-1:{PATIENT}".encode(), 0)
        assert headers_of(message) == [
            ("theirs", PATIENT.encode()),
            ("optout.first-kafka-timestamp", str(at).encode()),
            ("optout.replay-of", b"sms.inbound.dead-letter:" + letter),
        ]


@pytest.mark.parametrize(("answer", "code", "replayed"), [("y", 0, 1), ("n", 1, 0), ("\x04", 130, 0)])
def test_it_asks_first(desk: Desk, answer: str, code: int, replayed: int) -> None:
    """At a terminal it says what goes where and asks; only a yes replays."""
    desk.put("unattributable-opt-out")
    ours, theirs = pty.openpty()
    asked = subprocess.Popen([*COMMAND, "replay", "--all"], stdin=theirs, stderr=subprocess.PIPE, text=True)
    os.write(ours, f"{answer}\n".encode())
    _, err = asked.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert "replay 1 letter: 1 to sms.inbound?" in err
    assert (asked.returncode, len(desk.came_back())) == (code, replayed)


def test_an_interrupted_replay_says_how_far_it_came(desk: Desk) -> None:
    """Ctrl-C in a replay ends it in order: so many of so many, and exit code 130."""
    for _ in range(50):
        desk.put("unattributable-opt-out")
    going = subprocess.Popen(
        [*COMMAND, "replay", "--all", "--yes", "--rate", "5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - it takes no lock
    )
    wait_for("some are replayed", lambda: len(desk.came_back()) >= 2)
    going.send_signal(signal.SIGINT)
    out, err = going.communicate(timeout=60)
    done = len(desk.came_back())
    assert (going.returncode, out) == (130, f"{done} of 50 replayed\n")
    assert err == "optout: interrupted; the same command again does no harm\n"
    assert done < 50


def test_a_kafka_that_goes_away_says_how_far_it_came(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Kafka goes away in a replay, the sentence says how many letters are known to be replayed."""
    for _ in range(3):
        desk.put("unattributable-opt-out")
    monkeypatch.setattr(module, "ACKNOWLEDGED_WITHIN", 1.0)
    monkeypatch.setattr(deployment, "client_config", lambda settings: {**settings.require_kafka(), "logger": SILENT})
    settings = load()
    shelf = Shelf(settings)
    letters = shelf.find(Filter()).open
    send = module._Sending.send

    def sent(self: module._Sending, record: object, rate: float | None) -> None:
        send(self, record, rate)  # type: ignore[arg-type]
        if self._sent == 1:
            self.settle(0)
            desk.kafka.set_broker_down()

    monkeypatch.setattr(module._Sending, "send", sent)
    with pytest.raises(KafkaGone, match="1 of 3 were replayed, and the same command again does no harm"):
        module.replay(settings, shelf, letters, rate=None, show_progress=False)
