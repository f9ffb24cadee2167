"""openapi.json against the real process: whatever is sent, the answer is one that the document tells of, and true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks

from consumer.domain.phone import to_e164
from consumer.guard import VerdictKind
from consumer.serve.words import LONGEST_CATCH_UP_S
from tests.parts.redis import flush
from tests.parts.serving import Serving
from tests.parts.view import BUCKETS, FINE, HERE, NEXT_DOOR, STOPPED, THERE, connect, set_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypothesis.strategies import DataObject

TOKEN = "a-token-of-24-characters"
SHOWN = {"Authorization": f"Bearer {TOKEN}"}
OUT = {(HERE, STOPPED), (NEXT_DOOR, "+12025550145"), (THERE, "+12025550146")}
LOCATIONS = (HERE, NEXT_DOOR, THERE, f" {HERE}", "", "\ud800", "\u8a3a")
NUMBERS = (STOPPED, "(202) 555-0143", "+12025550145", "12025550146", FINE, "+442079460000", "555", "\udfff", "")
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
HELD = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.ignored_auth,
    checks.unsupported_method,
]
"""Not that all the document allows is accepted: that a text is a number or a location no schema can say."""


@pytest.fixture(scope="module", params=[None, TOKEN], ids=["loopback", "token"])
def serving(
    request: pytest.FixtureRequest, redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    token: dict[str, str] = {"OPTOUT_SERVE_TOKEN": request.param} if request.param else {}
    log = tmp_path_factory.mktemp("serve") / "log"
    with Serving(redis_server, log, {"OPTOUT_BUCKETS": str(BUCKETS), **token}) as process:
        yield process
        assert {line["event"] for line in process.log()} <= {"answering", "verdicts are UNKNOWN: unvouched"}


def operations(serving: Serving) -> dict[str, Any]:
    """Return what the process says of itself: an operation for each path."""
    described = serving.ask("/openapi.json", headers=SHOWN).json
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=f"http://127.0.0.1:{serving.port}")
    return {path: schema[path][method] for path, item in described["paths"].items() for method in item}


def fuzz(serving: Serving, path: str, examples: int) -> list[tuple[tuple[str, str], str]]:
    """Send what the document allows and what it does not; return which question was given which verdict."""
    operation = operations(serving)[path]
    given_: list[tuple[tuple[str, str], str]] = []

    @settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.one_of([operation.as_strategy(generation_mode=mode) for mode in MODES]), st.data())
    def send(case: Any, data: DataObject) -> None:
        questions = _made_real(case.body, data)
        answer = case.call(headers=SHOWN)
        case.validate_response(answer, checks=HELD, headers=SHOWN)
        assert answer.status_code != 500
        assert FINE[-7:] not in answer.text
        if path.startswith("/v1") and answer.headers["content-type"] == ["application/json"]:
            said = answer.json()
            assert (answer.status_code == 200) is ("verdicts" in said or said["verdict"] == VerdictKind.ALLOWED)
            given_.extend(zip(questions, (one["verdict"] for one in said.get("verdicts", [said])), strict=True))

    send()
    return given_


def _made_real(body: Any, data: DataObject) -> list[tuple[str, str]]:
    """Put locations and numbers that mean something in place of random texts, and return the questions."""
    if not isinstance(body, dict):
        return []
    questions = body.get("questions", [body])
    found: list[dict[str, Any]] = (
        [one for one in questions if isinstance(one, dict)] if isinstance(questions, list) else []
    )
    for one in found:
        for name, some in (("location_id", LOCATIONS), ("number", NUMBERS)):
            if isinstance(one.get(name), str):
                one[name] = data.draw(st.sampled_from(some))
    waits: Any = body.get("catch_up")
    if type(waits) in (int, float) and 0 < waits <= LONGEST_CATCH_UP_S:
        body["catch_up"] = 0.01  # what would be refused stays so, and the rest takes no time
    return [(one.get("location_id", ""), one.get("number", "")) for one in found]


@pytest.mark.parametrize("path", ["/v1/verdict", "/v1/verdicts"])
def test_verdicts_are_as_described_and_true(serving: Serving, redis_url: str, path: str) -> None:
    """Whatever is asked, the answer is as described; ALLOWED is nobody who is out, nor anybody unvouched."""
    with connect(redis_url) as client:
        owner = set_up(client)
        owner.vouch()
    verdicts = fuzz(serving, path, 100)
    kinds = {kind for _, kind in verdicts}
    assert kinds >= {"ALLOWED", "SUPPRESSED"}
    assert not {(place, to_e164(number)) for (place, number), kind in verdicts if kind == "ALLOWED"} & OUT
    assert {(place, to_e164(number)) for (place, number), kind in verdicts if kind == "SUPPRESSED"} <= OUT
    flush(redis_url)
    assert "ALLOWED" not in {kind for _, kind in fuzz(serving, path, 40)}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/openapi.json"])
def test_the_rest_is_as_described(serving: Serving, redis_url: str, path: str) -> None:
    """What is asked without a body is answered as the document says."""
    fuzz(serving, path, 10)


def test_the_document_is_one(serving: Serving) -> None:
    """The document is valid OpenAPI, and tells of every path."""
    described = operations(serving)
    assert set(described) == {"/v1/verdict", "/v1/verdicts", "/livez", "/readyz", "/metrics", "/openapi.json"}
    next(iter(described.values())).schema.validate()
