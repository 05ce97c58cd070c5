"""A call of ``send_messages()``, from its messages to their outcomes.

The messages are read in windows. Each is prepared, sent and recorded before the next
one is read, so that a generator of a million messages needs the memory of one window.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from django_turbosmtp._lib.interrupts import raise_interrupt
from django_turbosmtp.delivery.prepare import Preparer
from django_turbosmtp.statuses import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from django_turbosmtp.delivery.engine import Engine

#: Read this many messages at a time.
WINDOW = 500


@dataclass(kw_only=True)
class Delivery:
    """The result of a call of ``send_messages()``.

    ``failures``: pairs of message and error, in order. ``cut_short_by``: the exception
    that the iterable raised instead of further messages.
    """

    accepted: int = 0
    cut_short_by: Exception | None = None
    failures: list[tuple[Any, BaseException]] = field(default_factory=list)


def send_in_windows(
    messages: Iterable[Any],
    engine: Engine,
    *,
    is_reported: Callable[[BaseException], bool],
) -> Delivery:
    """Send each message, and return the result; only an interrupt raises.

    ``is_reported`` decides which errors are listed in the failures, with their
    messages. If the iterable raises, the messages before that are sent.
    """
    delivery = Delivery()
    iterator = draw(messages, delivery)
    preparer = Preparer(
        settings=engine.settings, sender=engine.sender, guard=engine.guard
    )
    # Stop only at the end of the iterable: after an error that affects all messages,
    # the engine does not send, but each message still gets its status and its row.
    while _send_window(iterator, preparer, engine, delivery, is_reported):
        pass
    return delivery


def _send_window(
    messages: Iterator[Any],
    preparer: Preparer,
    engine: Engine,
    delivery: Delivery,
    is_reported: Callable[[BaseException], bool],
) -> bool:
    """Send the next window; return False if there was none.

    A separate function, so that its memory is free while the next window is read.
    """
    jobs = [preparer.prepare(message) for message in islice(messages, WINDOW)]
    preparer.leave_out(jobs)
    engine.run(jobs)
    delivery.accepted += sum(job.status.outcome == Outcome.ACCEPTED for job in jobs)
    delivery.failures += [
        (job.message, job.error) for job in jobs if job.error and is_reported(job.error)
    ]
    return bool(jobs)


def draw(messages: Iterable[Any], delivery: Delivery) -> Iterator[Any]:
    """Yield the messages. If the iterable raises, store the exception and end."""
    try:
        yield from messages
    except Exception as error:  # noqa: BLE001 - raised at the end of the call
        raise_interrupt(error)
        delivery.cut_short_by = error
