"""A call of ``send_messages()``, from its messages to their outcomes.

The messages are read in windows: one is prepared, written to the log, sent and
concluded before the next is read, so that a generator of a million messages needs the
memory of one window. All but the requests happens in the caller's thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from django_turbosmtp._lib.interrupts import raise_interrupt
from django_turbosmtp.delivery.conclude import announce, conclude, mark_unknown
from django_turbosmtp.delivery.prepare import Preparer
from django_turbosmtp.delivery.record import Recorder
from django_turbosmtp.delivery.transmit import Transmitter
from django_turbosmtp.statuses import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from django_turbosmtp.api import Client
    from django_turbosmtp.conf.settings import Settings
    from django_turbosmtp.delivery.jobs import Job
    from django_turbosmtp.payload import Keep

#: Read and send this many messages at a time.
WINDOW = 500


@dataclass(kw_only=True)
class Delivery:
    """What became of all the messages of a call.

    ``failures``: pairs of message and error, in order, of those that did not go.
    ``cut_short_by``: what the iterable raised in place of further messages.
    """

    accepted: int = 0
    cut_short_by: Exception | None = None
    failures: list[tuple[Any, BaseException]] = field(default_factory=list)


def deliver(
    messages: Iterable[Any],
    *,
    client: Client,
    settings: Settings,
    sender: type,
    keep: Keep | None = None,
    is_told: Callable[[BaseException], bool] = lambda _: True,
) -> Delivery:
    """Send each message, and return what became of them.

    ``sender`` is the sender of the signals. ``keep`` decides on each recipient (see
    `delivery.guard.build_guard`). ``is_told`` says which errors stand in the failures:
    their messages are held until the end. Nothing of a message's own raises; each has
    its status set. Where the iterable raises, those it gave before are sent. What a
    signal handler raises ends the call, as `Interrupted` or by itself: nothing further
    begins.
    """
    delivery = Delivery()
    iterator = _Drawn(messages)
    preparer = Preparer(settings=settings, sender=sender, keep=keep)
    recorder = Recorder(settings)
    transmitter = Transmitter(client, settings)
    while _deliver_window(iterator, preparer, recorder, transmitter, delivery, is_told):
        pass
    delivery.cut_short_by = iterator.error
    return delivery


def _deliver_window(
    messages: Iterator[Any],
    preparer: Preparer,
    recorder: Recorder,
    transmitter: Transmitter,
    delivery: Delivery,
    is_told: Callable[[BaseException], bool],
) -> bool:
    """Send the next window; return False where there was none.

    In a function of its own, so that nothing of it is held while the next is read.
    """
    jobs = [preparer.prepare(message) for message in islice(messages, WINDOW)]
    preparer.leave_out(jobs)
    recorder.begin(jobs)
    mark_unknown(jobs)
    try:
        transmitter.send([request for job in jobs for request in job.requests])
    finally:
        conclude(jobs)
        recorder.conclude(jobs)
        delivery.accepted += sum(job.status.outcome == Outcome.ACCEPTED for job in jobs)
    announce(jobs, preparer.sender)
    delivery.failures += _list_failures(jobs, is_told)
    return bool(jobs)


def _list_failures(
    jobs: list[Job], is_told: Callable[[BaseException], bool]
) -> list[tuple[Any, BaseException]]:
    return [
        (job.message, job.error)
        for job in jobs
        if job.error is not None and is_told(job.error)
    ]


class _Drawn:
    """An iterator over messages that ends, and keeps the error, where they raise."""

    def __init__(self, messages: Iterable[Any]) -> None:
        self._iterator = iter(messages)
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.error is not None:
            raise StopIteration
        try:
            return next(self._iterator)
        except StopIteration:
            raise
        except Exception as error:  # noqa: BLE001 - of the caller's own, raised later
            raise_interrupt(error)
            self.error = error
            raise StopIteration from None
