"""Write all data about one person in the log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from django_turbosmtp.conf.log import choose_log_database
from django_turbosmtp.log.person_export import write_export
from django_turbosmtp.management.exporting import export_to, read_address

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Does not change any data."""

    help = (
        "Write all data about the person with this address, as JSON: messages,"
        " attachments, events, suppression. The log is not changed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Define the address and ``--output``."""
        parser.add_argument("address", help="the person's e-mail address")
        parser.add_argument(
            "--output",
            type=Path,
            metavar="PATH",
            help="write to this new file instead of standard output",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Write the document."""
        address = read_address(options["address"])
        alias = choose_log_database()
        if options["output"]:
            export_to(options["output"], address, alias)
            self.stdout.write(f"Written to {options['output']}.")
            return
        for piece in write_export(address, alias):
            self.stdout.write(piece, ending="")
