"""Send messages of the log again, for example after an hour without credit."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from django_turbosmtp._lib.times import make_storable
from django_turbosmtp.backends import find_backend
from django_turbosmtp.conf.log import choose_log_database
from django_turbosmtp.delivery.decision import NotSentAgain
from django_turbosmtp.delivery.resend import preview_many, resend_many
from django_turbosmtp.log.querysets import (
    filter_attention,
    filter_group,
    filter_tag,
    search,
)
from django_turbosmtp.management.progress import Progress
from django_turbosmtp.models import Message
from django_turbosmtp.statuses import Group

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from django.db.models import QuerySet

    from django_turbosmtp.delivery.engine import Engine

#: Ask for confirmation if there are more messages than this.
_ASK_ABOVE = 10

_FILTERS = ("status", "attention", "tag", "mailer", "since", "until", "search")


class Command(BaseCommand):
    """Sends each message to the recipients that it did not reach."""

    help = (
        "Send messages of the log again, to the recipients that they did not reach."
        " Messages that may have arrived, that have been sent again already, or whose"
        " account has changed are skipped."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Define the filters of the list, ``--dry-run`` and ``--no-input``."""
        add = parser.add_argument
        add(
            "--status",
            choices=[str(g) for g in Group],
            help="of this group of statuses",
        )
        add("--attention", action="store_true", help="that need attention")
        add("--tag", help="with this campaign or tag")
        add("--mailer", help="of this mailer")
        add("--since", help="from this time on, such as 2026-01-31T12:00Z")
        add("--until", help="before this time")
        add("--search", help="as in the search field of the admin")
        add(
            "--dry-run",
            action="store_true",
            help="send nothing; count the messages and the reasons for skipping",
        )
        add(
            "--no-input",
            "--noinput",
            action="store_false",
            dest="interactive",
            help="do not ask for confirmation",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Select, count, ask for confirmation, send, and report."""
        if not any(options[name] for name in _FILTERS):
            names = ", ".join(f"--{name}" for name in _FILTERS)
            raise CommandError(f"Select messages with at least one of {names}.")
        found = _select(options)
        # In order of time: the keys are.
        keys = list(found.order_by("pk").values_list("pk", flat=True))
        if options["dry_run"]:
            self._preview(keys)
            return
        if options["interactive"]:
            _confirm(len(keys))
        with Progress(self.stderr, lambda: len(keys)) as bar:
            try:
                result = resend_many(keys, _build_engine, lambda n, _: bar.advance(n))
            except NotSentAgain as error:
                raise CommandError(str(error)) from error
        skipped = result.skipped.total()
        self.stdout.write(
            f"Accepted: {result.accepted}, failed: {result.failed}, skipped: {skipped}."
        )
        self._write_reasons(result.skipped)
        if result.stopped_by is not None:
            rest = len(keys) - result.accepted - result.failed - skipped
            raise CommandError(
                f"Stopped, because this affects every message: {result.stopped_by}"
                f" {rest} messages were not tried. Solve it, then run the command"
                " again."
            )
        if result.failed:
            raise CommandError("Some messages failed. The log shows why.")

    def _preview(self, keys: Sequence[UUID]) -> None:
        """Write how many messages would be sent, and why the others would not."""
        reasons: Counter[str] = Counter()
        with Progress(self.stderr, lambda: len(keys)) as bar:
            for _row, reason in preview_many(keys, _build_engine):
                reasons[reason] += 1
                bar.advance(1)
        ready = reasons.pop("", 0)
        self.stdout.write(f"To send: {ready}, to skip: {reasons.total()}.")
        self._write_reasons(reasons)

    def _write_reasons(self, reasons: Counter[str]) -> None:
        for reason, number in reasons.most_common():
            self.stdout.write(f"  {number}: {reason}")


def _confirm(number: int) -> None:
    if number <= _ASK_ABOVE:
        return
    try:
        answer = input(f"Send up to {number} messages again? Type 'yes': ")
    except EOFError:
        answer = ""
    if answer != "yes":
        raise CommandError(
            "Cancelled: nothing was sent. Add --no-input to send without confirmation."
        )


def _select(options: dict[str, Any]) -> QuerySet[Message]:
    messages = Message.objects.using(choose_log_database())
    if options["status"]:
        messages = filter_group(messages, options["status"])
    if options["attention"]:
        messages = filter_attention(messages)
    if options["tag"]:
        messages = filter_tag(messages, options["tag"])
    if options["mailer"]:
        messages = messages.filter(mailer=options["mailer"])
    if options["since"]:
        messages = messages.filter(created_at__gte=_read_time("since", options))
    if options["until"]:
        messages = messages.filter(created_at__lt=_read_time("until", options))
    return search(messages, options["search"]) if options["search"] else messages


def _read_time(name: str, options: dict[str, Any]) -> datetime:
    """Return a time of the options, in the current time zone if it has none."""
    text = options[name]
    try:
        found = parse_datetime(text)
        day = parse_date(text) if found is None else None
    except ValueError:
        found = day = None
    if day is not None:
        found = parse_datetime(f"{day}T00:00")
    if found is None:
        raise CommandError(
            f"--{name} {text!r} is not a date or a time, such as 2026-01-31T12:00Z."
        )
    return make_storable(timezone.make_aware(found) if found.tzinfo is None else found)


def _build_engine(mailer: str) -> Engine:
    try:
        return find_backend(mailer).build_engine()
    except ImproperlyConfigured as error:
        raise NotSentAgain(str(error)) from None
