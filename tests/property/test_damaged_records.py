"""Whatever stands in a record, reading it ends in a record, or in one exception that every reader knows."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, cast

import pytest

from consumer import letter
from consumer.changes import Changes
from consumer.domain.bucket import Waiting
from consumer.domain.events import InboundMessage, KeywordRecord, OptOutRequested
from consumer.domain.keywords import Keywords
from consumer.intake import Intake, Topics
from consumer.kafka.inbox import Partition
from consumer.ledger import Ledger, StoppedBucket
from consumer.wire.codec import Codec, Unreadable
from consumer.wire.framing import header
from consumer.wire.records import KINDS
from consumer.wire.schemas import Schemas, parse, schemas_directory
from tests.parts.damage import Damage, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumer.kafka.inbox import Message
    from consumer.wire.schemas import Parsed

SEED = int(os.environ.get("OPTOUT_TEST_SEED", "13"))
MUTATIONS = 100_000
CONSUMED = 5_000
NEWER_ID = 77
TOPICS = Topics(ledger="ledger", reviews="reviews", dead_letters="dead", requests="requests")


class Newer(Schemas):
    """The files, and under NEWER_ID a version of one record that has more fields, and so is resolved."""

    def __init__(self, kind: type[Any]) -> None:
        super().__init__()
        schema = json.loads(self.text(kind.__name__))
        schema["fields"] = [
            {"name": "newer_flags", "type": {"type": "map", "values": ["null", "double", "boolean"]}},
            *schema["fields"],
            {"name": "newer_digest", "type": ["null", {"type": "fixed", "name": "Digest", "size": 16}]},
            {"name": "newer_parts", "type": {"type": "array", "items": ["null", "bytes"]}},
        ]
        self.newer = schema
        self._parsed = parse(json.dumps(schema))

    def by_id(self, schema_id: int) -> Parsed:
        return self._parsed if schema_id == NEWER_ID else super().by_id(schema_id)

    def values(self, kind: type[Any]) -> list[list[bytes]]:
        """Return the pieces of the examples, as today's schema writes them and as the newer one does."""
        text = (schemas_directory() / "examples" / f"{kind.__name__}.json").read_text("utf-8")
        today, now = header(self.writer(kind.__name__).id), json.loads(self.text(kind.__name__))
        more: dict[str, Any] = {"newer_flags": {}, "newer_digest": None, "newer_parts": []}
        found = []
        for datum in json.loads(text):
            found.append([today, *pieces(now, datum)])
            found.append([header(NEWER_ID), *pieces(self.newer, datum | more)])
        return found


def damaged(kind: type[Any], count: int) -> Iterator[tuple[Codec, bytes]]:
    """Give so many damaged values of a kind, and a codec that knows both of its schemas."""
    source, damage = Newer(kind), Damage(SEED)
    codec, values = Codec(source), source.values(kind)
    for value in values:
        codec.decode(kind, b"".join(value))
    for number in range(count):
        yield codec, damage.of(values[number % len(values)])


def test_whatever_the_bytes_are() -> None:
    """100,000 damaged records of every kind, in today's schema and in a newer one, are records or Unreadable."""
    read = 0
    for kind in KINDS:
        for codec, value in damaged(kind, MUTATIONS // len(KINDS)):
            try:
                codec.decode(kind, value)
                read += 1
            except Unreadable:
                pass
            except BaseException as error:  # noqa: BLE001 - that there is none is what this is about
                pytest.fail(f"seed {SEED}, {kind.__name__} {value.hex()}: {error!r}")
    assert read > MUTATIONS / 100, "the damage leaves nothing to be read"


class Record:
    """What the client hands out: this value, and headers that may be anything."""

    def __init__(self, topic: str, value: bytes, headers: letter.Headers) -> None:
        self._said = {"topic": topic, "partition": 0, "offset": 7, "key": b"k", "value": value, "headers": headers}

    def __getattr__(self, name: str) -> Any:
        return lambda: (1, 1_790_000_000_000) if name == "timestamp" else self._said[name]


@pytest.mark.parametrize("kind", [InboundMessage, OptOutRequested])
def test_whatever_comes_in(kind: type[Any]) -> None:
    """A damaged text or request, with damaged headers of ours, becomes something that can be written down and read."""
    for codec, value in damaged(kind, CONSUMED):
        intake = Intake(codec=codec, keywords=Keywords(), topics=TOPICS, buckets=4, region="US")
        headers: letter.Headers = [(name, value[5:30]) for name in sorted(letter.OURS)]
        message = cast("Message", Record("requests" if kind is OptOutRequested else "inbound", value, headers))
        for outgoing in intake.records(message):
            if outgoing.topic == "dead":
                letter.read(cast("Message", Record("dead", value, list(outgoing.headers))))


def test_whatever_stands_in_the_ledger() -> None:
    """A damaged ledger record stops its bucket in words, or has an entry whose change can be told."""
    told = 0
    for codec, value in damaged(KeywordRecord, CONSUMED):
        ledger = Ledger("ledger", "id", 1, "group", lambda given, codec=codec: codec.decode(KeywordRecord, given))  # type: ignore[misc]
        changes = Changes(ledger, codec, changed="changed", confirmations="confirmations")
        try:
            entry = ledger.entry(value, 0, 7, None)
        except StoppedBucket:
            continue
        told += bool(changes.records(Partition("ledger", 0), Waiting(7, 1, entry.raw)))
    assert told > CONSUMED / 100, "the damage leaves nothing to be told"
