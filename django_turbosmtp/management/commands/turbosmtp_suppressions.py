"""List, add, remove, import and export who is not written to."""

from __future__ import annotations

import csv
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from django_turbosmtp._lib.hashes import is_hash
from django_turbosmtp._lib.limits import MAX_ADDRESS_LENGTH, MAX_SOURCE_LENGTH
from django_turbosmtp._lib.text import shorten
from django_turbosmtp._lib.times import make_aware, make_storable
from django_turbosmtp.conf.log import choose_log_database
from django_turbosmtp.exceptions import InvalidAddress
from django_turbosmtp.log.storable import Cleaner
from django_turbosmtp.log.suppressions import lift
from django_turbosmtp.models import Suppression
from django_turbosmtp.payload.addresses import parse
from django_turbosmtp.statuses import Reason

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterable, Iterator

COLUMNS = ("address", "reason", "source", "since", "note")
_CHUNK = 1_000

#: No suppression is older.
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)


class Command(BaseCommand):
    """Works on the list of suppressed addresses."""

    help = "List, add, remove, import and export suppressed addresses."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Define a subcommand for each."""
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="print them, the newest first")
        listing.add_argument("--reason", choices=list(Reason))
        adding = actions.add_parser("add", help="write to these no more")
        adding.add_argument("address", nargs="+")
        adding.add_argument("--reason", choices=list(Reason), default=Reason.MANUAL)
        adding.add_argument("--note", default="")
        removing = actions.add_parser("remove", help="write to these again")
        removing.add_argument("address", nargs="+")
        importing = actions.add_parser(
            "import", help="add those of a CSV file, or of a file with one on each line"
        )
        importing.add_argument("path", help='the file, or "-" for standard input')
        importing.add_argument("--reason", choices=list(Reason), default=Reason.MANUAL)
        exporting = actions.add_parser("export", help="write all as CSV")
        exporting.add_argument("path", help='a new file, or "-" for standard output')

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do what the subcommand says."""
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
        self._keep({"address": a, "reason": reason, "note": note} for a in address)

    def _remove(self, *, address: list[str], **_options: Any) -> None:
        names = {_read_address(one) for one in address}
        removed = lift(names, self._rows.db)
        self.stdout.write(f"{removed} of {len(names)} were removed from the list.")

    def _import(self, *, path: str, reason: str, **_options: Any) -> None:
        if path == "-":
            self._keep(_read_rows(sys.stdin, reason))
            return
        try:
            with Path(path).open(encoding="utf-8-sig", newline="") as file:
                self._keep(_read_rows(file, reason))
        except (OSError, UnicodeDecodeError) as error:
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
            writer.writerow([*values, row.note])

    def _keep(self, entries: Iterable[dict[str, str]]) -> None:
        """Add what is right, and then tell of what is not."""
        before = self._rows.count()
        chunk: list[Suppression] = []
        wrong: list[str] = []
        read = 0
        for entry in entries:
            read += 1
            try:
                chunk.append(_build_row(entry))
            except (CommandError, ValueError) as error:
                wrong.append(str(error))
            if len(chunk) == _CHUNK:
                self._rows.bulk_create(chunk, ignore_conflicts=True)
                chunk = []
        self._rows.bulk_create(chunk, ignore_conflicts=True)
        added = self._rows.count() - before
        self.stdout.write(
            f"{added} were added; {read - len(wrong) - added} were there already."
        )
        if wrong:
            shown = "\n".join(wrong[:20])
            raise CommandError(f"{len(wrong)} could not be read:\n{shown}")


def _read_rows(file: TextIO, reason: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file with a heading, or of one with addresses alone."""
    lines = csv.reader(file)
    head: list[str] | None = None
    for line in lines:
        cells = [cell.strip() for cell in line]
        if not any(cells):
            continue
        if head is None:
            names = [cell.lower() for cell in cells]
            head = names if "address" in names or "email" in names else []
            if head:
                continue
        entry = dict(zip(head, cells, strict=False)) if head else {"address": cells[0]}
        entry.setdefault("address", entry.get("email", ""))
        if entry.get("reason") not in set(Reason):
            entry["reason"] = reason
        yield entry


def _build_row(entry: dict[str, str]) -> Suppression:
    clean = Cleaner().clean_text
    row = Suppression(
        address=_read_address(entry["address"]),
        reason=entry["reason"],
        source=clean(entry.get("source") or "command")[:MAX_SOURCE_LENGTH],
        note=clean(entry.get("note", "")),
    )
    if since := entry.get("since"):
        try:
            moment = parse_datetime(since)
        except ValueError:  # the 31st of February
            moment = None
        if moment is None or (timezone.is_naive(moment) and settings.USE_TZ):
            raise ValueError(
                f"{since!r} is no time with a zone, such as 2026-01-31T12:00Z."
            )
        # PostgreSQL stores such a time, and Django can then not read the row.
        if not _EARLIEST < make_aware(moment) < datetime.now(UTC) + timedelta(days=1):
            raise ValueError(f"{since!r} is not between 1990 and today.")
        row.since = make_storable(make_aware(moment))
    return row


def _read_address(text: str) -> str:
    # An export has the hash of an erased address.
    if is_hash(text):
        return text
    try:
        address = parse(text, "address").addr_spec.lower()
    except InvalidAddress as error:
        raise CommandError(str(error)) from None
    if len(address) > MAX_ADDRESS_LENGTH:
        raise CommandError(
            f"{shorten(address)!r} has {len(address)} characters; an address has at"
            f" most {MAX_ADDRESS_LENGTH}."
        )
    return address
