"""A question that somebody forgot to await is no answer: taken for one, it would be true for everybody."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

P = ParamSpec("P")
T = TypeVar("T")


class Question(Coroutine[Any, Any, T]):
    """A coroutine, for `await`, tasks and gather, that has no truth value before it has begun."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        """Wrap a coroutine that was not begun yet."""
        self._coroutine = coroutine

    def __bool__(self) -> bool:
        """Raise TypeError, unless it has begun, or asyncio asks, which shows a task so from Python 3.12 on."""
        begun = inspect.getcoroutinestate(self._coroutine) != inspect.CORO_CREATED
        if begun or sys._getframe(1).f_globals.get("__name__", "").startswith("asyncio."):  # noqa: SLF001
            return True
        raise TypeError("this is a question, and no answer yet: await it")

    def __getattr__(self, name: str) -> Any:
        """Return what tells of a coroutine: its name, its frame, what it waits for."""
        return getattr(self._coroutine, name)

    def __await__(self) -> Generator[Any, Any, T]:
        """Ask."""
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        """Go on, as the coroutine does."""
        return self._coroutine.send(value)

    def throw(self, *problem: Any) -> Any:
        """Raise within the coroutine."""
        return self._coroutine.throw(*problem)

    def close(self) -> None:
        """Ask no more."""
        self._coroutine.close()


_MARK = getattr(asyncio.coroutines, "_is_coroutine", None)
"""How asyncio marks a function whose answer is to be awaited, before Python 3.12."""


def awaited(ask: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Question[T]]:
    """Have a coroutine function return a Question. It still counts as a coroutine function."""

    @functools.wraps(ask)
    def asked(*arguments: P.args, **options: P.kwargs) -> Question[T]:
        return Question(ask(*arguments, **options))

    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(asked)
    asked._is_coroutine = _MARK  # type: ignore[attr-defined]  # noqa: SLF001
    return asked


def is_awaited(function: Any) -> bool:
    """Return whether what a function returns is to be awaited."""
    marked = sys.version_info < (3, 12) and getattr(function, "_is_coroutine", None) is _MARK
    return marked or inspect.iscoroutinefunction(function)
