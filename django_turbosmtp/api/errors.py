"""Builds a typed exception for every documented error answer, including old forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django_turbosmtp._lib.clocks import Clock
from django_turbosmtp.exceptions import (
    APIError,
    AuthenticationError,
    BadRequest,
    Forbidden,
    InvalidResponse,
    NoCredit,
    NotFound,
    RateLimited,
    ServerError,
)

if TYPE_CHECKING:
    from django_turbosmtp.api.results import Response

_BY_STATUS: dict[int, type[APIError]] = {
    400: BadRequest,
    401: AuthenticationError,
    403: Forbidden,
    404: NotFound,
}
#: ``errorCode`` of v1 (docs/wire.rst, "Answers"), which any HTTP status may have.
_BY_CODE: dict[int, type[APIError]] = {
    1: AuthenticationError,
    2: AuthenticationError,
    3: AuthenticationError,
    4: NotFound,
    5: ServerError,
    7: Forbidden,
}
_LOGIN_MESSAGES = {
    "wrong_credentials_specified",
    "missing_authorization_key",
    "invalid_authorization_key",
    "account_is_inactive",
}
_NO_CREDIT = "nocredit"
_HINTS: dict[type[APIError], str] = {
    AuthenticationError: "Check {login} and that the account is active.",
    NoCredit: "Buy credit in turboSMTP's dashboard.",
    Forbidden: "The account's plan may not include this.",
    NotFound: "Check SEND_URL and API_URL.",
}
_MAX_TEXT = 500
_MAX_ANSWER = 2_000


def build_error(response: Response, *, place: str, login: str) -> APIError:
    """Return the exception for an answer that reports an error.

    ``place``: the host that answered, and the mailer. ``login``: the names of the
    credentials, and their source. Both are only used in the text.
    """
    data = response.data if isinstance(response.data, Mapping) else {}
    errors = tuple(_find_texts(response.data))
    # Older servers call it "error" in a 401.
    other = data.get("error") if response.status_code == 401 else None
    code = _read_integer(data.get("errorCode", other))
    cls = _choose_class(response, errors, code)
    words = "; ".join(errors)[:_MAX_TEXT] or _describe(response)
    details = str(data.get("details") or "")
    text = f"turboSMTP answered {response.status_code} ({place}): {words}"
    hint = _HINTS.get(cls, "").format(login=login)
    extra: dict[str, Any] = {}
    if issubclass(cls, (RateLimited, ServerError)):
        extra["retry_after"] = read_retry_after(response)
    return cls(
        f"{text.rstrip('.')}. {hint}".rstrip(),
        status_code=response.status_code,
        errors=errors,
        code=code,
        details=details,
        answer=response.text[:_MAX_ANSWER],
        **extra,
    )


def _choose_class(
    response: Response, errors: tuple[str, ...], code: int | None
) -> type[APIError]:
    status = response.status_code
    if _NO_CREDIT in errors and 200 <= status < 500:
        return NoCredit
    if status == 429:
        return RateLimited
    if status >= 500:
        return ServerError
    if status == 401 or _LOGIN_MESSAGES.intersection(errors):
        return AuthenticationError
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return APIError if 400 <= status < 500 else InvalidResponse


def _find_texts(data: Any) -> Iterator[str]:
    """Yield the server's messages from any nesting (docs/wire.rst, "Answers")."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, list):
        for item in data:
            yield from _find_texts(item)
    elif isinstance(data, Mapping):
        if data.get("message") != "error":
            yield from _find_texts(data.get("message"))
        yield from _find_texts(data.get("errors"))


def _read_integer(value: Any) -> int | None:
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else None


def _describe(response: Response) -> str:
    # Do not show the text: an error page of a proxy may repeat the request.
    kind = response.headers.get("Content-Type", "no content type")
    where = response.headers.get("Location")
    if where:
        # Do not show its path, which contains the password of a v1 login.
        host = urlsplit(where).netloc.rpartition("@")[2] or "another page of the host"
        return f"a redirect to {host}, which is not followed"
    return f"nothing readable ({len(response.text)} characters of {kind})"


def read_retry_after(response: Response) -> float | None:
    """Return the seconds of a ``Retry-After`` header (RFC 9110, 10.2.3), or None."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal() and len(value) < 10:
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if moment.tzinfo is None:  # "-0000" means UTC
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - Clock.time())
