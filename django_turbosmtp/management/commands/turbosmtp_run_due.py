"""Enqueue messages that are due, and release those that are stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from django_turbosmtp.backends import find_backend
from django_turbosmtp.conf.log import choose_log_database
from django_turbosmtp.queue.cancel import adopt
from django_turbosmtp.queue.due import run_due

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Run it every minute, unless the task ``run_due`` runs."""

    help = (
        "Enqueue queued messages that are due and have no task, and mark messages whose"
        " worker was killed as unknown. Run it every minute."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Accept ``--adopt``."""
        parser.add_argument(
            "--adopt",
            metavar="MAILER",
            nargs="?",
            const="",
            help="first allow messages that were queued with an earlier key of this"
            " mailer to be sent with its current key; without a name: EMAIL_BACKEND",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run it, and report the numbers."""
        if options["adopt"] is not None:
            account = find_backend(options["adopt"]).build_engine().account
            alias = choose_log_database()
            adopted = adopt(options["adopt"], account.fingerprint, alias)
            self.stdout.write(f"{adopted} messages will be sent with the current key.")
        result = run_due(find_backend)
        self.stdout.write(
            f"{result.enqueued} messages enqueued, {result.unknown} marked as unknown,"
            f" {result.released} put back."
        )
