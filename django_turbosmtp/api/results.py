"""turboSMTP's answers, as frozen values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django_turbosmtp._lib.secrets import Secret


@dataclass(frozen=True, kw_only=True)
class Response:
    """One HTTP answer. Unlike the class of requests, it has no reference to the
    request, which contains credentials.

    ``data``: the parsed JSON, or None if the body is not JSON.
    """

    status_code: int
    # Hidden in the repr, because a server may repeat the request.
    headers: Mapping[str, str] = field(repr=False)
    text: str = field(repr=False)
    data: Any = field(default=None, repr=False)

    def json(self) -> Any:
        """Return the parsed body; django-anymail's users expect this method."""
        return self.data


@dataclass(frozen=True, kw_only=True)
class SendResult:
    """An accepted send. ``message_id``: exact digits; None in API v1."""

    message_id: str | None
    response: Response


@dataclass(frozen=True, kw_only=True)
class Login:
    """An authorization key. In v2 it expires after two hours, unless ``no_expire``."""

    key: Secret = field(repr=False)


def parse_json(text: str) -> Any:
    """Return the value of a JSON text, or None if it is not JSON."""
    # A float would change the digits of an id; Python's ints are exact.
    try:
        return json.loads(text, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None
