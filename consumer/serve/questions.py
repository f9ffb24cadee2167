"""A body, read with suspicion: bounded in size and time, JSON that says one thing only, and what was asked for."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from consumer.serve.problems import CLOSE, Refused
from consumer.serve.words import Question

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request

BODY_WITHIN_S = 10.0
MOST_READ = 8 * 1024 * 1024
"""Bytes of a body that is too large which are read, and forgotten."""
Body = TypeVar("Body", bound=BaseModel)


async def question(request: Request, model: type[Body], most_bytes: int) -> Body:
    """Return what was asked. Raises Refused, with a sentence that quotes nothing of it."""
    if request.url.query:  # where a number would get into logs, and a wish be left out in silence
        raise Refused(422, "a question has no query: what is asked stands in the body")
    _check_type(request)
    return _understood(_parsed(await _bytes(request, most_bytes)), model)


def _check_type(request: Request) -> None:
    """Refuse all but plain JSON. A page in a browser may send other types to any address without having been asked."""
    kind, *parameters = (part.strip().lower() for part in ",".join(request.headers.getlist("content-type")).split(";"))
    charsets = {part.removeprefix("charset=").strip('"') for part in parameters if part.startswith("charset=")}
    if kind != "application/json" or not charsets <= {"utf-8"}:
        raise Refused(415, "send application/json in UTF-8, and name it in Content-Type")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refused(415, "send the body as it is, without a Content-Encoding")


async def _bytes(request: Request, most: int) -> bytes:
    too_large = f"the body is larger than {most:,} bytes: ask in several requests"
    if "expect" in request.headers and int(request.headers.get("content-length", "0")) > most:
        raise Refused(413, too_large, headers=CLOSE)  # it has not been sent yet
    body, length = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for chunk in request.stream():
                length += len(chunk)
                if length > MOST_READ:
                    raise Refused(413, too_large, headers=CLOSE)
                # What is too much is read all the same: who is still sending would not see the answer.
                body = body + chunk if length <= most else bytearray()
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {BODY_WITHIN_S:.0f} seconds", headers=CLOSE) from None
    except ClientDisconnect:
        raise Refused(400, "the connection was closed before the body was whole", headers=CLOSE) from None
    if length > most:
        raise Refused(413, too_large)
    return bytes(body)


class _Ambiguous(ValueError):
    """JSON that others could read otherwise."""


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _Ambiguous("an object names a field twice")
    return fields


def _no_constant(_: str) -> NoReturn:
    raise _Ambiguous("NaN and Infinity are not JSON")


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except _Ambiguous as why:
        raise Refused(400, str(why)) from None
    except UnicodeDecodeError:
        raise Refused(400, "the body is not UTF-8") from None
    except RecursionError:
        raise Refused(400, "the body is nested too deeply") from None
    except ValueError:  # a number of too many digits, too
        raise Refused(400, "the body is not JSON") from None


def _understood(parsed: object, model: type[Body]) -> Body:
    try:
        return model.model_validate(parsed)
    except ValidationError as problem:
        faults = problem.errors(include_url=False, include_context=True, include_input=False)
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise Refused(422, _sentence(faults[0], model) + more) from None


_SAID = {
    "missing": "is missing",
    "string_type": "must be a text",
    "string_unicode": "holds half a character",
    "bool_type": "must be true or false",
    "float_type": "must be a number",
    "finite_number": "must be a number",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "too_long": "holds more than {max_length:,} entries: ask in several requests",
}


def _sentence(fault: Mapping[str, Any], model: type[BaseModel]) -> str:
    """Say what is wrong and where. The name of a field that is not known is not quoted: it can be a number."""
    place = list(fault["loc"])
    if fault["type"] == "extra_forbidden":
        place.pop()
        known = ", ".join((Question if place else model).model_fields)
        return f"{_written(place) or 'the body'} has a field that is not known: there are {known}"
    said = _SAID.get(fault["type"], "is not what /openapi.json describes").format(**fault.get("ctx", {}))
    return f"{_written(place) or 'the body'} {said}"


def _written(place: Sequence[object]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
