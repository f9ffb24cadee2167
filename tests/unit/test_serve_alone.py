"""What sms-optout[serve] alone installs: the command `serve`, without Kafka or Avro."""

from __future__ import annotations

import subprocess
import sys

import pytest

from consumer.settings import ConfigurationError, load

WITHOUT = """
import sys
for name in {missing}:
    sys.modules[name] = None
from consumer.__main__ import main
main()
"""
OF_THE_WORKER = ["confluent_kafka", "fastavro", "yaml"]


def said(*arguments: str, missing: list[str]) -> tuple[int, str]:
    """Run a command where some packages are not installed; return its exit code and all that it says."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(missing=missing), *arguments],
        env={"OPTOUT_REDIS_URL": "redis://127.0.0.1:1/0", "OPTOUT_SERVE_LISTEN": "0.0.0.0:0", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_serve_needs_no_kafka() -> None:
    """Without the worker's packages `serve` runs, here up to its refusal to listen, and nothing else is there."""
    code, answer = said("serve", missing=OF_THE_WORKER)
    assert (code, "OPTOUT_SERVE_TOKEN is not set" in answer) == (2, True)
    code, answer = said("check", "loc-1", "+12025550144", missing=OF_THE_WORKER)
    assert code == 2
    assert "No such command 'check'" in answer
    assert "sms-optout[worker]" in said("--help", missing=OF_THE_WORKER)[1]


def test_the_worker_needs_no_http() -> None:
    """Without what HTTP needs all other commands are there, and `serve` says what to install."""
    code, answer = said("explain", "STOP", missing=["starlette"])
    assert (code, '"OPT_OUT"' in answer) == (0, True)
    code, answer = said("serve", missing=["starlette"])
    assert (code, answer) == (2, "optout: starlette is not installed: install sms-optout[serve]\n")


def test_the_guard_alone_has_no_command() -> None:
    """Without click there is a sentence that names both."""
    code, answer = said("serve", missing=[*OF_THE_WORKER, "click"])
    assert code == 2
    assert "install sms-optout[worker], or sms-optout[serve] for `optout serve` alone" in answer


@pytest.mark.parametrize(
    ("given", "meant"), [("", ("127.0.0.1", 9465)), ("none", ("127.0.0.1", 9465)), ("[::1]:80", ("::1", 80))]
)
def test_where_it_listens(given: str, meant: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but this machine can ask unless an address says so; what is set to nothing is not set."""
    monkeypatch.setenv("OPTOUT_SERVE_LISTEN", given)
    assert load().serve_listen == meant


@pytest.mark.parametrize("given", ["fifteen-letters", "sixteen letters!", "sixteen-l\xe9tters", "sixteen-letters\n"])
def test_tokens_that_are_none(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that can be guessed, or cannot be shown in a header, is refused without being quoted."""
    monkeypatch.setenv("OPTOUT_SERVE_TOKEN", given)
    with pytest.raises(ConfigurationError) as refusal:
        load()
    assert given not in str(refusal.value)


def test_an_empty_token_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that is set to nothing is not set, as compose files do: it opens no door."""
    monkeypatch.setenv("OPTOUT_SERVE_TOKEN", "")
    assert load().serve_token is None
