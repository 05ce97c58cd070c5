"""Prepares messages: from a Django message to its requests, in the caller's thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings

from django_turbosmtp._lib.interrupts import raise_interrupt
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp._lib.text import shorten
from django_turbosmtp.delivery.jobs import Job, SendRequest
from django_turbosmtp.delivery.status import TurboSMTPStatus
from django_turbosmtp.exceptions import (
    CancelSend,
    InvalidAddress,
    MessageError,
    RecipientsRefused,
)
from django_turbosmtp.log.suppressions import look_up
from django_turbosmtp.payload import translate
from django_turbosmtp.payload.addresses import parse
from django_turbosmtp.payload.attributes import read_attributes
from django_turbosmtp.signals import ESP_NAME, pre_send
from django_turbosmtp.statuses import Kind, Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from django_turbosmtp.conf.settings import Settings
    from django_turbosmtp.payload import EnvelopeRecipient, Guard

logger = get_logger("django_turbosmtp.delivery")


@dataclass(frozen=True, kw_only=True)
class Preparer:
    """Prepares messages for one account. ``sender``: of the signals.

    ``guard``: decides on each recipient (see `delivery.guard.build_guard`).
    """

    settings: Settings
    sender: type
    guard: Guard | None = None
    charset: str = field(default_factory=lambda: django_settings.DEFAULT_CHARSET)

    def prepare(self, message: Any) -> Job:
        """Return the message's job with its status. Does not raise its errors."""
        status = message.turbosmtp_status = TurboSMTPStatus()
        job = Job(message=message, status=status)
        try:
            pre_send.send(sender=self.sender, message=message, esp_name=ESP_NAME)
            # Django's backends also ignore a message without recipients, and do not
            # count it.
            if message.recipients():
                self._translate(job)
        except CancelSend:
            status.outcome = Outcome.CANCELLED
            logger.info("A pre_send receiver cancelled a message.")
        except Exception as error:  # noqa: BLE001 - other messages are still sent
            raise_interrupt(error)
            _refuse(job, error)
        return job

    def leave_out(self, jobs: Sequence[Job]) -> None:
        """Leave suppressed recipients out of prepared messages, with one look-up.

        Messages whose ``ignore_suppressions`` is true are not changed. For each
        message, log how many recipients were left out, also by ``guard``.
        """
        waiting = [
            job
            for job in jobs
            if job.requests and not getattr(job.message, "ignore_suppressions", False)
        ]
        # One look-up for all messages, because each is a query (docs/log.rst).
        found = look_up({a for job in waiting for a in _list_lower(job)}, self.settings)
        for job in waiting:
            if found is None:
                job.is_unchecked = True
            # Translate again instead of editing the fields, because To and Cc must not
            # show suppressed recipients either.
            elif found and (without := found.keys() & _list_lower(job)):
                self._translate_again(job, {name: found[name] for name in without})
        for job in jobs:
            if job.translation and job.translation.left_out:
                _report_left_out(job, job.translation.left_out)

    def _translate_again(self, job: Job, without: dict[str, str]) -> None:
        # The first translation has set some of them.
        job.status.recipients.clear()
        first = job.requests[0].fields
        job.requests = []
        try:
            # The message may have other values now, and may even be invalid.
            self._translate(job, without)
        except Exception as error:  # noqa: BLE001 - other messages are still sent
            raise_interrupt(error)
            _refuse(job, error)
            return
        job.left_out_for = without
        if not job.requests:
            job.unsent_fields = first
            reasons = ", ".join(sorted(set(without.values())))
            job.error = job.status.error = RecipientsRefused(
                f"All recipients are suppressed ({reasons}), so the message was not"
                " sent. Delete the suppression in the admin, or set ignore_suppressions"
                " on the message.",
                recipients=sorted(without),
            )

    def _translate(self, job: Job, without: Collection[str] = ()) -> None:
        attributes = read_attributes(
            job.message,
            self.settings.send_defaults,
            api_version=self.settings.api_version,
            ignore_unsupported=self.settings.ignore_unsupported_features,
            default_reference_id=str(job.id),
            is_queued=bool(self.settings.queue),
        )
        job.attributes = attributes
        job.status.reference_id = attributes.reference_id
        translation = translate(
            job.message,
            attributes,
            api_version=self.settings.api_version,
            charset=self.charset,
            guard=self.guard,
            without=without,
        )
        job.translation = translation
        job.requests = [
            SendRequest(fields=request.fields, recipients=request.recipients)
            for request in translation.requests
        ]
        # The garbage collector walks all that is kept until the end of a window.
        translation.requests = ()
        if translation.left_out:
            addresses = [r.mailbox.addr_spec for r in translation.left_out]
            job.status.set_recipients(addresses, Status.REJECTED, None)
        if not job.requests:
            job.status.outcome = Outcome.SUPPRESSED


def _list_lower(job: Job) -> set[str]:
    """Return the addresses that a job's requests go to, in lower case."""
    return {
        recipient.mailbox.addr_spec.lower()
        for request in job.requests
        for recipient in request.recipients
    }


def _report_left_out(job: Job, left_out: Sequence[EnvelopeRecipient]) -> None:
    suppressed = sum(r.mailbox.addr_spec.lower() in job.left_out_for for r in left_out)
    for number, what in (
        (len(left_out) - suppressed, "RECIPIENT_GUARD"),
        (suppressed, "The list of suppressed addresses"),
    ):
        if number:
            reference = job.status.reference_id
            logger.warning("%s: %s left out %s recipient(s).", reference, what, number)


def _refuse(job: Job, error: Exception) -> None:
    job.error = job.status.error = error
    job.status.outcome = Outcome.REFUSED
    invalid = isinstance(error, InvalidAddress)
    state = Status.INVALID if invalid else Status.FAILED
    # Read the lists again, because an invalid message has no translation.
    addresses = [address for _, address in list_addresses(job.message)]
    job.status.set_recipients(addresses, state, None)
    logger.warning("A message could not be sent: %s", error)


def list_addresses(message: Any) -> list[tuple[Kind, str]]:
    """Return kind and address of the recipients of a message, even of invalid ones."""
    addresses: list[tuple[Kind, str]] = []
    for kind in Kind:
        try:
            for address in getattr(message, kind, None) or ():
                text = str(address)
                try:
                    text = parse(text, kind).addr_spec
                except MessageError:
                    # It is not an address, so it may be a long text, such as a body.
                    text = shorten(text)
                addresses.append((kind, text))
        except Exception as error:  # noqa: BLE001 - the list cannot be read
            raise_interrupt(error)
    return addresses
