"""List, add, remove, import and export suppressed addresses."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from django.core.management.base import BaseCommand, CommandError

from django_turbosmtp._lib.interrupts import raise_interrupt
from django_turbosmtp._lib.text import write_cell
from django_turbosmtp._lib.times import make_aware
from django_turbosmtp.conf.log import choose_log_database
from django_turbosmtp.log.suppressions import lift
from django_turbosmtp.management.suppression_file import (
    COLUMNS,
    BadLine,
    build_suppression,
    read_address,
    read_suppressions,
)
from django_turbosmtp.models import Suppression
from django_turbosmtp.statuses import Reason

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterable

_CHUNK = 1_000


class Command(BaseCommand):
    """Has a subcommand for each of these."""

    help = "List, add, remove, import and export suppressed addresses."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Define the subcommands."""
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="print them, the newest first")
        listing.add_argument("--reason", choices=list(Reason))
        adding = actions.add_parser("add", help="stop sending to these addresses")
        adding.add_argument("address", nargs="+")
        adding.add_argument("--reason", choices=list(Reason), default=Reason.MANUAL)
        adding.add_argument("--note", default="")
        removing = actions.add_parser("remove", help="allow these addresses again")
        removing.add_argument("address", nargs="+")
        importing = actions.add_parser(
            "import", help="add those from a CSV file, or a file with one on each line"
        )
        importing.add_argument("path", help='the file, or "-" for standard input')
        importing.add_argument("--reason", choices=list(Reason), default=Reason.MANUAL)
        exporting = actions.add_parser("export", help="write all as CSV")
        exporting.add_argument("path", help='a new file, or "-" for standard output')

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run the subcommand."""
        alias = choose_log_database()
        self._rows = Suppression.objects.using(alias)
        getattr(self, f"_{options['action']}")(**options)

    def _list(self, *, reason: str | None, **_options: Any) -> None:
        rows = self._rows.filter(reason=reason) if reason else self._rows.all()
        for row in rows.iterator(_CHUNK):
            self.stdout.write(f"{row.address}\t{row.reason}\t{row.since:%Y-%m-%d}")

    def _add(
        self, *, address: list[str], reason: str, note: str, **_options: Any
    ) -> None:
        found: list[Suppression | BadLine] = []
        for number, text in enumerate(address, 1):
            try:
                found.append(build_suppression(text, reason, note))
            except ValueError as error:
                found.append(BadLine(number=number, problem=str(error)))
        self._keep(found)

    def _remove(self, *, address: list[str], **_options: Any) -> None:
        try:
            names = {read_address(one) for one in address}
        except ValueError as error:
            raise CommandError(str(error)) from None
        removed = lift(names, self._rows.db)
        self.stdout.write(f"{removed} of {len(names)} were removed from the list.")

    def _import(self, *, path: str, reason: str, **_options: Any) -> None:
        try:
            # A byte that is not UTF-8 only damages its line, not the file.
            if path == "-":
                binary = getattr(sys.stdin, "buffer", None)
                lines: Iterable[str] = sys.stdin
                if binary is not None:
                    lines = io.TextIOWrapper(binary, "utf-8-sig", "replace", "")
                self._keep(read_suppressions(lines, reason))
                return
            with Path(path).open(
                encoding="utf-8-sig", errors="replace", newline=""
            ) as file:
                self._keep(read_suppressions(file, reason))
        except OSError as error:
            raise_interrupt(error)
            raise CommandError(f"{path} cannot be read: {error}") from None

    def _export(self, *, path: str, **_options: Any) -> None:
        if path == "-":
            self._write(self.stdout)  # type: ignore[arg-type]
            return
        try:
            with Path(path).open("x", encoding="utf-8", newline="") as file:
                self._write(file)
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}") from None

    def _write(self, file: TextIO) -> None:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in self._rows.iterator(_CHUNK):
            values = [
                row.address,
                row.reason,
                row.source,
                make_aware(row.since).isoformat(),
            ]
            writer.writerow([write_cell(value) for value in (*values, row.note)])

    def _keep(self, found: Iterable[Suppression | BadLine]) -> None:
        """Add the rows, then report the lines that could not be read."""
        before = self._rows.count()
        chunk: list[Suppression] = []
        wrong: list[BadLine] = []
        read = 0
        for item in found:
            if isinstance(item, BadLine):
                wrong.append(item)
                continue
            read += 1
            chunk.append(item)
            if len(chunk) == _CHUNK:
                self._rows.bulk_create(chunk, ignore_conflicts=True)
                chunk = []
        self._rows.bulk_create(chunk, ignore_conflicts=True)
        added = self._rows.count() - before
        self.stdout.write(f"{added} were added; {read - added} were already listed.")
        if wrong:
            shown = "\n".join(map(str, wrong))
            raise CommandError(f"{len(wrong)} could not be read:\n{shown}")
