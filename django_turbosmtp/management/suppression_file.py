"""Reads a file of suppressed addresses, exported by us or by another service.

It has one address on each line, or is CSV with a header, separated by commas,
semicolons or tabs. Lines that cannot be read are reported with their numbers; the
others are used.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from django_turbosmtp._lib.hashes import is_hash
from django_turbosmtp._lib.limits import MAX_ADDRESS_LENGTH, MAX_SOURCE_LENGTH
from django_turbosmtp._lib.text import read_cell, shorten
from django_turbosmtp._lib.times import make_aware, make_storable
from django_turbosmtp.exceptions import InvalidAddress
from django_turbosmtp.log.storable import Cleaner
from django_turbosmtp.models import Suppression
from django_turbosmtp.payload.addresses import parse
from django_turbosmtp.statuses import Reason
from django_turbosmtp.tracking.bounces import HARD, classify

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: The columns of our export.
COLUMNS = ("address", "reason", "source", "since", "note")

#: Names of columns, letters only: ours first, then those of Amazon SES, Brevo,
#: Mailchimp, Mailgun, Postmark, SendGrid, SparkPost, and turboSMTP.
_NAMES = {
    "address": ("address", "email", "emailaddress", "recipient", "to", "mail"),
    "reason": ("reason", "status", "type", "suppressionreason", "event", "category"),
    "source": ("source",),
    "since": (
        *("since", "created", "createdat", "date", "lastupdatetime", "updated"),
        *("timestamp", "time", "unsubtime", "createdon"),
    ),
    "note": ("note", "error", "description", "comment", "details", "message"),
}

#: Words for reasons, letters only.
_REASONS = {
    Reason.BOUNCED: (
        *("bounced", "bounce", "bounces", "hardbounce", "hardbounced", "invalid"),
        *("validationfailed", "blocked hard", "permanent", "undeliverable"),
    ),
    Reason.COMPLAINED: (
        *("complained", "complaint", "complaints", "spam", "spamreport", "abuse"),
        *("spamcomplaint", "spamnotification", "reportedasspam", "report"),
    ),
    Reason.UNSUBSCRIBED: (
        *("unsubscribed", "unsubscribe", "unsubscribes", "unsub", "optout"),
        *("optedout", "listunsubscribe", "globalunsubscribe"),
    ),
    Reason.MANUAL: ("manual", "manualsuppression", "manuallyadded", "block", "blocked"),
}
_REASON_BY_WORD = {word: reason for reason, ws in _REASONS.items() for word in ws}

#: A quoted cell has at most this many lines. Without a limit, a quotation mark that is
#: not closed would include the rest of the file.
_MAX_LINES = 50

#: Older times are errors.
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class BadLine:
    """A line that is not used. ``number`` counts from 1."""

    number: int
    problem: str

    def __str__(self) -> str:
        return f"Line {self.number}: {self.problem}"


def read_suppressions(
    lines: Iterable[str], reason: str
) -> Iterator[Suppression | BadLine]:
    """Yield a suppression or a `BadLine` for each line.

    ``reason``: for lines without a reason.
    """
    head: dict[int, str] | None = None
    separator = ","
    is_own = False
    for number, text in _join_lines(lines):
        if head is None:
            separator = max(",;\t", key=text.count)
            head = _read_head(_split(text, separator))
            is_own = "since" in map(_fold, _split(text, separator))
            if head:
                continue
        cells = _split(text, separator)
        entry: dict[str, list[str]] = {}
        for index, cell in enumerate(cells):
            name = head.get(index) if head else ("address", *[None] * index)[index]
            if name and cell:
                entry.setdefault(name, []).append(cell)
        if not any(cells):
            continue
        try:
            yield _build_row(entry, reason, is_own=is_own)
        except ValueError as error:
            yield BadLine(number=number, problem=str(error))


def build_suppression(address: str, reason: str, note: str) -> Suppression:
    """Return the row of an address. Raise ValueError if it is not an address."""
    return _build_row({"address": [address], "note": [note]}, reason, is_own=True)


def read_address(text: str) -> str:
    """Return an address as the list stores it. Raise ValueError."""
    # An export contains the hash of an erased address.
    if is_hash(text):
        return text
    try:
        address = parse(text, "address").addr_spec.lower()
    except InvalidAddress as error:
        raise ValueError(str(error)) from None
    if len(address) > MAX_ADDRESS_LENGTH:
        raise ValueError(
            f"{shorten(address)!r} has {len(address)} characters; an address has at"
            f" most {MAX_ADDRESS_LENGTH}."
        )
    return address


def _join_lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield each record with the number of its first line.

    A record continues until all quotation marks are closed.
    """
    waiting: list[tuple[int, str]] = []
    source = enumerate(lines, 1)
    queue: list[tuple[int, str]] = []
    while True:
        item = queue.pop(0) if queue else next(source, None)
        if item is not None:
            text = item[1].lstrip("\ufeff") if item[0] == 1 else item[1]
            waiting.append((item[0], text.replace("\0", "\u2400")))
        if not waiting:
            return
        joined = "".join(text for _, text in waiting)
        if joined.count('"') % 2 == 0:
            yield waiting[0][0], joined.rstrip("\r\n")
        elif item is not None and len(waiting) < _MAX_LINES:
            continue
        else:
            # The quotation mark is not closed: only its line is wrong.
            yield waiting[0][0], waiting[0][1].replace('"', "").rstrip("\r\n")
            queue = waiting[1:] + queue
        waiting = []


def _split(text: str, separator: str) -> list[str]:
    try:
        [cells] = csv.reader([text.replace("\r\n", "\n")], delimiter=separator)
    except (csv.Error, ValueError):
        # A line break within quotes, or a field of more than 128 KiB.
        cells = next(csv.reader(text.splitlines(keepends=True), delimiter=separator))
    return [read_cell(cell).strip() for cell in cells]


def _read_head(cells: list[str]) -> dict[int, str]:
    """Return our names of columns by index; empty if this is not a header."""
    head: dict[int, str] = {}
    for index, cell in enumerate(cells):
        word = _fold(cell)
        for name, others in _NAMES.items():
            if word in others:
                head[index] = name
    return head if "address" in head.values() else {}


def _fold(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.lower())


def _build_row(
    entry: dict[str, list[str]], reason: str, *, is_own: bool
) -> Suppression:
    clean = Cleaner().clean_text
    if "address" not in entry:
        raise ValueError("there is no address.")
    address = next(
        (text for text in entry["address"] if "@" in text or is_hash(text)),
        entry["address"][0],
    )
    found, rest = _read_reason(entry.get("reason", []))
    notes = [*entry.get("note", []), *rest]
    row = Suppression(
        address=read_address(address),
        reason=found or reason,
        source=clean((entry.get("source") or ["command"])[0])[:MAX_SOURCE_LENGTH],
        note=clean("\n".join(notes)),
    )
    for text in entry.get("since", [])[:1]:
        row.since = make_storable(_read_time(text, is_own=is_own))
    return row


def _read_reason(texts: list[str]) -> tuple[str | None, list[str]]:
    """Return the reason, or None, and the texts that are not a word for a reason."""
    words = {text: _REASON_BY_WORD.get(_fold(text)) for text in texts}
    rest = [text for text, reason in words.items() if reason is None]
    for found in words.values():
        if found is not None:
            return found, rest
    if any(classify(text).kind in HARD for text in rest):
        return Reason.BOUNCED, rest
    return None, rest


def _read_time(text: str, *, is_own: bool) -> datetime:
    moment = _parse_time(text, is_own=is_own)
    if moment is None:
        raise ValueError(
            f"{text!r} is not a time with a time zone, such as 2026-01-31T12:00Z."
        )
    # PostgreSQL would store such a time, but Django could not read the row.
    if not _EARLIEST < moment < datetime.now(UTC) + timedelta(days=1):
        raise ValueError(f"{text!r} is not between 1990 and today.")
    return moment


def _parse_time(text: str, *, is_own: bool) -> datetime | None:
    moment: Any = None
    try:
        if re.fullmatch(r"\d{9,10}(?:\.\d+)?", text):
            return datetime.fromtimestamp(float(text), UTC)
        moment = parse_datetime(text)
        if moment is None and re.match(r"[A-Za-z]{3},? ", text):
            moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # Such as the 31st of February.
        return None
    if moment is None:
        return None
    if timezone.is_naive(moment) and settings.USE_TZ:
        # All times in our export have a time zone.
        return None if is_own else moment.replace(tzinfo=UTC)
    return make_aware(moment)
