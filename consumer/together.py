"""Calls that wait for somebody far away, made beside each other: what takes a second each takes one for all."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def beside(call: Callable[[], T]) -> Future[T]:
    """Make a call in a thread of its own, which nobody has to wait for, also when the process ends.

    It is named like the one that asks for it: whose work it does. Where no thread can be started the call is made here.
    """
    made: Future[T] = Future()

    def run() -> None:
        try:
            made.set_result(call())
        except BaseException as problem:  # noqa: BLE001 - it is raised where the answer is asked for
            made.set_exception(problem)

    try:
        threading.Thread(target=run, name=threading.current_thread().name, daemon=True).start()
    except RuntimeError:  # the machine allows no further thread: slower, but no reason to end
        run()
    return made


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Make these calls at the same time; return their answers in order, or raise what the first that failed raised."""
    others = [beside(call) for call in calls[1:]]
    made: Future[Any] = Future()
    try:
        made.set_result(calls[0]())
    except BaseException as problem:  # noqa: BLE001 - the others are waited for first
        made.set_exception(problem)
    answers = [made, *others]
    for answer in answers:
        answer.exception()
    return [answer.result() for answer in answers]
