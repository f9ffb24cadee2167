"""What can be asked: each operation with its handler, and with all that it can answer."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from consumer.domain.buckets import is_location
from consumer.domain.phone import NotANumber, to_e164
from consumer.guard import Unknown, Verdict, VerdictKind
from consumer.serve.problems import RETRY_AFTER_S, Refused
from consumer.serve.questions import question
from consumer.serve.words import (
    Allowed,
    Answer,
    Entries,
    Entry,
    Invalid,
    Live,
    ManyQuestions,
    NotKnown,
    Ready,
    SingleQuestion,
    Suppressed,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pydantic import BaseModel
    from starlette.requests import Request

    from consumer.guard import AsyncGuard
    from consumer.ops.complaints import Complaints
    from consumer.serve.metrics import Metrics
    from consumer.serve.readiness import Readiness

Told = TypeVar("Told", bound=Answer)
ANSWER_WITHIN_S = 10.0
"""Seconds, after what `catch_up` waits, in which all of an answer is there. What is not known by then is UNKNOWN."""
SINGLE_BYTES = 16 * 1024
MANY_BYTES = 1024 * 1024
"""What the largest question takes with room to spare: a location of 256 characters in the longest writing of each."""
_STATUS: dict[VerdictKind, tuple[int, type[Answer]]] = {
    VerdictKind.ALLOWED: (200, Allowed),
    # No success: whoever takes any 2xx for a yes must not send, and no client asks again by itself after a 403.
    VerdictKind.SUPPRESSED: (403, Suppressed),
    VerdictKind.UNKNOWN: (503, NotKnown),
}


class Operation(NamedTuple):
    """What can be asked: where, of whom, with which body, and what is answered under which status."""

    method: str
    path: str
    handler: Callable[[Request], Awaitable[Response]]
    summary: str
    answers: dict[int, type[BaseModel] | str]
    """The model of the body, or its media type where it is none of ours."""
    body: type[BaseModel] | None = None
    open: bool = False
    """Whether it is answered without a token."""


class Handlers:
    """Answers what is asked, through a guard."""

    def __init__(
        self, guard: AsyncGuard, region: str, readiness: Readiness, metrics: Metrics, complaints: Complaints
    ) -> None:
        self._guard = guard
        self._region = region
        self._readiness = readiness
        self._metrics = metrics
        self._complaints = complaints

    def operations(self) -> list[Operation]:
        """Return all that can be asked but the document of it."""
        return [
            Operation(
                "POST",
                "/v1/verdict",
                self.verdict,
                "May this location text this patient now?",
                dict(_STATUS.values()),
                SingleQuestion,
            ),
            Operation(
                "POST",
                "/v1/verdicts",
                self.verdicts,
                "The same for up to 1,000 questions at once: a verdict for each, in their order.",
                {200: Entries},
                ManyQuestions,
            ),
            Operation("GET", "/livez", self.livez, "Does the process answer?", {200: Live}, open=True),
            Operation("GET", "/readyz", self.readyz, "Can Redis be asked?", {200: Ready, 503: Ready}, open=True),
            Operation("GET", "/metrics", self.metrics, "Metrics for Prometheus.", {200: "text/plain"}),
        ]

    async def verdict(self, request: Request) -> Response:
        """Answer one question, under a status that is a success for ALLOWED alone."""
        asked = await question(request, SingleQuestion, SINGLE_BYTES)
        if not _is_place(asked.location_id):
            raise Refused(422, "location_id must not be blank, nor longer than 256 characters, nor hold half of one")
        try:
            to_e164(asked.number, self._region)
        except NotANumber as problem:  # whose sentence quotes nothing
            raise Refused(422, f"number is not a phone number: {problem}") from None
        (verdict,) = await self._asked([(asked.location_id, asked.number)], why=asked.why, catch_up=asked.catch_up)
        status, model = _STATUS[verdict.kind]
        answer = _told(verdict, model)
        self._note([answer])
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        return _json(answer, status, headers)

    async def verdicts(self, request: Request) -> Response:
        """Answer many questions. One that names no number hides no other: its entry says so."""
        asked = await question(request, ManyQuestions, MANY_BYTES)
        pairs = [(one.location_id, one.number) for one in asked.questions]
        wrong = self._wrong(pairs)
        sound = [pair for pair, fault in zip(pairs, wrong, strict=True) if fault is None]
        verdicts = iter(await self._asked(sound, why=asked.why, catch_up=asked.catch_up))
        entries = [
            _told(next(verdicts), Entry) if fault is None else Entry(verdict="INVALID", reason=fault) for fault in wrong
        ]
        self._note(entries)
        return _json(Entries(verdicts=entries))

    def _note(self, answers: Sequence[Answer]) -> None:
        """Count answers, and log why some are UNKNOWN, but where it is what somebody wanted to wait for."""
        self._metrics.count(answers)
        for reason in {answer.reason for answer in answers if answer.verdict == VerdictKind.UNKNOWN} - {Unknown.BEHIND}:
            self._complaints.say(f"verdicts are UNKNOWN: {reason}")

    def _wrong(self, pairs: Sequence[tuple[str, str]]) -> list[Invalid | None]:
        """Return for each question why it is none."""
        return [_fault(location_id, number, self._region) for location_id, number in pairs]

    async def _asked(
        self, pairs: Sequence[tuple[str, str]], *, why: bool = False, catch_up: float | None = None
    ) -> Sequence[Verdict]:
        """Return a verdict for each, in time."""
        try:
            async with asyncio.timeout((catch_up or 0.0) + ANSWER_WITHIN_S):
                if len(pairs) == 1:
                    return [await self._guard.check(*pairs[0], why=why, catch_up=catch_up)]
                return await self._guard.check_each(pairs, why=why, catch_up=catch_up)
        except TimeoutError:
            return [Verdict(VerdictKind.UNKNOWN, Unknown.TIMEOUT)] * len(pairs)

    async def livez(self, _: Request) -> Response:
        """Say that the process answers."""
        return _json(Live())

    async def readyz(self, _: Request) -> Response:
        """Say whether Redis can be asked."""
        ready = await self._readiness.now()
        return _json(ready, 200 if ready.ready else 503)

    async def metrics(self, _: Request) -> Response:
        """Show the metrics."""
        return Response(generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _fault(location_id: str, number: str, region: str) -> Invalid | None:
    if not _is_place(location_id):
        return Invalid.NO_LOCATION
    try:
        to_e164(number, region)
    except NotANumber:
        return Invalid.NO_NUMBER
    return None


def _is_place(location_id: str) -> bool:
    """Whether this can be a location id. None holds half a character (a lone surrogate): that cannot be UTF-8."""
    return is_location(location_id) and not any("\ud800" <= character <= "\udfff" for character in location_id)


def _told(verdict: Verdict, model: type[Told]) -> Told:
    return model(
        verdict=verdict.kind.value,
        reason=verdict.reason,
        at=verdict.at,
        fresh=verdict.fresh,
        age=verdict.age,
        in_maintenance=verdict.in_maintenance,
        since=verdict.since,
        keyword=verdict.keyword,
    )


def _json(body: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body.model_dump_json(), status, headers, "application/json")
