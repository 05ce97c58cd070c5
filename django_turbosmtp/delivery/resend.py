"""Sends a message of the log again, as a new row.

Two users may decide at the same time, and one user may click twice. Each decision has
the number of times that the message had been sent again when the page was shown. It is
compared in the transaction that writes the new row, so only the first decision sends.
Nothing is sent before the commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.utils.translation import gettext as _

from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp.conf.log import choose_log_database
from django_turbosmtp.delivery.decision import (
    NotSentAgain,
    count_resends,
    plan_resend,
)
from django_turbosmtp.delivery.stored import build_job, read_fields
from django_turbosmtp.log.locks import begin, lock_messages
from django_turbosmtp.models import Message, Payload, Resend
from django_turbosmtp.statuses import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django_turbosmtp.delivery.decision import Plan
    from django_turbosmtp.delivery.engine import Engine
    from django_turbosmtp.delivery.jobs import Job

logger = get_logger("django_turbosmtp.delivery")


def resend(
    row: Message,
    engine: Engine,
    *,
    targets: Mapping[int, str] | None = None,
    decision: int = 0,
    allow_other_account: bool = False,
) -> Job:
    """Send a message of the log again, and return the job with its outcome.

    ``targets``: as in `plan_resend`. ``decision``: how often it had been sent again
    when the user decided. ``allow_other_account``: the user agreed to send it through
    another account. The new row, whose key is the job's, refers to ``row``. Raise
    `NotSentAgain` if nothing was sent.
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
        if count_resends(found) != decision:
            raise NotSentAgain(_("It has already been sent again."))
        plan = plan_resend(found, engine, targets)
        if plan.is_other_account and not allow_other_account:
            raise NotSentAgain(describe_other_account(found))
        job = _build_job(found, plan)
        engine.recorder.write_rows([job])
        if not engine.recorder.has_written(job):
            raise NotSentAgain(_("The log could not be written."))
        Resend.objects.using(alias).create(message_id=job.id, original=found)
    engine.run([job], are_written=True)
    if plan.covers_missing and job.error is None and _is_accepted(job):
        # The payload is stored only until the message is accepted.
        Payload.objects.using(alias).filter(message=row.pk).delete()
    return job


def _build_job(row: Message, plan: Plan) -> Job:
    try:
        fields = read_fields(row)
        if fields is not None:
            return build_job(row, fields, plan.recipients, is_changed=plan.is_changed)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        logger.exception("The stored payload of %s cannot be read.", row.pk)
        text = _("The stored message is damaged and cannot be sent again.")
        raise NotSentAgain(text) from error
    raise NotSentAgain(_("The stored file of an attachment cannot be read."))


def _is_accepted(job: Job) -> bool:
    is_whole = all(request.result is not None for request in job.requests)
    return job.status.outcome == Outcome.ACCEPTED and is_whole


def describe_other_account(row: Message) -> str:
    """Return why the user must confirm the account before a message is sent again."""
    if not row.mailer:
        return _(
            "It was sent through a turboSMTP account, or with a key, that this site no"
            " longer uses."
        )
    text = _(
        "It was sent through a turboSMTP account, or with a key, that the mailer “%s”"
        " no longer uses."
    )
    return text % row.mailer
