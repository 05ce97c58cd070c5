"""Reads the log's rows with SQL, independently of Django."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_ROW = """
    SELECT message.id, message.outcome, message.status, message.mid, message.subject,
        message.from_email, message.reference_id, content.text, content.html
    FROM turbosmtp_message AS message
    LEFT JOIN turbosmtp_content AS content ON content.message_id = message.id
    WHERE message.mid = ?
"""
_RECIPIENTS = """
    SELECT kind, address, status, mid FROM turbosmtp_recipient
    WHERE message_id = ? ORDER BY position
"""
_ATTACHMENTS = """
    SELECT name, size, sha256 FROM turbosmtp_attachment
    WHERE message_id = ? ORDER BY position
"""


def find_rows(database: Path, mid: str) -> list[dict]:
    """Return the rows with this message id, each with recipients and attachments."""
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute(_ROW, [mid])]
        for row in rows:
            for name, query in (("to", _RECIPIENTS), ("attachments", _ATTACHMENTS)):
                row[name] = [tuple(r) for r in connection.execute(query, [row["id"]])]
        return rows


def count_statuses(database: Path) -> dict[str, int]:
    """Return the number of messages with each status."""
    query = "SELECT status, COUNT(*) FROM turbosmtp_message GROUP BY status"
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
        return dict(connection.execute(query))


def build_admin_url(site: str, row: dict) -> str:
    """Return the URL of the row's page in the admin."""
    digits = row["id"]
    ends = (8, 12, 16, 20, 32)
    parts = [digits[a:b] for a, b in zip((0, *ends), ends, strict=False)]
    return f"{site}/admin/turbosmtp/message/{'-'.join(parts)}/change/"
