"""Sends a stored message again, with the same fields, as a new row.

If two people press the button, the message is sent once: the stored payload moves to
the new row in the transaction that writes the row, so the second one finds no payload.
Nothing is sent before the commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.utils.translation import gettext as _

from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp.conf.log import choose_log_database
from django_turbosmtp.delivery.decision import NotSentAgain, plan_resend
from django_turbosmtp.delivery.stored import build_job
from django_turbosmtp.log.locks import begin, lock_messages
from django_turbosmtp.log.querysets import read_payload
from django_turbosmtp.models import Message, Payload, Resend

if TYPE_CHECKING:
    from django_turbosmtp.delivery.engine import Engine
    from django_turbosmtp.delivery.jobs import Job

logger = get_logger("django_turbosmtp.delivery")


def resend(row: Message, engine: Engine, *, allow_other_account: bool = False) -> Job:
    """Send a stored message again, and return the job with its outcome.

    The new row, whose key is the job's, has ``row`` as its original, and the payload
    until it is accepted. ``allow_other_account``: the user agreed to send it through
    another account. Raise `NotSentAgain` if nothing was sent.
    """
    alias = choose_log_database()
    messages = Message.objects.using(alias).filter(pk=row.pk)
    # A durable transaction, because nothing may be sent before the commit.
    with transaction.atomic(using=alias, durable=True), begin(alias, limits_wait=False):
        # Lock before planning, so that no event changes a recipient until the commit.
        lock_messages(messages)
        found = messages.first()
        if found is None:
            raise NotSentAgain(_("It is no longer in the log."))
        plan = plan_resend(found, engine)
        if plan.is_other_account and not allow_other_account:
            raise NotSentAgain(describe_other_account(found))
        payload = read_payload(found)
        if not payload:
            raise NotSentAgain(_("It has already been sent again."))
        try:
            job = build_job(found, payload, plan.recipients)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            logger.exception("The stored payload of %s cannot be read.", found.pk)
            text = _("The stored message is damaged and cannot be sent again.")
            raise NotSentAgain(text) from error
        engine.recorder.write_rows([job])
        if not engine.recorder.has_written(job):
            raise NotSentAgain(_("The log could not be written."))
        Resend.objects.using(alias).create(message_id=job.id, original=found)
        pieces = Payload.objects.using(alias).filter(message=row.pk)
        if not pieces.update(message=job.id):
            raise NotSentAgain(_("It has already been sent again."))
    engine.run([job], are_written=True)
    return job


def describe_other_account(row: Message) -> str:
    """Return why the user must confirm the account before a message is sent again."""
    if not row.mailer:
        return _(
            "It was sent through a turboSMTP account, or with a key, that this site"
            " no longer uses."
        )
    text = _(
        "It was sent through a turboSMTP account, or with a key, that the mailer"
        " “%s” no longer uses."
    )
    return text % row.mailer
