"""openapi.json: made of the same operations that answer and of the same models that read and write."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from pydantic.json_schema import models_json_schema

from consumer.serve.problems import PROBLEM, RETRY_AFTER_S
from consumer.serve.words import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from consumer.serve.operations import Operation

REFERENCE = "#/components/schemas/{model}"
ABOUT = (
    "May this location text this patient? Only the verdict ALLOWED may send, and of a single question only ALLOWED is "
    "answered with a success: 403 is SUPPRESSED, 503 UNKNOWN. Numbers stand in bodies and never in a URL."
)
SAID = {
    200: "The answer.",
    400: "The body is not JSON, or JSON that can be read in two ways.",
    401: "The token is not shown.",
    403: "SUPPRESSED: the patient has opted out.",
    408: "The body took too long to arrive.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    421: "It is called by a name that is not the machine's own.",
    422: "The body does not ask what can be asked.",
    500: "A fault in the server.",
    503: "It cannot be known now, or too many ask: ask again.",
}
_OF_BODIES = (400, 408, 413, 415, 422)


def document(operations: Sequence[Operation], *, token: bool) -> dict[str, Any]:
    """Return the OpenAPI document of these operations."""
    schemas = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, token=token)
    components: dict[str, Any] = {"schemas": schemas}
    if token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "sms-optout", "version": version("sms-optout"), "description": ABOUT},
        "paths": paths,
        "components": components,
    }


def _schemas(operations: Sequence[Operation]) -> dict[str, Any]:
    read: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        (operation.body, "validation") for operation in operations if operation.body
    ]
    written: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        (model, "serialization")
        for operation in operations
        for model in (*operation.answers.values(), Problem)
        if not isinstance(model, str)
    ]
    _, defined = models_json_schema([*read, *dict.fromkeys(written)], ref_template=REFERENCE)
    schemas: dict[str, Any] = defined["$defs"]
    return schemas


def _operation(operation: Operation, *, token: bool) -> dict[str, Any]:
    refusals = {500, 503} if operation.open else {500, 503, 401 if token else 421}
    if operation.body:
        refusals.update(_OF_BODIES)
    statuses = sorted(refusals | operation.answers.keys())
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": operation.path.strip("/").replace("/", "_").replace(".", "_"),
        "responses": {str(status): _response(status, operation, refusals) for status in statuses},
    }
    if operation.body:
        described["requestBody"] = {"required": True, "content": {"application/json": _refers_to(operation.body)}}
    if token and not operation.open:
        described["security"] = [{"token": []}]
    return described


def _response(status: int, operation: Operation, refusals: set[int]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    answer = operation.answers.get(status)
    if isinstance(answer, str):
        content[answer] = {}
    elif answer is not None:
        content["application/json"] = _refers_to(answer)
    if status in refusals:
        content[PROBLEM] = _refers_to(Problem)
    headers = {"Cache-Control": _header("no-store")}
    if status == 503 and operation.path != "/readyz":  # noqa: PLR2004 - as HTTP names it
        headers["Retry-After"] = _header(str(RETRY_AFTER_S))
    if status == 401:  # noqa: PLR2004 - as HTTP names it
        headers["WWW-Authenticate"] = _header("Bearer")
    return {"description": SAID[status], "headers": headers, "content": content}


def _refers_to(model: type[BaseModel]) -> dict[str, Any]:
    return {"schema": {"$ref": REFERENCE.format(model=model.__name__)}}


def _header(value: str) -> dict[str, Any]:
    return {"required": True, "schema": {"type": "string", "enum": [value]}}
