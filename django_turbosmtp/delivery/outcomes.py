"""Sets the outcome of a message from the results of its requests, and announces it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp.delivery.jobs import Job, SendRequest, build_not_tried
from django_turbosmtp.exceptions import OutcomeUnknown
from django_turbosmtp.signals import ESP_NAME, post_send
from django_turbosmtp.statuses import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = get_logger("django_turbosmtp.delivery")


def mark_unknown(jobs: Sequence[Job]) -> None:
    """Set every message that is about to be sent to "unknown".

    If the call is interrupted, no status then denies a possible delivery.
    """
    for job in jobs:
        if job.requests:
            job.status.outcome = Outcome.UNKNOWN
            for request in job.requests:
                job.status.set_recipients(request.addresses, Status.UNKNOWN, None)


def set_outcomes(jobs: Sequence[Job]) -> None:
    """Set the outcome of every message that had requests, once."""
    sent = [job for job in jobs if job.requests and not job.has_outcome]
    failures = [_set_outcome(job) for job in sent]
    # Log only when all statuses are set: a logging handler may raise anything.
    for job, failed in zip(sent, failures, strict=True):
        _report(job, failed)


def announce(jobs: Sequence[Job], sender: type) -> None:
    """Send ``post_send`` for every message that was tried."""
    for job in jobs:
        if job.status.attempts:
            # send_robust() logs a receiver's exception: the message is sent.
            post_send.send_robust(
                sender=sender, message=job.message, status=job.status, esp_name=ESP_NAME
            )


def _set_outcome(job: Job) -> list[SendRequest]:
    """Write the status of one message; return its requests that failed."""
    status = job.status
    for request in job.requests:
        is_on_its_way = not request.conclude()
        # A worker that failed or was stopped leaves an attempt without a result.
        is_open = is_on_its_way or (request.attempts and request.error is None)
        if request.result is None and is_open:
            request.error = OutcomeUnknown(
                "The call was interrupted while the message was sent."
            )
        elif request.result is None and request.error is None:
            request.error = build_not_tried(None)
        if isinstance(request.error, OutcomeUnknown):
            _add_advice(request.error, request, status.reference_id or "")
        status.set_recipients(request.addresses, request.state, request.message_id)
    status.attempts = sum(request.attempts for request in job.requests)
    results = [request.result for request in job.requests if request.result]
    failed = [request for request in job.requests if request.error]
    unknown = [request for request in failed if request.is_unknown]
    # An unknown outcome has priority: this error tells callers not to send it again.
    status.error = (unknown or failed)[0].error if failed else None
    if results:
        # Like smtplib, raise nothing if any recipient got the mail: the caller would
        # send it again to all of them. The recipients' statuses show which did not.
        status.outcome = Outcome.ACCEPTED
        status.esp_response = results[-1].response
    else:
        status.outcome = Outcome.UNKNOWN if unknown else Outcome.REFUSED
        job.error = status.error
    job.has_outcome = True
    return failed


def _add_advice(error: OutcomeUnknown, request: SendRequest, reference_id: str) -> None:
    if error.reference_id:
        return  # The hint was already added.
    error.reference_id = reference_id
    # API v1 has no field for it (docs/wire.rst, "Fields").
    is_sent = "reference_id" in request.fields
    sought = f"the reference id {reference_id}" if is_sent else "its recipients"
    text = (
        f"{str(error).rstrip('.')}. Before you send it again, search turboSMTP's"
        f" dashboard for {sought}."
    )
    # Change the exception instead of replacing it, so that its traceback and cause are
    # kept.
    error.args = (text,)


def _report(job: Job, failed: Sequence[SendRequest]) -> None:
    status = job.status
    retried = next((r for r in job.requests if len(r.history) > 1), None)
    if not failed and retried:
        logger.info(
            "%s: accepted as %s on attempt %s, after: %s",
            status.reference_id,
            status.message_id,
            len(retried.history),
            retried.history[-2].error,
        )
    elif not failed:
        logger.debug("%s: accepted as %s.", status.reference_id, status.message_id)
    elif job.error is None:
        # An error, because no exception informs the caller.
        logger.error(
            "%s: accepted for some recipients, but not for %s: %s",
            status.reference_id,
            len(failed),
            status.error,
        )
    elif status.attempts:
        logger.warning("%s: %s: %s", status.reference_id, status.outcome, job.error)


def report_untried(jobs: Sequence[Job]) -> None:
    """Log how many messages were not tried, and why, in one record."""
    untried = [job for job in jobs if job.requests and not job.status.attempts]
    if untried:
        logger.warning("%s messages: %s", len(untried), untried[0].error)
