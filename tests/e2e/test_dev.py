"""`optout dev` as somebody meets it who tries things out from another terminal."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import redis

from consumer.embedded.redis_server import RedisServer, find_servers
from consumer.kafka.inbox import Partition
from consumer.kafka.reader import Reader
from tests.parts import oracle
from tests.parts.system import inbound, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not find_servers(), reason="no Redis or Valkey server on this machine")

COMMAND = [sys.executable, "-m", "consumer"]
PATIENT = "+12025550143"
WHO = ("oak-street", PATIENT)
MESSAGES = 50_000


class Dev:
    """One `optout dev`, and commands in other terminals."""

    def __init__(self, home: Path, *arguments: str, **settings: str) -> None:
        (home / "tmp").mkdir(exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPTOUT_")}
        self.environment = {**inherited, "XDG_CONFIG_HOME": str(home), "HOME": str(home), "TMPDIR": str(home / "tmp")}
        self.home = home
        self.process = subprocess.Popen(
            [*COMMAND, "dev", *arguments],
            env={**self.environment, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell lets what it starts in the background ignore Ctrl-C; these tests may run there.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it takes no lock
        )

    def until_ready(self) -> str:
        """Wait until it says that it is ready; return what it said."""
        said = ""
        assert self.process.stdout is not None
        while "Ctrl-C ends" not in said:
            line = self.process.stdout.readline()
            assert line, said
            said += line
        return said

    def run(self, *arguments: str, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            env={**self.environment, **settings},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def file(self) -> Path | None:
        """Return the file by which it is found."""
        return next(self.home.rglob("dev.toml"), None)

    def end_by_itself(self) -> tuple[int, str]:
        """Wait until it has ended; return the exit code and what it said."""
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said

    def end(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """End it; return the exit code and what it said last."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=30)
        return self.process.returncode, said


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    stack = Dev(tmp_path)
    yield stack
    stack.end(signal.SIGKILL)


def test_a_stop_from_another_terminal(dev: Dev) -> None:
    """check, simulate and history find the running stack by themselves, and Ctrl-C leaves nothing of it."""
    said = dev.until_ready()
    assert said.count("not exactly-once") == 1
    assert "UNKNOWN" not in dev.run("check", *WHO).stdout
    assert dev.run("check", *WHO).returncode == 0
    assert dev.run("simulate", *WHO, " stop ").returncode == 0
    assert dev.run("check", *WHO).returncode == 3  # at once: simulate has waited until it was in force
    history = dev.run("history", *WHO)
    assert history.returncode == 0
    assert "opted out by" not in history.stderr
    assert history.stdout.splitlines()[0].startswith(f"{PATIENT} at oak-street: opted out since ")
    assert "The patient has opted out of receiving further text messages from this practice." in history.stdout
    code, said = dev.end()
    assert (code, said.strip()) == (0, "Ended; nothing was kept.")
    assert dev.file() is None
    assert not list((dev.home / "tmp").iterdir())


def test_commands_say_where_they_ask(dev: Dev) -> None:
    """Whoever asks the stack is told so, and whoever set a Redis or a Kafka of their own is never sent there."""
    dev.until_ready()
    assert "(asking the stack that `optout dev` runs here, with its own settings)" in dev.run("check", *WHO).stderr
    own = dev.run("check", *WHO, OPTOUT_REDIS_URL="redis://127.0.0.1:1/0")
    assert own.stdout.split() == [PATIENT, "UNKNOWN", "(unreachable)"]
    assert "optout dev" not in own.stderr
    own = dev.run("check", *WHO, OPTOUT_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert own.returncode == 2
    worker = dev.run("worker", OPTOUT_CONFIRMATIONS="ours")
    assert "OPTOUT_KAFKA_BOOTSTRAP_SERVERS is not set" in worker.stderr


def test_the_stacks_own_settings_count(dev: Dev) -> None:
    """Numbers and buckets are read as the stack's workers read them, whatever this terminal has set for another one."""
    dev.until_ready()
    elsewhere = {"OPTOUT_REGION": "GB", "OPTOUT_BUCKETS": "16", "OPTOUT_MAX_STALENESS": "0.001"}
    assert dev.run("simulate", WHO[0], "2025550143", "STOP", **elsewhere).returncode == 0
    assert dev.run("check", WHO[0], "2025550143", **elsewhere).returncode == 3
    assert dev.run("history", WHO[0], "2025550143", **elsewhere).stdout.startswith(
        f"{PATIENT} at oak-street: opted out"
    )


def test_a_closed_terminal_ends_it(dev: Dev) -> None:
    """SIGHUP ends it like Ctrl-C: no process, no data of patients and no settings stay."""
    dev.until_ready()
    children = {int(pid) for pid in children_of(dev.process.pid)}
    assert len(children) >= 2  # Redis and a worker
    code, _ = dev.end(signal.SIGHUP)
    assert code == 0
    assert dev.file() is None
    assert not list((dev.home / "tmp").iterdir())
    assert not [pid for pid in children if alive(pid)]


def test_so_many_workers(tmp_path: Path) -> None:
    """--workers says how many workers run."""
    dev = Dev(tmp_path, "--workers", "3")
    assert "  workers  3;" in dev.until_ready()
    assert len(list((dev.home / "tmp").rglob("worker-*.log"))) == 3
    assert dev.end()[0] == 0


@pytest.mark.parametrize("part", ["worker", "redis-server"])
def test_a_part_that_died_ends_all(dev: Dev, part: str) -> None:
    """When a worker or Redis dies, the stack ends with a sentence instead of answering nothing."""
    dev.until_ready()
    (victim,) = [pid for pid in children_of(dev.process.pid) if part in command_of(pid)]
    os.kill(int(victim), signal.SIGKILL)
    assert dev.process.stdout is not None
    said = dev.process.stdout.read()
    assert dev.process.wait(30) == 1
    assert ("ended with exit code" if part == "worker" else "Redis did not answer") in said
    assert dev.file() is None


def test_a_password_is_shown_nowhere(tmp_path: Path) -> None:
    """The Redis that was named is used, its password stays with this user alone, and what is left there is said."""
    server = next(iter(find_servers().values()))
    with RedisServer(server, tmp_path / "redis", settings={"requirepass": "s3cr#t"}) as given:
        dev = Dev(tmp_path, OPTOUT_REDIS_URL=f"redis://:s3cr#t@127.0.0.1:{given.port}/0")
        said = dev.until_ready()
        file = dev.file()
        assert file is not None
        assert file.stat().st_mode & 0o777 == 0o600
        code, last = dev.end()
        assert code == 0
        assert f"stays in the Redis that you named (127.0.0.1:{given.port}/0)" in last
        assert "s3cr" not in said + last
        refused = Dev(tmp_path, OPTOUT_REDIS_URL=f"redis://:s3cr#t@127.0.0.1:{given.port}/0")
        code, last = refused.end_by_itself()
        assert code == 1
        assert "keys, and the embedded stack touches nobody's data" in last
        assert "s3cr" not in last


@pytest.mark.parametrize("url", ["redis://u:hunter2@[::1", "redis:hunter2@127.0.0.1", "redis://:hunter2@h:1/0?no=1"])
def test_a_url_that_is_none_is_not_quoted(tmp_path: Path, url: str) -> None:
    """What cannot be understood as a URL is refused in a sentence that quotes no part of it."""
    code, said = Dev(tmp_path, OPTOUT_REDIS_URL=url).end_by_itself()
    assert code == 1
    assert "OPTOUT_REDIS_URL cannot be understood" in said
    assert "hunter2" not in said
    assert len(said.splitlines()) == 1


def test_its_file_must_be_ones_own(tmp_path: Path) -> None:
    """A link or a pipe in the place of its file is neither followed nor waited for."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    place = tmp_path / "sms-optout" / "dev.toml"
    place.parent.mkdir()
    place.symlink_to(precious)
    code, said = Dev(tmp_path).end_by_itself()
    assert (code, precious.read_text()) == (1, "mine")
    assert "dev.toml cannot be written" in said
    place.unlink()
    os.mkfifo(place)
    stack = Dev(tmp_path)
    assert "OPTOUT_REDIS_URL is not set" in stack.run("check", *WHO).stderr
    code, said = stack.end_by_itself()
    assert code == 1
    assert "no plain file" in said


def test_texts_of_a_file_count_in_their_order(dev: Dev) -> None:
    """Texts that do not say when they were sent were sent one after the other: a START undoes the STOP above it."""
    dev.until_ready()
    lines = [{"location_id": WHO[0], "patient_number": WHO[1], "body": body} for body in ("STOP", "START") * 3]
    done = dev.run("simulate", "--wait", "--file", "-", stdin="\n".join(map(json.dumps, lines)))
    assert done.returncode == 0
    assert done.stdout.startswith("6 messages published\nin force after ")
    assert dev.run("check", *WHO).returncode == 0
    steps = [json.loads(line) for line in dev.run("history", "--json", *WHO).stdout.splitlines()]
    assert [(step["decision"], step["version"]) for step in steps] == [("CHANGED", n) for n in range(1, 7)]


def test_many_texts_of_one_patient_count_in_their_order(dev: Dev) -> None:
    """Also of hundreds of texts the last one wins, and none is dated ahead; many locations are waited for together."""
    dev.until_ready()
    lines = [{"location_id": WHO[0], "patient_number": WHO[1], "body": body} for body in ("STOP", "START") * 400]
    lines += [{"location_id": f"loc-{n}", "patient_number": PATIENT, "body": "STOP"} for n in range(300)]
    done = dev.run("simulate", "--wait", "--file", "-", stdin="\n".join(map(json.dumps, lines)))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-2]) < 10
    assert dev.run("check", *WHO).returncode == 0
    assert dev.run("check", "loc-299", PATIENT).returncode == 3
    steps = [json.loads(line) for line in dev.run("history", "--json", *WHO).stdout.splitlines()]
    assert [step["decision"] for step in steps] == ["CHANGED"] * 800


def test_what_is_for_nobody_is_not_said_to_be_in_force(dev: Dev) -> None:
    """A text that names no location or no number is read, and that is all that is said of it."""
    dev.until_ready()
    for location, number in ((" ", PATIENT), ("x" * 300, PATIENT), ("loc-1", "banana"), ("loc-1", "")):
        done = dev.run("simulate", location, number, "STOP")
        assert done.returncode == 0
        assert "in force after" not in done.stdout
        assert "read after" in done.stdout
        assert "1 of them name no location or no number" in done.stderr


def test_waiting_in_vain_is_said(dev: Dev) -> None:
    """Where nobody can know whether a text is in force the command says why, and exits 1; where it cannot, 2 before."""
    dev.until_ready()
    (worker,) = [pid for pid in children_of(dev.process.pid) if "worker" in command_of(pid)]
    os.kill(int(worker), signal.SIGSTOP)
    done = dev.run("simulate", *WHO, "STOP")
    os.kill(int(worker), signal.SIGCONT)
    assert (done.returncode, done.stdout) == (1, "1 message published\n")
    assert "not known to be read: the workers are down or far behind" in done.stderr
    done = dev.run("simulate", "--wait", *WHO, "STOP", OPTOUT_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert (done.returncode, done.stdout) == (2, "")


def test_only_one_runs(dev: Dev) -> None:
    """A second one says in one sentence that there is one, and leaves it alone."""
    dev.until_ready()
    second = dev.run("dev")
    assert second.returncode == 1
    assert "another stack runs already" in second.stderr
    assert dev.run("check", *WHO).returncode == 0


def test_what_a_killed_one_leaves_is_not_found(dev: Dev) -> None:
    """The file of a stack that was killed sends nobody anywhere, and the next stack takes its place."""
    dev.until_ready()
    dev.end(signal.SIGKILL)
    assert dev.file() is not None
    assert "OPTOUT_REDIS_URL is not set" in dev.run("check", *WHO).stderr
    again = Dev(dev.home)
    try:
        again.until_ready()
        assert again.run("check", *WHO).returncode == 0
    finally:
        code, _ = again.end(signal.SIGTERM)
    assert code == 0


def children_of(pid: int) -> list[str]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], check=False, capture_output=True, text=True)
    return listed.stdout.split()


def command_of(pid: str) -> str:
    return subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", pid], check=False, capture_output=True, text=True
    ).stdout.replace("valkey-server", "redis-server")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def texts(count: int) -> list[dict[str, Any]]:
    """Return texts of all kinds: 3 % keywords, some of them late, and near misses and talk."""
    chance = random.Random(7)
    now = time.time_ns() // 1_000_000 - count
    keywords = ("STOP", " stop ", "Start", "UNSTOP", "quit", "yes", "End", "cancel")
    talk = ("see you at 3", "stop messages", "thanks!", "UNSUB", "\N{THUMBS UP SIGN}", "can I move it to Tuesday?")
    return [
        inbound(
            f"loc-{chance.randrange(200)}",
            f"+1202555{chance.randrange(2000):04d}",
            chance.choice(keywords if chance.random() < 0.03 else talk),
            received_at=now + number - (chance.randrange(5000) if chance.random() < 0.1 else 0),
        )
        for number in range(count)
    ]


def test_fifty_thousand_messages_are_all_accounted_for(dev: Dev) -> None:
    """Of 50,000 messages from a file each is read, each keyword is in the ledger, each change is told and in force."""
    dev.until_ready()
    sent = texts(MESSAGES)
    done = dev.run("simulate", "--file", "-", stdin="".join(f"{json.dumps(text)}\n" for text in sent))
    assert done.stdout == f"{MESSAGES} messages published\n"
    keywords = sum(text["body"].strip().lower() in oracle.OUT | oracle.BACK for text in sent)
    file = dev.file()
    assert file is not None
    settings = tomllib.loads(file.read_text())
    with (
        redis.Redis.from_url(settings["redis_url"]) as client,
        Reader(settings["kafka"], [Partition("sms.inbound", n) for n in range(12)]) as came,
        Reader(settings["kafka"], [Partition("sms.keyword-ledger", n) for n in range(64)]) as ledger,
        Reader(settings["kafka"], [Partition("sms.subscription-changed", n) for n in range(8)]) as changed,
    ):
        assert sum(1 for _ in came.read()) == MESSAGES
        written: list[oracle.Written] = []
        wait_for("every keyword is in the ledger", lambda: len(read_on(ledger, written)) >= keywords)
        assert len(written) == keywords
        changes = oracle.changes_of(written)
        told: list[oracle.Written] = []
        wait_for("every change is told", lambda: len(once(read_on(changed, told))) >= len(changes))
        assert oracle.told(once(told)) == changes
        assert members(client) == oracle.members_of(changes) == oracle.members_after(sent)


def read_on(reader: Reader, so_far: list[oracle.Written]) -> list[oracle.Written]:
    for message in reader.read():
        partition, offset, value = message.partition(), message.offset(), message.value()
        assert partition is not None
        assert offset is not None
        assert value is not None
        so_far.append(oracle.Written(partition, offset, 0, oracle.decode(value)))
    return so_far


def once(told: list[oracle.Written]) -> list[oracle.Written]:
    """Return each event once: the embedded Kafka may hold one twice, under the same id."""
    return list({written.record["event_id"]: written for written in told}.values())


def members(client: redis.Redis) -> set[oracle.Subscription]:
    found = set()
    for key in client.scan_iter("optout:*:set:*", count=1000):
        location = key.decode().split(":set:", 1)[1]
        found |= {(location, f"+{int(member)}") for member in client.smembers(key)}
    return found
