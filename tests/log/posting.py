"""Posts events to the webhook, as turboSMTP does."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

from django.test import Client

from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.models import (
    Message,
)
from tests.messages import new

URL = "/turbosmtp/webhook/"


SECRET = "hunter2:password"


def build_login(pair: str = SECRET, scheme: str = "Basic") -> str:
    return f"{scheme} {base64.b64encode(pair.encode()).decode()}"


def post(body: Any, login: str | None = None, **headers: str) -> Any:
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    headers["Authorization"] = build_login() if login is None else login
    if login == "":
        del headers["Authorization"]
    return Client(enforce_csrf_checks=True).post(
        URL, body, content_type="application/json", headers=headers
    )


def tell(*events: dict[str, Any]) -> None:
    answer = post(list(events))
    assert answer.status_code == 200, answer.content


_numbers = itertools.count(1)


def build(status: str, row: Message | None = None, **changes: Any) -> dict[str, Any]:
    """Return an event as turboSMTP posts it."""
    number = next(_numbers)
    event = {
        "id": str(number),
        "mid": row.mid if row else "5520621607",
        "status": status,
        "email": row.first_recipient if row else "x@y.com",
        "subject": None,
        "timestamp": 1_790_000_000 + number,
    }
    return {name: v for name, v in (event | changes).items() if v is not ...}


def send(*messages: Any, **options: Any) -> list[Message]:
    EmailBackend(fail_silently=True, **options).send_messages(list(messages) or [new()])
    return list(Message.objects.order_by("created_at", "id"))


def statuses(row: Message) -> list[str]:
    return list(row.recipients.order_by("position").values_list("status", flat=True))


def is_json(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), (dict, list))
    except (ValueError, RecursionError):
        return False
