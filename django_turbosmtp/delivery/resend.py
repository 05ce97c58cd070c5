"""Sends a message of the log again, as a new row.

Two users may decide at the same time, and one user may click twice. Each decision has
the number of times that the message had been sent again when the page was shown. It is
compared in the transaction that writes the new row, so only the first decision sends.
Nothing is sent before the commit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
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
from django_turbosmtp.log.querysets import add_relations
from django_turbosmtp.models import Message, Payload, Resend
from django_turbosmtp.statuses import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from django.db.models import QuerySet

    from django_turbosmtp.delivery.decision import Plan
    from django_turbosmtp.delivery.engine import Engine
    from django_turbosmtp.delivery.jobs import Job
    from django_turbosmtp.exceptions import TurboSMTPError

logger = get_logger("django_turbosmtp.delivery")

#: Decide about this many messages in one transaction, and send them together. After an
#: error that affects all messages, at most this many have a new row.
_PART = 40


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
    messages = _find([row.pk])
    # A durable transaction, because nothing may be sent before the commit.
    with transaction.atomic(using=alias, durable=True), begin(alias, limits_wait=False):
        # Lock before planning, so that no event changes a recipient until the commit.
        lock_messages(messages)
        found = add_relations(messages).first()
        if found is None:
            raise NotSentAgain(_("It is no longer in the log."))
        decided = _decide(
            found,
            engine,
            targets=targets,
            decision=decision,
            allow_other_account=allow_other_account,
        )
        _write([decided], engine, alias)
    engine.run([decided.job], are_written=True)
    _drop_payloads([decided], alias)
    return decided.job


@dataclass(frozen=True, kw_only=True)
class _Decided:
    """A message that is sent again, how, and the job that sends it."""

    original: Message
    plan: Plan
    job: Job


def _decide(
    row: Message,
    engine: Engine,
    *,
    targets: Mapping[int, str] | None = None,
    decision: int = 0,
    allow_other_account: bool = False,
) -> _Decided:
    """Return how a locked message is sent again; raise `NotSentAgain` if it is not."""
    if count_resends(row) != decision:
        raise NotSentAgain(_("It has already been sent again."))
    plan = plan_resend(row, engine, targets)
    if plan.is_other_account and not allow_other_account:
        raise NotSentAgain(describe_other_account(row))
    return _Decided(original=row, plan=plan, job=_build_job(row, plan))


def _write(decided: Sequence[_Decided], engine: Engine, alias: str) -> None:
    """Write the new rows; raise `NotSentAgain` if that is not possible."""
    engine.recorder.write_rows([one.job for one in decided])
    if not all(engine.recorder.has_written(one.job) for one in decided):
        raise NotSentAgain(_("The log could not be written."))
    Resend.objects.using(alias).bulk_create(
        Resend(message_id=one.job.id, original=one.original) for one in decided
    )


def _drop_payloads(decided: Sequence[_Decided], alias: str) -> None:
    """Delete payloads that are not needed any more, as after any acceptance."""
    done = [
        one.original.pk
        for one in decided
        if one.plan.covers_missing and _is_accepted(one.job)
    ]
    rows = Payload.objects.using(alias).filter(message__in=done)
    # MIME cannot be rebuilt from the rest of the log.
    rows.exclude(message__content__keeps_payload=True).delete()


@dataclass(kw_only=True)
class BulkResult:
    """The numbers of messages that were accepted or not, and of each other reason.

    ``stopped_by``: the error that ended the call early, or None.
    """

    accepted: int = 0
    failed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    stopped_by: TurboSMTPError | None = None


def resend_many(
    keys: Sequence[UUID],
    build_engine: Callable[[str], Engine],
    report: Callable[[int, Sequence[tuple[Message, Job]]], None],
) -> BulkResult:
    """Send messages again to the recipients that they did not reach, in order.

    Messages that may have arrived, that were sent again before, or whose account is
    another one now are skipped: they need a decision for each. ``build_engine`` returns
    the engine of a mailer, or raises `NotSentAgain`. After each part, ``report`` is
    called with its number of messages, and those that were sent, with their jobs. An
    error that would affect all messages ends the call, as in ``send_messages()``. Raise
    `NotSentAgain` if the log cannot be written.
    """
    result = BulkResult()
    engines: dict[str, Engine] = {}
    for start in range(0, len(keys), _PART):
        part = keys[start : start + _PART]
        sent = _resend_part(part, engines, build_engine, result)
        report(len(part), [(one.original, one.job) for one in sent])
        stopped = [e.stopped_by for e in engines.values() if e.stopped_by]
        if stopped:
            result.stopped_by = stopped[0]
            break
    return result


def preview_many(
    keys: Sequence[UUID], build_engine: Callable[[str], Engine]
) -> Iterator[tuple[Message, str]]:
    """Yield each message that `resend_many` would read, and why it would be skipped.

    The reason is "" if the message would be sent. Nothing is locked or written.
    """
    engines: dict[str, Engine] = {}
    for start in range(0, len(keys), _PART):
        messages = add_relations(_find(keys[start : start + _PART]))
        for row, decided in _decide_each(messages, engines, build_engine):
            yield row, decided.summary if isinstance(decided, NotSentAgain) else ""


def _find(keys: Sequence[UUID]) -> QuerySet[Message]:
    messages = Message.objects.using(choose_log_database())
    # In the order of their creation: the keys are.
    return messages.filter(pk__in=keys).order_by("pk")


def _resend_part(
    keys: Sequence[UUID],
    engines: dict[str, Engine],
    build_engine: Callable[[str], Engine],
    result: BulkResult,
) -> list[_Decided]:
    alias = choose_log_database()
    messages = _find(keys)
    decided: dict[str, list[_Decided]] = {}
    with transaction.atomic(using=alias, durable=True), begin(alias, limits_wait=False):
        lock_messages(messages)
        for row, one in _decide_each(add_relations(messages), engines, build_engine):
            if isinstance(one, NotSentAgain):
                result.skipped[one.summary] += 1
            else:
                decided.setdefault(row.mailer, []).append(one)
        for mailer, some in decided.items():
            _write(some, engines[mailer], alias)
    for mailer, some in decided.items():
        engines[mailer].run([one.job for one in some], are_written=True)
        _drop_payloads(some, alias)
        accepted = sum(_is_accepted(one.job) for one in some)
        result.accepted += accepted
        result.failed += len(some) - accepted
    return [one for some in decided.values() for one in some]


def _decide_each(
    messages: Iterable[Message],
    engines: dict[str, Engine],
    build_engine: Callable[[str], Engine],
) -> Iterator[tuple[Message, _Decided | NotSentAgain]]:
    """Yield how each message is sent again, or why it needs a person's decision."""
    for row in messages:
        try:
            if row.mailer not in engines:
                engines[row.mailer] = build_engine(row.mailer)
            decided = _decide(row, engines[row.mailer])
            if decided.plan.may_have_arrived:
                raise NotSentAgain(_("It may have arrived."))
        except NotSentAgain as reason:
            yield row, reason
        else:
            yield row, decided


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
