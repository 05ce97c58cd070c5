"""Writes the file of `turbosmtp_export` and ``turbosmtp_erase --export``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from django.core.management.base import CommandError

from django_turbosmtp._lib.interrupts import raise_interrupt
from django_turbosmtp.log.person_export import write_export

if TYPE_CHECKING:
    from pathlib import Path


def read_address(text: str) -> str:
    """Return an address without spaces. Raise CommandError if it has no "@"."""
    address = text.strip()
    if "@" not in address:
        raise CommandError(f"{address!r} is not an e-mail address.")
    return address


def export_to(path: Path, address: str, alias: str) -> None:
    """Write all data about a person to a new file.

    Only this user can read it. An existing file is not replaced: raise CommandError.
    """
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        raise_interrupt(error)
        raise CommandError(f"{path} cannot be written: {error.strerror}.") from None
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        for piece in write_export(address, alias):
            file.write(piece)
