"""Why a request has no answer: problem+json (RFC 9457), in one sentence that quotes nothing of what was sent."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import Response

from consumer.serve.words import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBLEM = "application/problem+json"
RETRY_AFTER_S = 2
"""Seconds after which asking again is worth it: in so many a Redis that was restarted is usually vouched for."""
CLOSE = {"Connection": "close"}
"""For a refusal that leaves a body unread: what is left of it shall not be taken for the next request, nor be read."""


class Refused(Exception):
    """A request that is not answered. The sentence quotes nothing of it."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def problem(refused: Refused) -> Response:
    """Return the response that says so."""
    headers = refused.headers
    if refused.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers = {"Retry-After": str(RETRY_AFTER_S), **headers}
    said = Problem(title=HTTPStatus(refused.status).phrase, status=refused.status, detail=refused.detail)
    return Response(said.model_dump_json(), refused.status, headers, PROBLEM)


def failed() -> Refused:
    """Return what is said where something went wrong that nobody foresaw."""
    return Refused(500, "this should not happen; the log of `optout serve` says where it did", headers=CLOSE)
