"""What an answer of Redis means: the vectors that readers in every language are held against, and our own guard is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consumer.guard.answer import Garbled, Rules, taken_apart
from consumer.wire.schemas import schemas_directory

VECTORS: list[dict[str, Any]] = json.loads((schemas_directory() / "vectors" / "verdicts.json").read_text("utf-8"))[
    "vectors"
]
WHOLE = [vector for vector in VECTORS if not vector.get("close")]
GARBLED = [vector for vector in VECTORS if vector.get("close")]


def in_bytes(value: Any) -> Any:
    """Return an answer as a client gives it that does not decode."""
    if isinstance(value, list):
        return [in_bytes(part) for part in value]
    return value.encode() if isinstance(value, str) else value


@pytest.mark.parametrize("raw", [False, True], ids=["texts", "bytes"])
@pytest.mark.parametrize("vector", WHOLE, ids=lambda vector: vector["why"])
def test_verdicts(vector: dict[str, Any], raw: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Each answer means what the vectors say, be it decoded or not."""
    said = in_bytes(vector["answer"]) if raw else vector["answer"]
    rules, answer = Rules(vector["max_staleness"]), taken_apart(said, vector["word"], vector["count"])
    assert [verdict.kind for verdict in rules.verdicts(answer, rules.standing(answer))] == vector["verdicts"]


@pytest.mark.parametrize("raw", [False, True], ids=["texts", "bytes"])
@pytest.mark.parametrize("vector", GARBLED, ids=lambda vector: vector["why"])
def test_garbled(vector: dict[str, Any], raw: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """What is no answer to the question is none, and nobody is allowed on it."""
    assert set(vector["verdicts"]) == {"UNKNOWN"}
    with pytest.raises(Garbled):
        taken_apart(in_bytes(vector["answer"]) if raw else vector["answer"], vector["word"], vector["count"])


def test_vectors_are_whole() -> None:
    """The vectors show each verdict, each says why, and no two are one."""
    assert {kind for vector in VECTORS for kind in vector["verdicts"]} == {"ALLOWED", "SUPPRESSED", "UNKNOWN"}
    assert all(len(vector["verdicts"]) == vector["count"] for vector in VECTORS)
    assert len({vector["why"] for vector in VECTORS}) == len(VECTORS)
