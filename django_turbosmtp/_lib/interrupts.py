"""Exceptions raised by signal handlers, which belong to the caller.

``signal.alarm()``, the time limits of Celery and RQ, and other signal handlers raise
exceptions of any class in the main thread, between any two steps. A TimeoutError looks
like a lost connection, a ValueError like a wrong address. Mistaken for one of these, it
would be retried, swallowed, or recorded as the error of a message.
"""

from __future__ import annotations

import signal
import threading
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType

P = ParamSpec("P")
R = TypeVar("R")


class Interrupted(BaseException):
    """Carries a signal handler's exception past code that catches errors."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def runs_signal_handlers() -> bool:
    """Return whether this is the thread in which Python runs signal handlers."""
    return threading.current_thread() is threading.main_thread()


def raise_interrupt(error: BaseException) -> None:
    """Raise `Interrupted` if a signal handler raised ``error``, or one in its chain."""
    if not runs_signal_handlers():
        return
    codes = set(_list_handlers())
    raised = [found for found in walk_chain(error) if _was_raised_in(found, codes)]
    if raised:
        # The last exception of the chain is the signal handler's.
        raise Interrupted(raised[-1])


def raise_as_it_was(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function raise the exception that `Interrupted` carries."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Interrupted as interrupt:
            error = interrupt.error
        # Raised outside the handler, so that Python adds no context to it.
        raise error

    return run


def _was_raised_in(error: BaseException, codes: set[CodeType]) -> bool:
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in codes:
            return True
        traceback = traceback.tb_next
    return False


def walk_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and the errors it was raised from or that it wraps."""
    seen: set[int] = set()
    queue: list[Any] = [error]
    while queue:
        current = queue.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        queue += [*current.args, getattr(current, "reason", None)]
        queue += [current.__context__, current.__cause__]


def _list_handlers() -> Iterator[CodeType]:
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        handler = getattr(handler, "func", handler)  # of functools.partial()
        # A function, a method, or an object that can be called.
        own = vars(type(handler)).get("__call__")
        for function in (handler, own):
            if code := getattr(function, "__code__", None):
                yield code
