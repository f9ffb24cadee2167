"""The example sender in JavaScript: it sends what is ALLOWED, and says of each message what became of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.javascript_guard import environment
from tests.parts.view import BUCKETS, FINE, HERE, STOPPED, connect, set_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from tests.parts.javascript import JavaScript
    from tests.parts.view import Owner

END_S = 20
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def owner(client: redis.Redis) -> Owner:
    return set_up(client)


class Sender:
    """A sender that runs."""

    def __init__(self, javascript: JavaScript, url: str, hold_seconds: float = 60) -> None:
        settings = environment(url, optout_buckets=BUCKETS, hold_seconds=hold_seconds)
        pipe = subprocess.PIPE
        command = javascript.command("sender.js")
        self.process = subprocess.Popen(command, env=settings, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def take(self, *messages: object) -> None:
        """Give it messages, and go on."""
        assert self.process.stdin is not None
        for message in messages:
            self.process.stdin.write(f"{message if isinstance(message, str) else json.dumps(message)}\n")
        self.process.stdin.flush()

    def end(self) -> tuple[list[Any], dict[int, str], int]:
        """Return what was sent, what became of each line, and the exit code, when all that was given is done."""
        sent, told = self.process.communicate(timeout=END_S)
        outcomes = [json.loads(line) for line in told.splitlines()]
        assert STOPPED[-4:] not in told
        assert FINE[-4:] not in told
        became = {outcome["line"]: outcome["outcome"] for outcome in outcomes if "line" in outcome}
        return [json.loads(line) for line in sent.splitlines()], became, self.process.returncode


def message(number: str, text: str = "Your visit is tomorrow. Reply STOP to opt out.") -> dict[str, str]:
    return {"location_id": HERE, "number": number, "text": text}


def test_only_allowed_is_sent(javascript: JavaScript, redis_url: str, owner: Owner) -> None:
    """Of many messages those are sent, each once, whose patients did not opt out; each line's end is told."""
    sender = Sender(javascript, redis_url)
    numbers = [STOPPED if place % 3 else FINE for place in range(500)]
    sender.take(*(message(number, f"{place}") for place, number in enumerate(numbers)))
    sent, became, code = sender.end()
    assert sorted(int(of["text"]) for of in sent) == [place for place in range(500) if not place % 3]
    assert {of["number"] for of in sent} == {FINE}
    assert [became[line] for line in range(1, 501)] == [
        "suppressed" if line % 3 != 1 else "sent" for line in range(1, 501)
    ]
    assert code == 0


def test_what_cannot_be_asked_is_refused(javascript: JavaScript, redis_url: str, owner: Owner) -> None:
    """What is no message is not sent and not dropped in silence, and what follows it is done."""
    sender = Sender(javascript, redis_url)
    sender.take("no JSON", "null", message("2025550143"), {**message(FINE), "text": ""}, message(FINE))
    sent, became, code = sender.end()
    assert sent == [message(FINE)]
    assert became == {1: "refused", 2: "refused", 3: "refused", 4: "refused", 5: "sent"}
    assert code == 1


def test_unknown_is_held_and_asked_again(
    javascript: JavaScript, redis_url: str, client: redis.Redis, owner: Owner
) -> None:
    """What is UNKNOWN waits, and is sent once somebody vouches, unless the patient has opted out."""
    client.flushdb()
    sender = Sender(javascript, redis_url)
    sender.take(message(FINE), message(STOPPED))
    time.sleep(1)
    assert sender.process.poll() is None
    owner.catch_up()
    owner.vouch()
    sent, became, code = sender.end()
    assert sent == [message(FINE)]
    assert became == {1: "sent", 2: "suppressed"}
    assert code == 0


def test_what_stays_unknown_is_held_over(javascript: JavaScript) -> None:
    """A message that nobody can answer for is told as held over when its time is up, and not sent."""
    sender = Sender(javascript, NOWHERE, hold_seconds=1)
    sender.take(message(FINE), message(STOPPED))
    assert sender.end() == ([], {1: "held over", 2: "held over"}, 4)


def test_a_signal_ends_it_in_order(javascript: JavaScript) -> None:
    """A sender that is stopped tells what it still held, and its exit code says that something is left."""
    sender = Sender(javascript, NOWHERE)
    sender.take(message(FINE), "no JSON")
    assert sender.process.stderr is not None
    assert json.loads(sender.process.stderr.readline())["line"] == 2  # so it has taken the first one
    sender.process.send_signal(signal.SIGTERM)
    assert sender.end() == ([], {1: "held over"}, 4)


def test_a_gateway_that_is_gone_is_told(javascript: JavaScript, redis_url: str, owner: Owner) -> None:
    """A message that is ALLOWED and cannot be handed on is told as failed."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        javascript.command("sender.js"),
        env=environment(redis_url, optout_buckets=BUCKETS),
        input=json.dumps(message(FINE)),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=END_S,
        check=False,
    )
    os.close(writing)
    assert json.loads(done.stderr) == {"line": 1, "outcome": "failed", "reason": "EPIPE"}
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPTOUT_REDIS_URL", ""),
        ("OPTOUT_REDIS_URL", "http://localhost"),
        ("OPTOUT_REDIS_URL", "redis://localhost/abc"),
        ("OPTOUT_REDIS_URL", "redis://:a%ZZb@localhost/0"),
        ("OPTOUT_REDIS_URL", "redis://u:a%FFb@localhost/0"),
        ("OPTOUT_BUCKETS", "many"),
        ("OPTOUT_BUCKETS", "0"),
        ("OPTOUT_MAX_STALENESS", "none"),
        ("OPTOUT_REDIS_TIMEOUT", "-1"),
        ("HOLD_SECONDS", ""),
    ],
)
@pytest.mark.parametrize("file", ["sender.js", "check.js"])
def test_wrong_settings_get_a_sentence(javascript: JavaScript, file: str, variable: str, value: str) -> None:
    """What cannot be meant is said in one sentence, before anything is read."""
    done = subprocess.run(
        javascript.command(file),
        env={**environment(NOWHERE), variable: value},
        input="",
        capture_output=True,
        text=True,
        timeout=END_S,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.strip().endswith(".")
