"""docs/CONTRACT.md is enough: a reader that is written from it alone asks our Redis as our own guard does."""

from __future__ import annotations

import json
import shlex
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from consumer.domain.bucket import Entry
from consumer.domain.buckets import bucket_of, bucket_prefix, meta_key
from consumer.domain.events import Action
from consumer.guard import Guard
from consumer.suppression.answers import Batch
from consumer.suppression.view import View
from consumer.wire.schemas import schemas_directory
from tests.docs.documents import block_with
from tests.docs.world import BUCKETS, WHO_STOPPED, saved

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.every_server

CONTRACT = "docs/CONTRACT.md"
HERE = "loc-1"
FINE = "+12025550144"
META = meta_key(bucket_prefix(bucket_of(HERE, BUCKETS), BUCKETS))
NOWHERE = "redis://127.0.0.1:1/0"
VECTORS = json.loads((schemas_directory() / "vectors" / "verdicts.json").read_text("utf-8"))["vectors"]


class Asked:
    """A Redis that is asked twice each time: by the reader of the document, and by our own guard."""

    def __init__(self, url: str, reader: dict[str, Any]) -> None:
        self.owner = redis.Redis.from_url(url)
        self.view = View(self.owner, buckets=BUCKETS, ledger="topic-id/appliers")
        for line in block_with(CONTRACT, "redis").text.splitlines():
            self.owner.execute_command(*shlex.split(line))  # type: ignore[no-untyped-call]
        self._url = url.replace("redis://", "redis://sender:a-password@")
        self._verdict = reader["verdict"]
        self.client: redis.Redis = reader["connect"](self._url)

    def begin(self) -> None:
        """Have the bucket applied up to a STOP, and vouched for by nobody."""
        bucket = bucket_of(HERE, BUCKETS)
        self.view.begin(bucket)
        entry = Entry(0, HERE, WHO_STOPPED[1:], Action.OPT_OUT, 0, "STOP")
        self.view.apply([Batch(bucket, 0, 1, [entry])])

    def vouch(self) -> None:
        """Vouch for the bucket, now."""
        server, bucket = self.view.server(), bucket_of(HERE, BUCKETS)
        meta = self.view.metas([bucket])[bucket]
        assert meta is not None
        self.view.vouch(server, server.time, {bucket: (meta.epoch, 1)})

    def mark(self, **fields: object) -> None:
        """Write another marker."""
        for field, value in fields.items():
            self.owner.hset(META, field, str(value))

    def now(self) -> int:
        """Return Redis's time in ms."""
        return self.view.server().time

    def says(self, **options: Any) -> tuple[str, str]:
        """Return the verdicts for who stopped and for somebody else, in which document and guard agree."""
        guard = Guard.from_url(self._url, **options)
        said: list[str] = [self._verdict(self.client, HERE, number, **options) for number in (WHO_STOPPED, FINE)]
        assert said == [str(verdict.kind) for verdict in guard.check_many(HERE, [WHO_STOPPED, FINE])]
        return said[0], said[1]


@pytest.fixture
def asked(redis_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A vouched bucket, and a reader that can do what the document allows it and no more."""
    code = block_with(CONTRACT, "python", "def verdict").text
    asked = Asked(redis_url, saved(folder, code, monkeypatch))
    asked.begin()
    asked.vouch()
    return asked


def test_the_reader_reads_as_the_vectors_say(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The document's reader holds the vectors that it sends others to, those of one number."""
    reader = saved(folder, block_with(CONTRACT, "python", "def verdict").text, monkeypatch)
    for vector in (vector for vector in VECTORS if vector["count"] == 1):
        question = in_bytes(vector["answer"]), vector["word"], vector["max_staleness"]
        if vector.get("close"):
            with pytest.raises(reader["Garbled"]):
                reader["meaning"](*question)
        else:
            assert [reader["meaning"](*question)] == vector["verdicts"], vector["why"]


def in_bytes(value: Any) -> Any:
    """Return an answer as a client gives it that does not decode."""
    if isinstance(value, list):
        return [in_bytes(part) for part in value]
    return value.encode() if isinstance(value, str) else value


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_answer_is_the_same_in_both_protocols(asked: Asked, redis_url: str, protocol: int) -> None:
    """RESP2 and RESP3 give the answer that the document describes, to its types, with a marker and without one."""
    script = block_with(CONTRACT, "lua").text
    with redis.Redis.from_url(redis_url, protocol=protocol) as client:
        keys = META, f"{META[:-4]}set:{HERE}"
        said: Any = client.eval_ro(script, 2, *keys, "41", WHO_STOPPED[1:], FINE[1:])
        assert [type(part) for part in said] == [bytes] * 3 + [int] + [bytes] * 3 + [type(None)] * 2 + [list] * 2
        assert (said[0], said[9:]) == (b"41", [[1, 0], []])
        assert [type(member) for member in said[9]] == [int, int]
        asked.owner.flushdb()
        said = client.eval_ro(script, 2, *keys, "42", FINE[1:])
        assert said[4:] == [None] * 5 + [[0], []]


def test_a_vouched_bucket_answers(asked: Asked) -> None:
    """Who stopped is SUPPRESSED and nobody else is, also on a server that has forgotten the script."""
    assert asked.says() == ("SUPPRESSED", "ALLOWED")
    asked.owner.script_flush()
    assert asked.says() == ("SUPPRESSED", "ALLOWED")


@pytest.mark.parametrize(
    "number",
    ["2025550143", "(202) 555-0143", "+1 202 555 0143", " +12025550143", "+", "", "+10000000000", "+120255501430"],
)
def test_what_is_no_number_is_not_allowed(asked: Asked, number: str) -> None:
    """A number that is not written in E.164 is in no set, so it is refused instead of being allowed."""
    with pytest.raises(ValueError, match=r"no number in E\.164"):
        asked._verdict(asked.client, HERE, number)


def test_a_number_has_the_members_of_the_vectors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a number in E.164 the document's reader looks for the members that the vectors name, both spellings."""
    reader = saved(folder, block_with(CONTRACT, "python", "def verdict").text, monkeypatch)
    vectors = json.loads((schemas_directory() / "vectors" / "numbers.json").read_text("utf-8"))["vectors"]
    asked = [vector for vector in vectors if vector["text"] == vector["number"] or len(vector["members"]) > 1]
    asked = [vector for vector in asked if vector["text"].removeprefix("+").isdecimal()]
    assert len({vector["number"] for vector in asked}) > 10
    for vector in asked:
        assert sorted(reader["members_of"](vector["text"])) == sorted(vector["members"])


def test_nobody_vouches(asked: Asked) -> None:
    """Without a marker nothing is known, in a bucket that is there, in one that is not, and with other buckets."""
    assert asked.says(buckets=BUCKETS * 2) == ("UNKNOWN", "UNKNOWN")
    for field in ("run", "replication", "fresh"):
        asked.owner.hdel(META, field)
        assert asked.says() == ("UNKNOWN", "UNKNOWN")
        asked.vouch()
    asked.owner.flushdb()
    assert asked.says() == ("UNKNOWN", "UNKNOWN")
    asked.begin()
    assert asked.says() == ("UNKNOWN", "UNKNOWN")


@pytest.mark.parametrize("field", ["run", "replication"])
def test_another_server_s_marker(asked: Asked, field: str) -> None:
    """A marker that names another server says nothing, not even of members."""
    asked.mark(**{field: "0" * 40})
    assert asked.says() == ("UNKNOWN", "UNKNOWN")


def test_age(asked: Asked) -> None:
    """What is too old, or lies ahead, is UNKNOWN, but for members; a reader says how old is too old."""
    asked.mark(fresh=asked.now() - 200_000)
    assert asked.says() == ("SUPPRESSED", "ALLOWED")
    assert asked.says(max_staleness=100) == ("SUPPRESSED", "UNKNOWN")
    asked.mark(fresh=asked.now() + 60_000)
    assert asked.says() == ("SUPPRESSED", "UNKNOWN")


def test_a_maintenance_window(asked: Asked) -> None:
    """What was new enough when a window began is enough until it ends; who opted out stays so, and nothing else is."""
    now = asked.now()
    asked.mark(fresh=now - 400_000, window_from=now - 200_000, window_until=now + 60_000)
    assert asked.says() == ("SUPPRESSED", "ALLOWED")
    assert asked.says(max_staleness=100) == ("SUPPRESSED", "UNKNOWN")
    asked.mark(fresh=now - 600_000)
    assert asked.says() == ("SUPPRESSED", "UNKNOWN")
    asked.mark(fresh=now - 400_000, window_until=now - 1)
    assert asked.says() == ("SUPPRESSED", "UNKNOWN")
    asked.mark(window_from=now + 60_000, window_until=now + 120_000)
    assert asked.says() == ("SUPPRESSED", "UNKNOWN")
    asked.mark(fresh=now + 60_000, window_from=now - 1000)
    assert asked.says() == ("SUPPRESSED", "UNKNOWN")
    for begin, end in ((0, 10**15), (now - 200_000, now + 5 * 3_600_000), ("then", "now"), ("", "")):
        asked.mark(fresh=now - 400_000, window_from=begin, window_until=end)
        assert asked.says() == ("SUPPRESSED", "UNKNOWN")
    for fresh in ("soon", "", "1e999"):
        asked.mark(fresh=fresh)
        assert asked.says() == ("UNKNOWN", "UNKNOWN")
    asked.mark(fresh=now - 400_000, run="0" * 40)
    assert asked.says() == ("UNKNOWN", "UNKNOWN")


def test_errors_are_unknown(asked: Asked, redis_url: str) -> None:
    """A Redis that is away, or that refuses us, answers UNKNOWN."""
    reader = asked.client
    asked.client = redis.Redis.from_url(NOWHERE)
    assert asked._verdict(asked.client, HERE, FINE) == "UNKNOWN"
    asked.client = redis.Redis.from_url(redis_url.replace("redis://", "redis://sender:wrong@"))
    assert asked._verdict(asked.client, HERE, FINE) == "UNKNOWN"
    asked.client = reader
    asked.owner.delete(META)
    asked.owner.set(META, "another system's")
    assert asked.says() == ("UNKNOWN", "UNKNOWN")


def test_a_silent_redis_is_given_up_soon(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that takes connections and answers nothing is UNKNOWN after one deadline, not after several."""
    reader = saved(folder, block_with(CONTRACT, "python", "def verdict").text, monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        assert (
            reader["verdict"](reader["connect"](f"redis://127.0.0.1:{silent.getsockname()[1]}/0"), HERE, FINE)
            == "UNKNOWN"
        )
        assert time.monotonic() - began < 2.5


@pytest.mark.parametrize(
    "command",
    [
        ("SADD", f"{META[:-4]}set:{HERE}", "1"),
        ("SMEMBERS", f"{META[:-4]}set:{HERE}"),
        ("HGETALL", META),
        ("SMISMEMBER", f"{META[:-4]}state:{HERE}", "1"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("FLUSHALL",),
    ],
    ids=lambda command: command[0],
)
def test_a_reader_can_do_no_more(asked: Asked, command: tuple[str, ...]) -> None:
    """The user that the document gives a reader can neither write, list, nor read what is not promised."""
    with pytest.raises(redis.exceptions.NoPermissionError):
        asked.client.execute_command(*command)  # type: ignore[no-untyped-call]
