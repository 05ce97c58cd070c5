"""Remove all data about one person from the log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from django_turbosmtp.conf.log import choose_log_database
from django_turbosmtp.log.erase import erase, find_messages
from django_turbosmtp.management.exporting import export_to, read_address

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Asks for confirmation first."""

    help = (
        "Delete messages that only this address received. If a message has other"
        " recipients, remove body, headers, subject and metadata, and replace the"
        " address."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Define the address, ``--export`` and ``--no-input``."""
        parser.add_argument("address", help="the person's e-mail address")
        parser.add_argument(
            "--export",
            type=Path,
            metavar="PATH",
            help="first write all data about the person to this new file, as JSON",
        )
        parser.add_argument(
            "--no-input",
            "--noinput",
            action="store_true",
            help="do not ask for confirmation",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Count, export, ask for confirmation, remove, and report."""
        address = read_address(options["address"])
        alias = choose_log_database()
        count = len(find_messages(address, alias))
        if options["export"]:
            try:
                export_to(options["export"], address, alias)
            except CommandError as error:
                raise CommandError(f"{error} No data was removed.") from None
            self.stdout.write(f"{count} messages were written to {options['export']}.")
        if not options["no_input"] and not _confirm(address, count):
            raise CommandError("Cancelled: no data was removed.")
        erased = erase(address, alias)
        self.stdout.write(
            f"{erased.deleted} messages were deleted; {erased.anonymised} with other"
            " recipients were anonymised."
        )


def _confirm(address: str, count: int) -> bool:
    question = f"Remove all data about {address} in {count} messages? Type 'yes': "
    try:
        return input(question).strip().lower() == "yes"
    except EOFError:
        return False
