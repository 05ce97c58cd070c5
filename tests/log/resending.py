"""Helpers for sending again."""

from __future__ import annotations

import json
from typing import Any

from django_turbosmtp.models import Message
from tests.log.test_detail import send
from tests.messages import new
from tests.serving import ACCEPT, REFUSE


def send_refused(wire: Any, *subjects: str, **fields: Any) -> list[Message]:
    """Send messages that are refused; then let the server accept."""
    wire.answer = REFUSE
    rows = [send(build(subject, **fields)) for subject in subjects]
    wire.answer = ACCEPT
    wire.seen.clear()
    return rows


def build(subject: str, *, tags: Any = (), **fields: Any) -> Any:
    message: Any = new(subject=subject, **fields)
    message.tags = list(tags)
    return message


def list_subjects(wire: Any) -> list[str]:
    """Return the subjects of the requests, in their order."""
    return [json.loads(body)["subject"] for _, _, body in wire.seen]
