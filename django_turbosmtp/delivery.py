"""The one engine: many requests in flight, outcomes, retries.

Messages are prepared in the caller's thread, requests leave from worker threads that
touch neither database nor message, and results are written back in the caller's
thread. The whole batch is finished before anything is raised.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings
from django.utils.encoding import punycode

from django_turbosmtp._compat import configuration_error
from django_turbosmtp._pace import Pace, fails_for_all, slows_all, wait_before
from django_turbosmtp.addresses import Mailbox, parse, shorten
from django_turbosmtp.constants import (
    ACCEPTED,
    CANCELLED,
    ESP_NAME,
    REFUSED,
    SUPPRESSED,
    UNKNOWN,
)
from django_turbosmtp.exceptions import (
    CancelSend,
    ConnectionFailed,
    InvalidAddress,
    MessageError,
    OutcomeUnknown,
    TurboSMTPError,
)
from django_turbosmtp.message import TurboSMTPStatus, read_attributes
from django_turbosmtp.payload import translate
from django_turbosmtp.signals import post_send, pre_send

if TYPE_CHECKING:
    from django_turbosmtp._envelope import Keep, Recipient
    from django_turbosmtp.api import Client, SendResult
    from django_turbosmtp.api.body import Body
    from django_turbosmtp.conf import Settings
    from django_turbosmtp.constants import RecipientState

logger = logging.getLogger("django_turbosmtp.delivery")

#: Fewer requests go one after another, in order: threads would gain little.
_WORTH_THREADS = 4


@dataclass(kw_only=True)
class Request:
    """One request of a message: what leaves, to whom, and what came of it."""

    body: Body
    recipients: Sequence[Recipient]
    attempts: int = 0
    result: SendResult | None = None
    error: TurboSMTPError | None = None

    @property
    def state(self) -> RecipientState:
        """The status of the request's recipients."""
        if self.result is not None:
            return "sent"
        return "unknown" if self.is_unknown else "failed"

    @property
    def is_unknown(self) -> bool:
        return isinstance(self.error, OutcomeUnknown)


@dataclass(kw_only=True)
class Job:
    """One message on its way: its status, and the requests it takes."""

    message: Any
    status: TurboSMTPStatus
    requests: list[Request] = field(default_factory=list)
    error: BaseException | None = None


def deliver(
    messages: Iterable[Any],
    *,
    client: Client,
    settings: Settings,
    sender: type,
    keep: Keep | None = None,
) -> list[Job]:
    """Send each message, and return what became of it, in order.

    ``sender`` is the sender of the signals. ``keep`` decides on each recipient, as
    `guard_of` makes it. Nothing of a message's own raises; each
    has its status set, and `Job.error` says what to raise for it.
    """
    jobs = [_prepare(message, client, settings, keep, sender) for message in messages]
    try:
        _transmit(
            [request for job in jobs for request in job.requests], client, settings
        )
    finally:
        for job in jobs:
            if job.requests:
                _conclude(job)
        _report_untried(jobs)
    for job in jobs:
        if job.status.attempts:
            _tell(job, sender)
    return jobs


def _prepare(
    message: Any, client: Client, settings: Settings, keep: Keep | None, sender: type
) -> Job:
    status = message.turbosmtp_status = TurboSMTPStatus()
    job = Job(message=message, status=status)
    try:
        pre_send.send(sender=sender, message=message, esp_name=ESP_NAME)
        if message.recipients():
            _translate(job, client, settings, keep)
    except CancelSend:
        status.outcome = CANCELLED
        logger.info("A pre_send receiver cancelled a message.")
    except Exception as error:  # noqa: BLE001 - of one message; the others still go
        job.error = status.error = error
        status.outcome = REFUSED
        state: RecipientState = (
            "invalid" if isinstance(error, InvalidAddress) else "failed"
        )
        status.set_recipients(_addresses(message), state, None)
        logger.warning("A message could not be sent: %s", error)
    return job


def _translate(job: Job, client: Client, settings: Settings, keep: Keep | None) -> None:
    attributes = read_attributes(
        job.message,
        settings.send_defaults,
        api_version=settings.api_version,
        ignore_unsupported=settings.ignore_unsupported_features,
    )
    job.status.reference_id = attributes.reference_id
    translation = translate(
        job.message,
        attributes,
        api_version=settings.api_version,
        charset=django_settings.DEFAULT_CHARSET,
        keep=keep,
    )
    job.requests = [
        Request(body=client.prepare(payload.fields), recipients=payload.recipients)
        for payload in translation.payloads
    ]
    if translation.left_out:
        left_out = [r.mailbox.addr_spec for r in translation.left_out]
        job.status.set_recipients(left_out, "rejected", None)
        logger.warning(
            "%s: RECIPIENT_GUARD left out %s recipient(s).",
            job.status.reference_id,
            len(left_out),
        )
    if not job.requests:
        job.status.outcome = SUPPRESSED


def _addresses(message: Any) -> list[str]:
    """Return the recipients of a message that may be wrong in any way."""
    addresses: list[str] = []
    for kind in ("to", "cc", "bcc"):
        with suppress(Exception):
            for address in getattr(message, kind, None) or ():
                text = str(address)
                try:
                    text = parse(text, kind).addr_spec
                except MessageError:
                    text = shorten(text)
                addresses.append(text)
    return addresses


def guard_of(guard: Any, *, alias: str | None = None) -> Keep | None:
    """Return what decides on a recipient by ``RECIPIENT_GUARD``, None without one.

    Raise ImproperlyConfigured where it redirects to what is no address.
    """
    if guard is None:
        return None
    if isinstance(guard, Mapping):
        try:
            target = parse(guard["redirect"], "TURBOSMTP['RECIPIENT_GUARD']")
        except InvalidAddress as error:
            text = f"{error} (turbosmtp.E023)"
            raise configuration_error(text, alias=alias) from None
        return lambda _: target
    allowed = {punycode(entry.lower().removeprefix("@")) for entry in guard}

    def keep(mailbox: Mailbox) -> Mailbox | None:
        known = {mailbox.addr_spec.lower(), mailbox.domain.lower()}
        return None if allowed.isdisjoint(known) else mailbox

    return keep


def _transmit(requests: list[Request], client: Client, settings: Settings) -> None:
    workers = settings.max_connections if len(requests) >= _WORTH_THREADS else 1
    workers = min(workers, len(requests))
    pace = Pace(max(1, workers))
    waiting = deque(requests)

    def work() -> None:
        while True:
            try:
                request = waiting.popleft()
            except IndexError:
                return
            _attempt(request, client, settings.max_retries, pace)

    if workers <= 1:
        work()
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="turbosmtp") as pool:
        try:
            for future in [pool.submit(work) for _ in range(workers)]:
                future.result()
        except BaseException:
            # Ctrl-C, or the end of the process: what is in flight still ends, so that
            # its outcome is known, and nothing more begins.
            pace.stop()
            raise


def _attempt(request: Request, client: Client, max_retries: int, pace: Pace) -> None:
    """Send one request, again where that surely cannot double it."""
    accepted_before = pace.accepted
    not_before = 0.0
    while pace.enter(not_before):
        request.attempts += 1
        # Not what an earlier attempt said: if this one is interrupted, nobody knows.
        request.error = None
        error, again_in = _send(request, client, pace)
        request.error = error
        if error is None:
            return
        if not error.retryable or request.attempts > max_retries or again_in is None:
            # None: asked to wait for longer than a caller should.
            if (
                again_in is None
                or fails_for_all(error)
                or (slows_all(error) and pace.accepted == accepted_before)
            ):
                pace.stop(error)
            return
        not_before = time.monotonic() + again_in
    if request.error is None:
        request.error = _not_tried(pace.stopped_by)


def _send(
    request: Request, client: Client, pace: Pace
) -> tuple[TurboSMTPError | None, float | None]:
    """Send once; return the error, and the seconds to wait before sending again."""
    error: TurboSMTPError | None = None
    again_in: float | None = 0.0
    try:
        request.result = client.send(request.body)
    except TurboSMTPError as failure:
        error = failure
    except Exception as failure:
        logger.exception("An internal error while a message was being sent.")
        error = OutcomeUnknown(
            f"An internal error ({type(failure).__name__}) while the message was being"
            " sent: nobody knows whether turboSMTP accepted it."
        )
    finally:
        # The brake before the turn ends, so that no other request slips in between.
        if error is not None:
            again_in = wait_before(request.attempts, error)
            if slows_all(error):
                pace.brake(again_in or 0.0)
        pace.leave(error, accepted=request.result is not None)
    return error, again_in


def _not_tried(because: TurboSMTPError | None) -> TurboSMTPError:
    if because is None:
        return ConnectionFailed("Not tried: the call was interrupted.")
    text = f"Not tried, for an earlier message of this call failed: {because}"
    # Surely not accepted, which an unknown outcome must not be mistaken for.
    if isinstance(because, OutcomeUnknown):
        return ConnectionFailed(text)
    error = copy(because)
    error.args = (text,)
    return error


def _conclude(job: Job) -> None:
    """Write what became of a message's requests to its status."""
    status = job.status
    for request in job.requests:
        if request.result is None and request.error is None:
            request.error = (
                OutcomeUnknown("The call was interrupted while the message was sent.")
                if request.attempts
                else _not_tried(None)
            )
        status.set_recipients(
            [recipient.mailbox.addr_spec for recipient in request.recipients],
            request.state,
            request.result.message_id if request.result else None,
        )
    status.attempts = sum(request.attempts for request in job.requests)
    results = [request.result for request in job.requests if request.result]
    failed = [request for request in job.requests if request.error]
    unknown = [request for request in failed if request.is_unknown]
    status.error = (unknown or failed)[0].error if failed else None
    if results:
        # As smtplib: nothing raises where somebody got the mail, for the caller would
        # send it again to all. The recipients' own statuses tell.
        status.outcome = ACCEPTED
        status.esp_response = results[-1].response
    else:
        status.outcome = UNKNOWN if unknown else REFUSED
        job.error = status.error
    _report(job, failed)


def _report(job: Job, failed: Sequence[Request]) -> None:
    status = job.status
    if not failed:
        logger.debug("%s: accepted as %s.", status.reference_id, status.message_id)
    elif job.error is None:
        logger.error(
            "%s: accepted for some recipients, and for %s not: %s",
            status.reference_id,
            len(failed),
            status.error,
        )
    elif status.attempts:
        logger.warning("%s: %s: %s", status.reference_id, status.outcome, job.error)


def _report_untried(jobs: Sequence[Job]) -> None:
    untried = [job for job in jobs if job.requests and not job.status.attempts]
    if untried:
        logger.warning("%s messages: %s", len(untried), untried[0].error)


def _tell(job: Job, sender: type) -> None:
    # send_robust() logs what a receiver raises: the message has left.
    post_send.send_robust(
        sender=sender, message=job.message, status=job.status, esp_name=ESP_NAME
    )
