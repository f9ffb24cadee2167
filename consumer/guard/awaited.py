"""A question that somebody forgot to await is no answer: taken for one, it would be true for everybody."""

from __future__ import annotations

import functools
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

P = ParamSpec("P")
T = TypeVar("T")


class Question(Coroutine[Any, Any, T]):
    """A coroutine, for `await`, tasks and gather, that has no truth value."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        """Wrap a coroutine that was not begun yet."""
        self._coroutine = coroutine

    def __bool__(self) -> bool:
        """Raise TypeError."""
        raise TypeError("this is a question, and no answer yet: await it")

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


def awaited(ask: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Question[T]]:
    """Have a coroutine function return a Question."""

    @functools.wraps(ask)
    def asked(*arguments: P.args, **options: P.kwargs) -> Question[T]:
        return Question(ask(*arguments, **options))

    return asked
