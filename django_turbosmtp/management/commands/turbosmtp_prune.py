"""Remove messages and bodies that are older than the settings allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from django_turbosmtp.conf.log import choose_log_database, read_log_settings
from django_turbosmtp.log.prune import count_old, prune
from django_turbosmtp.management.progress import Progress

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Run it every day."""

    help = (
        "Remove messages older than RETENTION_DAYS, and bodies older than"
        " BODY_RETENTION_DAYS, from the log."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Define ``--dry-run``."""
        parser.add_argument("--dry-run", action="store_true", help="only count")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Count, remove, and report."""
        log = read_log_settings()
        alias = choose_log_database()
        days = {"days": log.retention_days, "body_days": log.body_retention_days}
        if options["dry_run"]:
            old = count_old(alias, **days)
            self.stdout.write(
                f"{old.messages} messages and the bodies of {old.bodies} others would"
                " be removed."
            )
            return
        with Progress(self.stderr, lambda: count_old(alias, **days).total) as bar:
            removed = prune(alias, **days, report=bar.advance)
        self.stdout.write(
            f"{removed.messages} messages, the bodies of {removed.bodies} others and"
            f" {removed.files} files were removed."
        )
