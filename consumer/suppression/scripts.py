"""Runs the Lua scripts of this folder, several calls a round trip; one exception says that Redis cannot answer."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from redis.exceptions import AuthenticationError, NoPermissionError, NoScriptError, RedisError, ResponseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis


class ViewUnavailable(Exception):
    """Redis cannot answer now: away, loading, read-only, out of memory, refusing our user. Ask again later."""


class ViewRefused(ViewUnavailable):
    """Redis answers, and refuses our user or password: asking again will not help."""


class ViewDamaged(Exception):
    """A key of ours holds something that we did not write (WRONGTYPE): the bucket is to be begun anew."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the SHA-1 digest by which Redis calls it."""

    name: str
    source: str
    digest: str


def script(name: str) -> Script:
    """Return the script `name`.lua of this package."""
    source = files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
    return Script(name, source, sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a script: its keys, all of one slot, and its arguments."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[str | bytes | int]


def run(client: redis.Redis, calls: Sequence[Call]) -> list[Any]:
    """Run the calls in one round trip and return their answers in order.

    A damaged key's answer is a ViewDamaged value; that of a call that could not be made a ViewUnavailable value, as
    long as another one could: Raises ViewUnavailable if none could. A script that the server has forgotten (restart,
    SCRIPT FLUSH) is loaded and run again.
    """
    answers = _pipelined(client, calls)
    forgotten = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if forgotten:
        missing = {calls[i].script.digest: calls[i].script for i in forgotten}
        with unavailable_if_redis_fails():
            for lost in missing.values():
                client.script_load(lost.source)
        for i, answer in zip(forgotten, _pipelined(client, [calls[i] for i in forgotten]), strict=True):
            answers[i] = answer
    return unless_all_failed([_checked(answer) for answer in answers])


def unless_all_failed(answers: list[Any]) -> list[Any]:
    """Return the answers. Raises ViewUnavailable where not one of them is an answer."""
    if answers and all(isinstance(answer, ViewUnavailable) for answer in answers):
        raise answers[0]
    return answers


def _pipelined(client: redis.Redis, calls: Sequence[Call]) -> list[Any]:
    with unavailable_if_redis_fails(), client.pipeline(transaction=False) as pipeline:
        for call in calls:
            pipeline.evalsha(call.script.digest, len(call.keys), *call.keys, *call.arguments)
        return pipeline.execute(raise_on_error=False)


def _checked(answer: Any) -> Any:
    if isinstance(answer, ResponseError) and "WRONGTYPE" in str(answer):
        return ViewDamaged("a key of this bucket holds another type than ours")
    return unavailable(answer) if isinstance(answer, Exception) else answer


def unavailable(error: Exception) -> ViewUnavailable:
    """Return what is to be said of an error: its kind, and Redis's own word for it. The rest could quote a URL."""
    if isinstance(error, AuthenticationError | NoPermissionError):
        return ViewRefused("Redis refuses our user or password")
    word = str(error).partition(" ")[0] if isinstance(error, ResponseError) else ""
    if word in ("NOAUTH", "WRONGPASS", "NOPERM"):
        return ViewRefused("Redis refuses our user or password")
    return ViewUnavailable(f"{type(error).__name__} {word}".strip())


class unavailable_if_redis_fails:  # noqa: N801 - a context manager reads as a verb
    """Turn whatever redis-py raises inside into ViewUnavailable."""

    def __enter__(self) -> None:
        """Enter the guarded block."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Translate the error, if it is Redis's or the network's."""
        if isinstance(error, RedisError | OSError):
            raise unavailable(error) from None
