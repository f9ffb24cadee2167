"""The application: operations, their document and the door, put together."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from consumer.serve.document import document
from consumer.serve.door import Door
from consumer.serve.metrics import Metrics
from consumer.serve.operations import Handlers, Operation
from consumer.serve.problems import Refused, failed, problem
from consumer.serve.readiness import Readiness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from consumer.guard import AsyncGuard
    from consumer.ops.complaints import Complaints


def application(guard: AsyncGuard, *, buckets: int, region: str, token: str | None, complaints: Complaints) -> ASGIApp:
    """Return what answers questions through this guard, and closes it in the end.

    `buckets` and `region` are the guard's own. Without a token only who calls by a name of this machine is answered.
    """
    metrics = Metrics()
    operations = Handlers(guard, region, Readiness(guard.check_each, buckets), metrics, complaints).operations()

    async def described(_: Request) -> Response:
        return Response(text, media_type="application/json")

    operations.append(
        Operation("GET", "/openapi.json", described, "This document.", {200: "application/json"}),
    )
    text = json.dumps(document(operations, token=token is not None), ensure_ascii=False)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with guard:
            yield

    app = Starlette(
        routes=[Route(o.path, o.handler, methods=[o.method]) for o in operations],
        exception_handlers={HTTPException: _unroutable, Refused: _refused, Exception: _failed},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return Door(
        app,
        token=token,
        paths={operation.path for operation in operations},
        open_paths={operation.path for operation in operations if operation.open},
        metrics=metrics,
        complaints=complaints,
    )


async def _refused(_: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return problem(refused)


async def _failed(_: Request, __: Exception) -> Response:
    return problem(failed())  # and the door logs it


async def _unroutable(_: Request, why: Exception) -> Response:
    assert isinstance(why, HTTPException)
    known = why.status_code == HTTPStatus.METHOD_NOT_ALLOWED
    detail = f"there is no such {'method' if known else 'path'}: see /openapi.json"
    return problem(Refused(why.status_code, detail, headers=why.headers))
