"""Remove all that the log keeps on one person."""

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
    """Asks before it removes anything."""

    help = (
        "Delete messages to this address alone. Of messages that others got too,"
        " remove bodies, headers, subject and metadata, and replace the address."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the address, ``--export`` and ``--no-input``."""
        parser.add_argument("address", help="the person's e-mail address")
        parser.add_argument(
            "--export",
            type=Path,
            metavar="PATH",
            help="write all that is kept to this new file first, as JSON",
        )
        parser.add_argument(
            "--no-input", "--noinput", action="store_true", help="do not ask"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Count, ask, write out, remove and tell."""
        address = read_address(options["address"])
        alias = choose_log_database()
        count = len(find_messages(address, alias))
        if options["export"]:
            try:
                export_to(options["export"], address, alias)
            except CommandError as error:
                raise CommandError(f"{error} Nothing was removed.") from None
            self.stdout.write(f"{count} messages were written to {options['export']}.")
        if not options["no_input"] and not _confirm(address, count):
            raise CommandError("Nothing was removed.")
        erased = erase(address, alias)
        self.stdout.write(
            f"{erased.deleted} messages were deleted; {erased.anonymised} that others"
            " got too were made anonymous."
        )


def _confirm(address: str, count: int) -> bool:
    question = f"Remove what is kept on {address} in {count} messages? Type 'yes': "
    try:
        return input(question).strip().lower() == "yes"
    except EOFError:
        return False
