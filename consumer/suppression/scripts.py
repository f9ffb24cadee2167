"""Runs the Lua scripts of this folder, several calls a round trip; one exception says that Redis cannot answer."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from redis.exceptions import (
    AskError,
    AuthenticationError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from consumer.domain.losses import Loss
from consumer.nodes import WrongMode, ask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.nodes import Nodes


REFUSED = "Redis refuses our user or password: see OPTOUT_REDIS_URL"
NO_DATABASE = "Redis has no database of that number: see OPTOUT_REDIS_URL"
MOVING = "the slot is moving to another server of the cluster"


class ViewUnavailable(Exception):
    """Redis cannot answer now: away, loading, read-only, out of memory, refusing our user. Ask again later.

    `loss` names the state that it is in, where that has a name.
    """

    def __init__(self, sentence: str, loss: Loss | None = None) -> None:
        super().__init__(sentence)
        self.loss = loss


class ViewAway(ViewUnavailable):
    """Redis does not answer, or not as it would if it were well. The text names the kind of error, and no more."""


class ViewRefused(ViewUnavailable):
    """Redis answers, and refuses our user or password, or is of another kind: asking again will not help."""


class ViewMisaddressed(ViewRefused):
    """Redis is a cluster and we are set up for one server, or the other way round: nothing is to be done by halves."""


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


def run(nodes: Nodes, calls: Sequence[Call]) -> list[Any]:
    """Run the calls, in one round trip a server, and return their answers in order.

    A damaged key's answer is a ViewDamaged value; that of a call that could not be made a ViewUnavailable value, as
    long as another one could: Raises ViewUnavailable if none could. A script that the server has forgotten (restart,
    SCRIPT FLUSH) is loaded and run again.
    """
    commands = [
        (call.keys[0], ("EVALSHA", call.script.digest, len(call.keys), *call.keys, *call.arguments)) for call in calls
    ]
    answers = ask(nodes, commands)
    forgotten = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if forgotten:
        loaded = ask(nodes, [(calls[i].keys[0], ("SCRIPT LOAD", calls[i].script.source)) for i in forgotten])
        again = ask(nodes, [commands[i] for i in forgotten])
        for i, load, answer in zip(forgotten, loaded, again, strict=True):
            answers[i] = load if isinstance(load, Exception) else answer
    return unless_all_failed([_checked(answer) for answer in answers])


def unless_all_failed(answers: list[Any]) -> list[Any]:
    """Return the answers. Raises ViewUnavailable where not one of them is an answer, or one is ViewMisaddressed."""
    for answer in answers:
        if isinstance(answer, ViewMisaddressed):
            raise answer
    if answers and all(isinstance(answer, ViewUnavailable) for answer in answers):
        raise answers[0]
    return answers


def _checked(answer: Any) -> Any:
    if isinstance(answer, ResponseError) and "WRONGTYPE" in str(answer):
        return ViewDamaged("a key of this bucket holds another type than ours")
    return unavailable(answer) if isinstance(answer, Exception) else answer


_SAID: tuple[tuple[type[Exception], ViewUnavailable], ...] = (
    # A cluster's would have been asked for where it is.
    (MovedError, ViewMisaddressed("this Redis is a node of a cluster: set OPTOUT_REDIS_MODE to cluster")),
    (AskError, ViewUnavailable(MOVING)),
    (TryAgainError, ViewUnavailable(MOVING)),
    (AuthenticationError, ViewRefused(REFUSED)),
    (NoPermissionError, ViewRefused(REFUSED)),
    (ReadOnlyError, ViewUnavailable("ReadOnlyError", Loss.READ_ONLY)),
    (OutOfMemoryError, ViewUnavailable("OutOfMemoryError", Loss.OUT_OF_MEMORY)),
)


def unavailable(error: Exception) -> ViewUnavailable:
    """Return what is to be said of an error: its kind, and Redis's own word for it. The rest could quote a URL."""
    if isinstance(error, WrongMode):
        return ViewMisaddressed(str(error))
    for kind, said in _SAID:
        if isinstance(error, kind):
            return type(said)(str(said), said.loss)
    word = str(error).partition(" ")[0] if isinstance(error, ResponseError) else ""
    word = word if word.isupper() else ""  # of some codes redis-py leaves only the sentence
    if word in ("NOAUTH", "WRONGPASS", "NOPERM"):
        return ViewRefused(REFUSED)
    if word == "DB":
        return ViewRefused(NO_DATABASE)
    return ViewAway(f"{type(error).__name__} {word}".strip())
