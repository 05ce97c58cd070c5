"""Exceptions that a signal handler raised: of nobody's work, and for the caller alone.

``signal.alarm()``, the time limits of Celery and RQ, and whatever else a site installs
raise in the main thread, between any two steps and of any class: a TimeoutError looks
like a lost connection, a ValueError like a wrong address. Taken for those, it would be
retried, swallowed, or told of a message that it has nothing to do with.
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
    """Carries what a signal handler raised past all that catches errors."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def runs_signal_handlers() -> bool:
    """Tell whether this thread is the one in which Python runs signal handlers."""
    return threading.current_thread() is threading.main_thread()


def raise_interrupt(error: BaseException) -> None:
    """Raise `Interrupted` where a signal handler raised ``error``, or one below it."""
    if not runs_signal_handlers():
        return
    codes = set(_list_handlers())
    raised = [found for found in walk_chain(error) if _was_raised_in(found, codes)]
    if raised:
        # The last is what the handler raised; libraries give its traceback to theirs.
        raise Interrupted(raised[-1])


def raise_as_it_was(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function raise what `Interrupted` carries in place of that."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Interrupted as interrupt:
            error = interrupt.error
        # Outside the handler, so that nothing is added to its context.
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
