"""The example in JavaScript, from docs/CONTRACT.md alone, on real servers: it answers as our own guard does."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import pytest

from consumer.domain.events import Action
from consumer.guard import Guard, Unknown
from consumer.wire.schemas import schemas_directory
from tests.docs.documents import ROOT, block_with
from tests.parts.javascript_guard import JavaScriptGuard
from tests.parts.view import (
    ALLOWED,
    BUCKETS,
    FINE,
    HERE,
    META,
    SET,
    STOPPED,
    SUPPRESSED,
    TIMEOUT,
    answers,
    connect,
    paused,
    set_up,
    unknown,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import redis

    from consumer.guard import VerdictKind
    from tests.parts.javascript import JavaScript
    from tests.parts.redis import MakeRedis
    from tests.parts.view import Owner

UNVOUCHED, OTHER_SERVER, STALE = map(unknown, (Unknown.UNVOUCHED, Unknown.OTHER_SERVER, Unknown.STALE))
UNREACHABLE, TIMED_OUT, REFUSED = map(unknown, (Unknown.UNREACHABLE, Unknown.TIMEOUT, Unknown.REFUSED))
CONTRACT = "docs/CONTRACT.md"


def vectors(name: str) -> list[object]:
    """Return the published vectors of that name."""
    found: list[object] = json.loads((schemas_directory() / "vectors" / f"{name}.json").read_text("utf-8"))["vectors"]
    return found


class Both:
    """Two guards that are asked the same: the example, which keeps one process and connection, and our own."""

    def __init__(self, javascript: JavaScript, url: str, max_staleness: int = 300) -> None:
        settings = {"optout_buckets": BUCKETS, "optout_redis_timeout": TIMEOUT, "optout_max_staleness": max_staleness}
        self.example = JavaScriptGuard(javascript, url, **settings)
        self._own = Guard.from_url(url, timeout=TIMEOUT, buckets=BUCKETS, max_staleness=max_staleness)

    def say(self) -> list[tuple[VerdictKind, Unknown | None]]:
        """Return what both say of the patient who opted out here and of one who did not."""
        said = [self.example.check(HERE, number) for number in (STOPPED, FINE)]
        assert said == answers(self._own)
        return said


@contextmanager
def both(javascript: JavaScript, url: str, max_staleness: int = 300) -> Generator[Both]:
    asked = Both(javascript, url, max_staleness)
    with asked.example:
        yield asked


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def owner(client: redis.Redis) -> Owner:
    return set_up(client)


@pytest.fixture
def asked(javascript: JavaScript, redis_url: str, owner: Owner) -> Iterator[Both]:
    """Both guards, on a vouched view."""
    with both(javascript, redis_url) as asked:
        yield asked


@pytest.mark.smoke
def test_the_vectors(javascript: JavaScript) -> None:
    """The example finds every location and number where the vectors say, and reads every answer as they say."""
    command = [javascript.node, "--test", "--test-reporter=tap"]
    done = subprocess.run(command, cwd=javascript.folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) > sum(len(vectors(name)) for name in ("buckets", "verdicts", "numbers"))


def test_the_script_is_the_contract_s(javascript: JavaScript) -> None:
    """The script that the example sends is the one of the document, to the byte."""
    assert (javascript.folder / "verdict.lua").read_text("utf-8") == block_with(CONTRACT, "lua").text


def test_the_lock_file_names_no_registry() -> None:
    """The modules are locked by their hashes, and come from whatever registry a reader uses."""
    locked = (ROOT / "examples" / "javascript" / "package-lock.json").read_text("utf-8")
    assert '"integrity": "sha512-' in locked
    assert '"resolved"' not in locked
    assert "://" not in locked


# While somebody vouches, and while nobody does


def test_who_opted_out_is_suppressed_and_nobody_else(asked: Both, owner: Owner) -> None:
    """The patient who opted out is SUPPRESSED and nobody else is, from the apply on, and until the START."""
    assert asked.say() == [SUPPRESSED, ALLOWED]
    owner.write(Action.OPT_OUT, HERE, FINE)
    assert asked.say() == [SUPPRESSED, SUPPRESSED]
    owner.write(Action.OPT_IN, HERE, STOPPED, FINE)
    assert asked.say() == [ALLOWED, ALLOWED]


def test_a_verdict_carries_its_times(asked: Both, owner: Owner) -> None:
    """A verdict says when it was given and what it stands on, by Redis's clock."""
    before = owner.view.server().time
    said = asked.example.answer(f'{{"location_id": "{HERE}", "number": "{FINE}"}}')
    assert before <= said["at"] <= owner.view.server().time
    assert before - 60_000 < said["fresh"] <= before


def test_what_is_no_question_is_refused(asked: Both) -> None:
    """A number that is not E.164, no location, or no JSON gets a sentence that does not quote it, and no verdict."""
    for line in (
        '{"location_id": "loc-1", "number": "2025550178"}',
        '{"location_id": "loc-1", "number": "+1 202 555 0178"}',
        '{"location_id": " ", "number": "+12025550178"}',
        '{"location_id": "\\u001c\\u0085", "number": "+12025550178"}',
        '{"location_id": "loc-\\ud83c", "number": "+12025550178"}',
        '{"number": "+12025550178"}',
        "null",
        "+12025550178",
        "",
    ):
        said = asked.example.answer(line)
        assert said.keys() == {"error"}
        assert "0178" not in said["error"]
    assert asked.say() == [SUPPRESSED, ALLOWED]


def test_a_server_that_forgot_the_script_answers(asked: Both, client: redis.Redis) -> None:
    """After SCRIPT FLUSH the next question is answered like the one before."""
    assert asked.say() == [SUPPRESSED, ALLOWED]
    client.script_flush()
    assert asked.example.check(HERE, FINE) == ALLOWED  # first: our own guard would load it
    assert asked.say() == [SUPPRESSED, ALLOWED]


def test_a_flushed_server_knows_nothing(asked: Both, client: redis.Redis, owner: Owner) -> None:
    """After a flush nobody is ALLOWED, until the replay is through and vouched for."""
    client.flushdb()
    assert asked.say() == [UNVOUCHED] * 2
    owner.catch_up()
    assert asked.say() == [UNVOUCHED] * 2
    owner.vouch()
    assert asked.say() == [SUPPRESSED, ALLOWED]


@pytest.mark.parametrize("lost", ["run", "replication", "fresh"])
def test_half_a_marker_is_none(asked: Both, client: redis.Redis, lost: str) -> None:
    """A marker of which a part is missing vouches for nothing, and one that names another server for nothing either."""
    client.hset(META, lost, "0" * 40 if lost != "fresh" else "soon")
    assert asked.say() == [OTHER_SERVER if lost != "fresh" else UNVOUCHED] * 2
    client.hdel(META, lost)
    assert asked.say() == [UNVOUCHED] * 2


def test_another_system_s_keys_are_no_answer(asked: Both, client: redis.Redis) -> None:
    """Where another system's value stands in place of the set or the marker, the answer is UNKNOWN."""
    for key in (SET, META):
        client.delete(key)
        client.set(key, "another system's")
        assert asked.say() == [UNVOUCHED] * 2


def test_stale_suppresses_and_does_not_allow(
    javascript: JavaScript, redis_url: str, client: redis.Redis, owner: Owner
) -> None:
    """Past the age that a sender accepts, or ahead of the clock, members are SUPPRESSED and all others are UNKNOWN."""
    with both(javascript, redis_url, max_staleness=90) as strict, both(javascript, redis_url) as lax:
        client.hset(META, "fresh", owner.view.server().time - 100_000)
        assert strict.say() == [SUPPRESSED, STALE]
        assert lax.say() == [SUPPRESSED, ALLOWED]
        client.hset(META, "fresh", owner.view.server().time + 60_000)
        assert lax.say() == [SUPPRESSED, STALE]


def test_a_maintenance_window(asked: Both, client: redis.Redis, owner: Owner) -> None:
    """What was new enough when a window began is enough until it ends, and no longer."""
    now = owner.view.server().time
    client.hset(META, mapping={"fresh": now - 400_000, "window_from": now - 200_000, "window_until": now + 60_000})
    assert asked.say() == [SUPPRESSED, ALLOWED]
    client.hset(META, "window_until", now - 1)
    assert asked.say() == [SUPPRESSED, STALE]


# Servers that go away, come back, or are others than they were


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restarted_server_is_another_one(javascript: JavaScript, own_redis: MakeRedis, how: str) -> None:
    """A server that is away is UNKNOWN at once, and one that is back is not believed until it is vouched for."""
    server = own_redis(settings={"appendfsync": "always"})
    with connect(server.url) as client, both(javascript, server.url) as asked:
        owner = set_up(client)
        assert asked.say() == [SUPPRESSED, ALLOWED]
        getattr(server, how)()
        with within(TIMEOUT + 1):
            assert asked.say() == [UNREACHABLE] * 2
        server.start()
        assert client.exists(SET)
        assert asked.say() == [OTHER_SERVER] * 2
        owner.vouch()
        assert asked.say() == [SUPPRESSED, ALLOWED]


def test_a_hung_server_is_unknown_in_time(javascript: JavaScript, own_redis: MakeRedis) -> None:
    """A server that accepts and does not answer is UNKNOWN in time, on an old connection and on a new one."""
    server = own_redis()
    with connect(server.url) as client, both(javascript, server.url) as asked:
        set_up(client)
        assert asked.say() == [SUPPRESSED, ALLOWED]
        with paused(server.pid):
            for _ in range(2):
                with within(TIMEOUT + 0.5):
                    assert asked.example.check(HERE, FINE) == TIMED_OUT
        assert asked.say() == [SUPPRESSED, ALLOWED]


def test_a_server_that_refuses_us_is_unknown(javascript: JavaScript, own_redis: MakeRedis) -> None:
    """A wrong password, none, or a database that is not there is told apart from a server that is away."""
    server = own_redis()
    with connect(server.url) as client:
        set_up(client)
        with both(javascript, f"{server.url.removesuffix('/0')}/99") as elsewhere:
            assert elsewhere.say() == [REFUSED] * 2
        client.config_set("requirepass", "secret")
        for credentials in ("", ":wrong@", "nobody:secret@"):
            with both(javascript, server.url.replace("redis://", f"redis://{credentials}")) as stranger:
                assert stranger.say() == [REFUSED] * 2


def test_the_contract_s_user_is_enough(javascript: JavaScript, own_redis: MakeRedis) -> None:
    """The example needs no more than the user that the document makes for a reader, also where the script is new."""
    server = own_redis()
    with connect(server.url) as client:
        set_up(client)
        for line in block_with(CONTRACT, "redis").text.splitlines():
            client.execute_command(*shlex.split(line))
        client.script_flush()
        with both(javascript, server.url.replace("redis://", "redis://sender:a-password@")) as asked:
            assert asked.say() == [SUPPRESSED, ALLOWED]


# Lines that are crossed or cut


class Impostor:
    """Takes connections, and does one thing with each question: sends some bytes after some seconds, or hangs up."""

    def __init__(self, answer: bytes | None, after: float = 0) -> None:
        self._answer = answer
        self._after = after
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._socket.getsockname()[1]}/0"
        self.connections = 0
        self.words: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            with line:
                while (question := line.recv(65536)) and self._answer is not None:
                    self.words.append(question.split(b"\r\n")[2::2][5])  # EVALSHA_RO digest 2 meta set word number
                    time.sleep(self._after)
                    line.sendall(self._answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def test_another_question_s_answer_ends_the_connection(javascript: JavaScript) -> None:
    """An answer that says ALLOWED under another word is UNKNOWN, and the next question has a connection of its own."""
    fields = ("another", "r", "p", None, "r", "p", "1000")
    said = b"".join(f"${len(field)}\r\n{field}\r\n".encode() if field else b":1000\r\n" for field in fields)
    crossed = b"*11\r\n" + said + b"$-1\r\n$-1\r\n" + b"*1\r\n:0\r\n" + b"*0\r\n"
    with Impostor(crossed) as impostor, JavaScriptGuard(javascript, impostor.url) as example:
        for questions in (1, 2, 3):
            assert example.check(HERE, FINE) == unknown(Unknown.GARBLED)
            assert impostor.connections == questions
        assert len({*impostor.words}) == 3


def test_an_unanswered_question_ends_the_connection(javascript: JavaScript) -> None:
    """What was not answered in time is answered to nobody: the next question has a connection of its own."""
    with Impostor(b"") as impostor, JavaScriptGuard(javascript, impostor.url, optout_redis_timeout=0.2) as example:
        for questions in (1, 2, 3):
            assert example.check(HERE, FINE) == TIMED_OUT
            assert impostor.connections == questions


BUSY = """
import {{ Connection, scriptOf }} from {connection};
const asked = new Connection({url}, 300).ask(scriptOf(''), ['meta', 'set'], ['word', '1']);
setTimeout(() => {{ for (const end = performance.now() + 600; performance.now() < end; ); }}, 50);
console.log(await asked.then(() => 'an answer', (error) => error.constructor.name));
"""
"""A sender that is busy with something else while Redis answers."""


def test_an_answer_that_is_found_late_is_none(javascript: JavaScript) -> None:
    """A sender that finds an answer when its time is over, for it was busy, has none: a STOP may have come since."""
    with Impostor(b"+late\r\n", after=0.15) as impostor:
        connection = (javascript.folder / "connection.js").as_uri()
        code = BUSY.format(connection=json.dumps(connection), url=json.dumps(impostor.url))
        command = [javascript.node, "--input-type=module", "--eval", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert done.stdout == "TookTooLong\n", done.stderr


GIVEN_UP = """
import {{ Connection, scriptOf }} from {connection};
const connection = new Connection({url}, 5000);
const asked = connection.ask(scriptOf(''), ['meta', 'set'], ['word', '1']);
connection.close();
console.log(await asked);
connection.close();
"""
"""A sender whose time is over while it connects."""


def test_a_connection_that_is_given_up_while_it_is_made_does_not_stay(javascript: JavaScript) -> None:
    """A process comes to its end, and keeps no connection for each question that ran out of time before it was made."""
    with Impostor(b"+well\r\n") as impostor:
        connection = (javascript.folder / "connection.js").as_uri()
        code = GIVEN_UP.format(connection=json.dumps(connection), url=json.dumps(impostor.url))
        command = [javascript.node, "--input-type=module", "--eval", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert done.stdout == "well\n", done.stderr


def test_a_lost_connection_is_made_once_more(javascript: JavaScript) -> None:
    """A server that hangs up on every question is asked twice, and then it is UNKNOWN."""
    with Impostor(None) as impostor, JavaScriptGuard(javascript, impostor.url) as example:
        assert example.check(HERE, FINE) == UNREACHABLE
        assert impostor.connections == 2
