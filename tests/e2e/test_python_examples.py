"""The examples in Python, as they stand there: whoever copies one sends what may be sent, once, and loses nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from consumer.domain.buckets import DEFAULT_BUCKETS
from tests.parts.system import System, wait_for

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tests.parts.kafka import Kafka

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"
HERE, STOPPED, FINE, LATER = "loc-1", "+12025550146", "+12025550144", "+12025550145"
TEXT = "Your appointment is tomorrow at 9. Reply STOP to opt out."


@pytest.fixture
def system(kafka: Kafka, redis_url: str, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    with System(kafka.bootstrap, redis_url, topic_prefix, tmp_path, buckets=DEFAULT_BUCKETS) as deployment:
        deployment.create_topics()
        deployment.topics["outbound"] = f"{topic_prefix}outbound"
        deployment.make_topics(outbound=2)
        deployment.start_worker()
        wait_for("ALLOWED", lambda: deployment.verdict(HERE, STOPPED) == "ALLOWED")
        yield deployment


def line(number: str, text: str = TEXT, location: str = HERE) -> str:
    return json.dumps({"location_id": location, "patient_number": number, "text": text}) + "\n"


def command(name: str, system: System, *arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / name), system.bootstrap, system.redis_url, *arguments]


class Running:
    """A program that runs until it is told to stop, and what it says."""

    def __init__(self, process: subprocess.Popen[str], out: Path) -> None:
        self.process = process
        self._out = out

    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(said)["sent"] for said in self._out.read_text().splitlines()]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextmanager
def running(folder: Path, *command: str) -> Generator[Running]:
    out, errors = folder / f"{len(list(folder.iterdir()))}.out", folder / f"{len(list(folder.iterdir()))}.err"
    with out.open("w") as said, errors.open("w") as complained:
        process = subprocess.Popen(command, stdout=said, stderr=complained, text=True)
    try:
        yield Running(process, out)
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.parametrize("name", ["outbound.py", "outbound_async.py"])
def test_a_producer_sends_what_it_may(system: System, name: str) -> None:
    """What is ALLOWED is in the topic; what is SUPPRESSED, no number or badly worded is told, and is not."""
    topic = system.topics["outbound"]
    assert system.run("simulate", HERE, STOPPED, "STOP").returncode == 0
    texts = [line(FINE), line(STOPPED), line(STOPPED, location="loc-2"), line("12"), line(FINE, "See you!"), "{}\n"]
    done = subprocess.run(
        command(name, system, topic), input="".join(texts), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout) == {"produced": 2, "suppressed": 1, "wrong": 3} | (
        {"failed": 0} if name == "outbound.py" else {}
    )
    assert STOPPED not in done.stderr
    assert FINE not in done.stderr
    sent = {(record["location_id"], record["patient_number"]) for record in outbound(system)}
    assert sent == {(HERE, FINE), ("loc-2", STOPPED)}


def outbound(system: System) -> list[dict[str, Any]]:
    return [json.loads(message.value() or b"") for message in system.messages("outbound")]


@pytest.mark.parametrize("name", ["outbound.py", "outbound_async.py", "last_hop.py", "confirmations.py"])
def test_without_arguments_it_says_how_it_is_called(name: str) -> None:
    """Who runs an example without arguments reads what it does and what it wants."""
    done = subprocess.run([sys.executable, str(EXAMPLES / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"python {name} kafka-1:9092" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stop_that_comes_while_a_message_waits_is_heeded(system: System, tmp_path: Path) -> None:
    """The last hop asks again: who texted STOP while the message lay in the topic gets none; others get theirs."""
    topic = system.topics["outbound"]
    done = subprocess.run(
        command("outbound.py", system, topic),
        input=line(FINE) + line(LATER),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert json.loads(done.stdout)["produced"] == 2
    assert system.run("simulate", HERE, LATER, "STOP").returncode == 0
    with running(tmp_path, *command("last_hop.py", system, topic, f"{system.prefix}hop")) as hop:
        wait_for("one is sent", lambda: len(hop.sent()) == 1)
        system.flush_redis()
        assert system.run("simulate", "--no-wait", HERE, STOPPED, "STOP").returncode == 0
        again = subprocess.run(
            command("outbound.py", system, topic), input=line(FINE), capture_output=True, text=True, check=False
        )
        assert json.loads(again.stdout)["produced"] == 1
        wait_for("another is sent", lambda: len(hop.sent()) == 2)
        assert hop.stop() == 0
        assert [message["patient_number"] for message in hop.sent()] == [FINE, FINE]


def test_confirmations_are_sent_once(system: System, tmp_path: Path) -> None:
    """However many senders read the requests, each in a group of its own, a patient gets one confirmation a change."""
    topic = system.topics["confirmations"]
    sender = command("confirmations.py", system)
    with running(tmp_path, *sender, "one", topic) as one, running(tmp_path, *sender, "two", topic) as two:
        assert system.run("simulate", HERE, STOPPED, "STOP").returncode == 0
        wait_for("confirmed", lambda: one.sent() + two.sent())
        assert system.run("simulate", HERE, STOPPED, "START").returncode == 0
        wait_for("confirmed again", lambda: len(one.sent() + two.sent()) == 2)
        assert one.stop() == two.stop() == 0
        texts = sorted(message["text"] for message in one.sent() + two.sent())
    assert [text.split(".")[0] for text in texts] == [
        "You have opted out and will receive no further text messages from this practice",
        "You will receive text messages from this practice again",
    ]
