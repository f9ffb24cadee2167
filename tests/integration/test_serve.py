"""The guard over HTTP, as a process of its own on a real Redis: what it answers, and whom it refuses."""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import redis

from consumer.domain.events import Action
from consumer.embedded import running
from consumer.serve.operations import MANY_BYTES, SINGLE_BYTES
from consumer.serve.questions import MOST_READ
from consumer.wire.schemas import schemas_directory
from tests.docs.documents import block_with
from tests.parts.serving import COMMAND, Serving, environment
from tests.parts.system import wait_for
from tests.parts.view import BUCKETS, FINE, HERE, STOPPED, THERE, connect, set_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.redis import MakeRedis
    from tests.parts.view import Owner

TOKEN = "a-token-of-24-characters"
SINGLE, MANY = "/v1/verdict", "/v1/verdicts"
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def process(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A process on the Redis that tests share."""
    with Serving(redis_server, tmp_path_factory.mktemp("serve") / "log", {"OPTOUT_BUCKETS": str(BUCKETS)}) as serving:
        yield serving


@pytest.fixture
def serving(redis_url: str, process: Serving) -> Serving:
    """The same, on an empty database."""
    return process


@pytest.fixture(scope="module")
def guarded(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A process that asks for a token."""
    settings = {"OPTOUT_BUCKETS": str(BUCKETS), "OPTOUT_SERVE_TOKEN": TOKEN}
    with Serving(redis_server, tmp_path_factory.mktemp("serve") / "log", settings) as serving:
        yield serving


@pytest.fixture
def owner(redis_url: str) -> Iterator[Owner]:
    with connect(redis_url) as client:
        yield set_up(client)


def asked(number: str, location_id: str = HERE, **more: object) -> dict[str, object]:
    return {"location_id": location_id, "number": number, **more}


def many(*numbers: str, **more: object) -> dict[str, object]:
    return {"questions": [asked(number) for number in numbers], **more}


def sentence(serving: Serving, path: str, body: object, status: int, **options: Any) -> str:
    """Ask what is refused; return why, after asserting that it is said as it should be."""
    answer = serving.ask(path, body, **options)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == PROBLEM
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json["status"] == status
    said: str = answer.json["detail"]
    assert "\n" not in said
    return said


# Verdicts


def test_only_allowed_is_a_success(serving: Serving, owner: Owner, redis_url: str) -> None:
    """ALLOWED is 200, SUPPRESSED 403 and UNKNOWN 503: whoever looks at the status alone sends to nobody wrongly."""
    allowed = serving.ask(SINGLE, asked(FINE))
    assert (allowed.status, allowed.json["verdict"], allowed.json["reason"]) == (200, "ALLOWED", None)
    suppressed = serving.ask(SINGLE, asked("(202) 555-0143"))
    assert (suppressed.status, suppressed.json["verdict"]) == (403, "SUPPRESSED")
    with connect(redis_url) as client:
        client.flushdb()
    unknown = serving.ask(SINGLE, asked(FINE))
    assert (unknown.status, unknown.json["verdict"], unknown.json["reason"]) == (503, "UNKNOWN", "unvouched")
    assert int(unknown.headers["retry-after"]) > 0
    for answer in (allowed, suppressed, unknown):
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"


def test_a_verdict_carries_what_it_stands_on(serving: Serving, owner: Owner) -> None:
    """An answer says when it was given and how old it is, since when and by which word where asked, and no number."""
    plain = serving.ask(SINGLE, asked(STOPPED)).json
    assert plain["age"] == (plain["at"] - plain["fresh"]) / 1000
    assert (plain["since"], plain["keyword"]) == (None, None)
    why = serving.ask(SINGLE, asked(STOPPED, why=True))
    assert (why.json["since"], why.json["keyword"]) == (0, Action.OPT_OUT)
    assert STOPPED[-4:] not in why.body.decode().replace(str(why.json["at"]), "").replace(str(why.json["fresh"]), "")


def test_many_are_answered_in_order(serving: Serving, owner: Owner) -> None:
    """Each question of many has its verdict in its place, of whichever location; who is no number hides nobody."""
    questions = [
        asked(STOPPED),
        asked("garbage"),
        asked(FINE),
        asked(STOPPED, THERE),
        asked("", THERE),
        asked(FINE, "  "),
        asked(FINE, "\ud800"),
        asked("+12025550146", THERE),
        asked("\udfff"),
    ]
    answer = serving.ask(MANY, {"questions": questions, "why": True})
    assert answer.status == 200
    assert [(entry["verdict"], entry["reason"]) for entry in answer.json["verdicts"]] == [
        ("SUPPRESSED", None),
        ("INVALID", "not a number"),
        ("ALLOWED", None),
        ("ALLOWED", None),
        ("INVALID", "not a number"),
        ("INVALID", "not a location"),
        ("INVALID", "not a location"),
        ("SUPPRESSED", None),
        ("INVALID", "not a number"),
    ]
    assert serving.ask(MANY, {"questions": []}).json == {"verdicts": []}


def test_a_thousand_are_answered_and_no_more(serving: Serving, owner: Owner) -> None:
    """1,000 questions are one request, of different locations and in the longest writing, and 1,001 are refused."""
    numbers = [f"+1202555{number:04}" for number in range(1000)]
    owner.write(Action.OPT_OUT, HERE, *numbers[::7])
    verdicts = [entry["verdict"] for entry in serving.ask(MANY, many(*numbers)).json["verdicts"]]
    gone = {STOPPED, *numbers[::7]}
    assert verdicts == ["SUPPRESSED" if number in gone else "ALLOWED" for number in numbers]
    widest = {"questions": [asked(FINE, "\u8a3a" * 250 + f"{n:06}") for n in range(1000)]}
    answer = serving.ask(MANY, json.dumps(widest, ensure_ascii=False).encode())
    assert {entry["verdict"] for entry in answer.json["verdicts"]} == {"ALLOWED"}
    assert "1,000 entries" in sentence(serving, MANY, many(*numbers, FINE), 422)


def test_what_is_unknown_is_an_entry(serving: Serving, redis_url: str) -> None:
    """Where nothing is vouched for, each of many is UNKNOWN with its reason, and none is ALLOWED."""
    answer = serving.ask(MANY, many(STOPPED, FINE))
    assert answer.status == 200
    assert [(e["verdict"], e["reason"]) for e in answer.json["verdicts"]] == [("UNKNOWN", "unvouched")] * 2


def test_catching_up_is_waited_for(serving: Serving, owner: Owner) -> None:
    """With catch_up nobody is ALLOWED by a view that has not caught up since the question; who is out is."""
    behind = serving.ask(SINGLE, asked(FINE, catch_up=0.2))
    assert (behind.status, behind.json["reason"]) == (503, "behind")
    assert serving.ask(SINGLE, asked(STOPPED, catch_up=0)).status == 403
    assert [e["reason"] for e in serving.ask(MANY, many(FINE, catch_up=0)).json["verdicts"]] == ["behind"]


def test_a_redis_that_is_away(own_redis: MakeRedis, tmp_path: Path) -> None:
    """While Redis is away answers are 503, and it is not ready but alive; when Redis is back it is as before."""
    server = own_redis()
    settings = {"OPTOUT_BUCKETS": str(BUCKETS), "OPTOUT_REDIS_TIMEOUT": "0.5"}
    with connect(server.url) as client, Serving(server.url, tmp_path / "log", settings) as serving:
        set_up(client)
        assert serving.ask(SINGLE, asked(FINE)).status == 200
        ready = serving.ask("/readyz")
        assert (ready.status, ready.json["buckets"]) == (200, {"vouched": BUCKETS})
        server.stop()
        away = serving.ask(SINGLE, asked(FINE))
        assert (away.status, away.json["reason"]) == (503, "unreachable")
        wait_for("not ready", lambda: serving.ask("/readyz").status == 503)
        unready = serving.ask("/readyz").json
        assert (unready["ready"], unready["parts"]) == (False, {"redis": ["it cannot be reached"]})
        assert serving.ask("/livez").status == 200
        assert [line["event"] for line in serving.log()] == ["answering", "verdicts are UNKNOWN: unreachable"]


def test_a_redis_that_nobody_vouches_for_is_no_reason_not_to_be_ready(serving: Serving) -> None:
    """Whoever can be answered UNKNOWN is answered: a view that is not vouched for takes nobody out of service."""
    wait_for("seen", lambda: serving.ask("/readyz").json["buckets"] == {"unvouched": BUCKETS})
    assert serving.ask("/readyz").status == 200


def test_the_example_of_the_readme(serving: Serving, owner: Owner) -> None:
    """What README.md sends with curl is answered with what it shows, field by field."""
    block = block_with("README.md", "console", "/v1/verdict").text
    command, body, status = block.splitlines()[1:]
    sent = shlex.split(command.removeprefix("$ "))
    assert sent[-1] == "http://127.0.0.1:9465/v1/verdict"
    assert sent[sent.index("-w") + 1] == "%{http_code}\\n"
    answer = serving.ask(SINGLE, sent[sent.index("--json") + 1].encode())
    assert answer.status == int(status)
    shown = json.loads(body)
    assert list(answer.json) == list(shown)
    assert {name: type(value) for name, value in answer.json.items()} == {name: type(shown[name]) for name in shown}
    assert shown["age"] == (shown["at"] - shown["fresh"]) / 1000
    assert shown["verdict"] == answer.json["verdict"]


# What is refused


def test_numbers_are_read_as_the_vectors_say(serving: Serving, owner: Owner) -> None:
    """A number is the one that the published vectors say, or is refused in words, alone and among others."""
    file = schemas_directory() / "vectors" / "numbers.json"
    vectors = [one for one in json.loads(file.read_text("utf-8"))["vectors"] if one["region"] == "US"]
    owner.write(Action.OPT_OUT, HERE, *{f"+{vector['members'][-1]}" for vector in vectors if vector["number"]})
    expected = [("SUPPRESSED", None) if vector["number"] else ("INVALID", "not a number") for vector in vectors]
    answer = serving.ask(MANY, many(*[vector["text"] for vector in vectors]))
    assert [(entry["verdict"], entry["reason"]) for entry in answer.json["verdicts"]] == expected
    for text, why in (
        ("1202555O145", "letters"),
        ("+12025550143;ext=12", "extension"),
        ("0000000000", "not a possible"),
    ):
        assert why in sentence(serving, SINGLE, asked(text), 422)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b'{"location_id": "loc-1", "number": "+12025550144"} x', 400, "not JSON"),
        (b'{"location_id": "loc-1", "number": "+12025550144", "number": "+12025550143"}', 400, "twice"),
        (b'{"location_id": "loc-1", "number": "+12025550144", "catch_up": NaN}', 400, "NaN"),
        (b'{"location_id": "loc-1", "number": "+12025550144", "catch_up": ' + b"9" * 5000 + b"}", 400, "not JSON"),
        (b"[" * 10_000, 400, "nested"),
        ('{"location_id": "loc-1", "number": "+12025550144"}'.encode("utf-16"), 400, "UTF-8"),
        (b'\xff{"location_id": "loc-1"}', 400, "UTF-8"),
        (b"null", 422, "the body must be an object"),
        (b"[]", 422, "the body must be an object"),
        (asked(FINE, locationid="loc-2"), 422, "not known: there are location_id, number, why, catch_up"),
        ({**asked(FINE), FINE: 1}, 422, "not known"),
        ({"number": FINE}, 422, "location_id is missing"),
        ({}, 422, "(and 1 more)"),
        ({"location_id": HERE, "number": 12025550144}, 422, "number must be a text"),
        (asked("555-0144"), 422, "not a phone number"),
        (asked("\ud800"), 422, "not a phone number"),
        (asked(FINE, ""), 422, "location_id must not be blank"),
        (asked(FINE, "\ud800"), 422, "location_id must not"),
        (asked(FINE, "x" * 257), 422, "location_id must not"),
        (asked(FINE, why="yes"), 422, "why must be true or false"),
        (asked(FINE, catch_up="5"), 422, "catch_up must be a number"),
        (asked(FINE, catch_up=True), 422, "catch_up must be a number"),
        (asked(FINE, catch_up=-1), 422, "catch_up must be at least 0"),
        (asked(FINE, catch_up=30.5), 422, "catch_up must be at most 30"),
        (asked(FINE, catch_up=10**400), 422, "catch_up must be a number"),
    ],
    ids=lambda value: None if isinstance(value, int) else str(value)[:40],
)
def test_what_is_no_question(serving: Serving, owner: Owner, body: object, status: int, said: str) -> None:
    """What is no question is refused in one sentence, which never quotes what was sent."""
    detail = sentence(serving, SINGLE, body, status)
    assert said in detail
    assert FINE[-4:] not in detail


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"questions": [asked(FINE), {"location_id": HERE}]}, "questions[1].number is missing"),
        (
            {"questions": [asked(FINE, why=True)]},
            "questions[0] has a field that is not known: there are location_id, n",
        ),
        ({"questions": "loc-1"}, "questions must be a list"),
        ({"questions": [FINE]}, "questions[0] must be an object"),
        ({"question": []}, "questions is missing"),
    ],
    ids=str,
)
def test_what_is_not_many_questions(serving: Serving, body: object, said: str) -> None:
    """A list that is not one of questions is refused as a whole, and the first place that is wrong is named."""
    detail = sentence(serving, MANY, body, 422)
    assert said in detail
    assert FINE[-4:] not in detail


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": ""},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/json, text/plain"},
        {"Content-Encoding": "gzip"},
    ],
    ids=str,
)
def test_another_type(serving: Serving, headers: dict[str, str]) -> None:
    """What is not plain JSON is refused: a page in a browser can send other types without asking first."""
    sentence(serving, SINGLE, asked(FINE), 415, headers=headers)


@pytest.mark.parametrize(("path", "most"), [(SINGLE, SINGLE_BYTES), (MANY, MANY_BYTES)])
def test_a_body_that_is_too_large(serving: Serving, path: str, most: int) -> None:
    """A body that is too large is refused, whether it says how large it is or not, and is not read without end."""
    assert f"{most:,} bytes" in sentence(serving, path, b" " * (most + 1), 413)
    assert sentence(serving, path, b" " * most, 400)
    with serving.connect() as connection:
        connection.sendall(_head(path, "Transfer-Encoding: chunked"))
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 16 * MOST_READ:
                connection.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")
                sent += 4096
        assert sent < 16 * MOST_READ


def _head(path: str, *fields: str) -> bytes:
    return "\r\n".join(
        [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *fields, "", ""]
    ).encode()


def test_what_is_not_there(serving: Serving) -> None:
    """Another path is 404, another method 405 and what they are is said; nothing leads anywhere else."""
    for path in ("/", "/v1/verdict/", "/v1", "/docs", "//v1/verdict", "/v1/verdict%00"):
        sentence(serving, path, asked(FINE), 404)
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        sentence(serving, SINGLE, None, 405, method=method)
    assert serving.ask(SINGLE).headers["allow"] == "POST"


# Who may ask


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "10.0.0.1:9465", "127.0.0.1.evil.example", ""]
)
@pytest.mark.parametrize("path", [SINGLE, "/metrics", "/openapi.json"])
def test_another_name_than_the_machines(serving: Serving, host: str, path: str) -> None:
    """Without a token only who calls it by a name of the machine is answered: a rebound name of a web page is none."""
    sentence(serving, path, asked(FINE) if path == SINGLE else None, 421, headers={"Host": host})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9465", "127.0.0.1", "[::1]:9465", "127.0.0.2:1"])
def test_the_machines_own_names(serving: Serving, owner: Owner, host: str) -> None:
    """A name or address of the machine itself is one, whatever the port: it may have been mapped."""
    assert serving.ask(SINGLE, asked(FINE), headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "shown",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN} {TOKEN}",
        "Bearer \xe9" + TOKEN,
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [SINGLE, MANY, "/metrics", "/openapi.json", "/nowhere"])
def test_without_the_token(guarded: Serving, path: str, shown: str | None) -> None:
    """Where a token is set nobody without it learns anything, on this machine neither."""
    headers = {} if shown is None else {"Authorization": shown}
    answer = guarded.ask(path, None if path.startswith(("/m", "/o")) else asked(FINE), headers=headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN.encode() not in answer.body


def test_with_the_token(guarded: Serving, owner: Owner) -> None:
    """Who shows the token is answered, under whatever name; probes need none."""
    shown = {"Authorization": f"bearer {TOKEN}", "Host": "guard.example"}
    assert guarded.ask(SINGLE, asked(FINE), headers=shown).status == 200
    assert guarded.ask("/metrics", headers=shown).status == 200
    assert guarded.ask("/livez").status == 200
    assert guarded.ask("/readyz").status == 200


def refused(redis_url: str, **settings: str) -> tuple[int, str]:
    """Start one that cannot begin; return its exit code and what it says, which is one sentence."""
    done = subprocess.run(
        COMMAND, env=environment(redis_url, **settings), capture_output=True, text=True, timeout=60, check=False
    )
    (said,) = done.stderr.splitlines()
    assert said.startswith("optout: ")
    assert done.stdout == ""
    return done.returncode, said


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"])
def test_other_machines_need_a_token(redis_server: str, listen: str) -> None:
    """Where other machines could ask it does not begin without a token, and says what to set."""
    code, said = refused(redis_server, OPTOUT_SERVE_LISTEN=listen)
    assert code == 2
    assert "OPTOUT_SERVE_TOKEN is not set" in said


def test_a_token_that_can_be_guessed(redis_server: str) -> None:
    """A token that is too short is refused, and not shown."""
    code, said = refused(redis_server, OPTOUT_SERVE_TOKEN="hunter2")
    assert (code, "hunter2" in said, "at least 16" in said) == (2, False, True)


def test_an_address_that_cannot_be_had(redis_server: str) -> None:
    """An address that is taken, or none of this machine, ends it with exit code 1 and a sentence."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = refused(redis_server, OPTOUT_SERVE_LISTEN=f"127.0.0.1:{port}")
        assert (code, f"127.0.0.1:{port} cannot be listened on" in said) == (1, True)
    code, said = refused(redis_server, OPTOUT_SERVE_LISTEN="192.0.2.1:80", OPTOUT_SERVE_TOKEN=TOKEN)
    assert (code, "192.0.2.1:80 cannot be listened on" in said) == (1, True)
    code, said = refused(redis_server, OPTOUT_SERVE_LISTEN="no.such.host.invalid:80", OPTOUT_SERVE_TOKEN=TOKEN)
    assert (code, "there is no address no.such.host.invalid" in said) == (2, True)


def test_settings_of_redis_are_needed() -> None:
    """Without a Redis, or with a URL that is none, it does not begin, and says so."""
    assert refused("none")[0] == 2
    code, said = refused("http://somewhere")
    assert (code, "OPTOUT_REDIS_URL cannot be understood" in said) == (2, True)


def test_the_stack_that_dev_runs_is_asked_and_no_more(redis_server: str) -> None:
    """Where no Redis is set that of `optout dev` is asked; where it listens stays what the environment says."""
    with running.announced() as announce:
        announce({"OPTOUT_REDIS_URL": redis_server})
        done = subprocess.run(
            COMMAND,
            env=environment("none", OPTOUT_SERVE_LISTEN="0.0.0.0:0"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    asking, refusal = done.stderr.splitlines()
    assert asking.startswith("(asking the stack that `optout dev` runs here")
    assert "other machines can ask at 0.0.0.0" in refusal


# What is seen of it


def test_metrics_hold_no_patient(serving: Serving, owner: Owner) -> None:
    """Requests and verdicts are counted by route, status and reason; no label and no line of the log names anybody."""
    serving.ask(SINGLE, asked(STOPPED))
    serving.ask(MANY, many(FINE, "garbage"))
    serving.ask(f"/v1/verdict/{STOPPED}?number={STOPPED}")
    metrics = serving.ask("/metrics").body.decode()
    assert 'optout_serve_requests_total{route="/v1/verdict",status="403"}' in metrics
    assert 'optout_serve_requests_total{route="other",status="404"}' in metrics
    assert 'optout_serve_verdicts_total{reason="",verdict="SUPPRESSED"}' in metrics
    assert 'optout_serve_verdicts_total{reason="not a number",verdict="INVALID"}' in metrics
    for said in (metrics, json.dumps(serving.log())):
        assert STOPPED[1:] not in said
        assert HERE not in said


def test_a_key_of_another_kind_is_no_fault_of_ours(serving: Serving, owner: Owner, redis_url: str) -> None:
    """What somebody else writes into our keys makes UNKNOWN, not an error of the server's."""
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter("*"):
            client.delete(key)
            client.set(key, "garbage")
    assert serving.ask(SINGLE, asked(FINE)).status == 503
    assert serving.ask(MANY, many(FINE)).json["verdicts"][0]["verdict"] == "UNKNOWN"


def test_a_question_has_no_query(serving: Serving, owner: Owner) -> None:
    """A number in a URL would get into logs, and what else stands there would be left out in silence: it is refused."""
    said = sentence(serving, f"{SINGLE}?number={STOPPED}", asked(FINE), 422)
    assert "query" in said
    assert STOPPED not in said
