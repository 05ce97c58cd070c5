"""The event webhook, to which turboSMTP posts events (docs/wire.rst).

It refuses all requests unless a secret is set. It answers 2xx after the events are
stored, or 500 if that fails, so that turboSMTP sends them again.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hmac
import io
import zlib
from typing import TYPE_CHECKING

from django.contrib.auth.decorators import login_not_required
from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt

from django_turbosmtp._lib.interrupts import raise_as_it_was, raise_interrupt
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp.conf.log import choose_log_database
from django_turbosmtp.conf.webhook import read_webhook_secrets
from django_turbosmtp.log.connection import exempt_from_atomic_requests
from django_turbosmtp.signals import ESP_NAME, tracking
from django_turbosmtp.tracking.events import MalformedBody, TooManyEvents, read_body
from django_turbosmtp.tracking.record import read_data, record_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.http import HttpRequest

logger = get_logger("django_turbosmtp.tracking")

#: Refuse larger bodies. This is enough for about ten thousand events.
MAX_BODY_BYTES = 5 * 2**20


class _Answer(Exception):  # noqa: N818 - an answer, not a failure
    """Refuses a request. The text is the answer, and is logged."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


# A 2xx answer means that the events are committed.
@exempt_from_atomic_requests
@csrf_exempt
@login_not_required
@raise_as_it_was
def webhook(request: HttpRequest) -> HttpResponse:
    """Store the events of a POST. A GET reports whether the URL and password are right.

    Both check the password in the same way, so you can test the webhook by opening its
    URL in a browser.
    """
    if request.method not in {"GET", "HEAD", "POST"}:
        response = _answer(405, "POST only.")
        response["Allow"] = "GET, HEAD, POST"
        return response
    try:
        _authorize(request, read_webhook_secrets())
        if request.method != "POST":
            return _answer(200, "This is the event webhook. turboSMTP posts here.")
        stored = _store(_read(request))
    except _Answer as answer:
        logger.warning("A webhook request was refused: %s", answer)
        response = _answer(answer.status, str(answer))
        if answer.status == 401:
            response["WWW-Authenticate"] = 'Basic realm="turboSMTP"'
        return response
    except Exception as error:
        raise_interrupt(error)
        logger.exception("Events of a webhook request could not be stored.")
        return _answer(500, "Not stored. Send it again.")
    return _answer(200, f"{stored} events.")


def _answer(status: int, text: str) -> HttpResponse:
    response = HttpResponse(f"{text}\n", status=status, content_type="text/plain")
    response["Cache-Control"] = "no-store"
    return response


def _authorize(request: HttpRequest, secrets: Sequence[str]) -> None:
    """Raise `_Answer` unless the password is right; its text has no credentials."""
    if not secrets:
        raise _Answer(403, "WEBHOOK_SECRET is not set: the webhook is closed.")
    given = request.headers.get("Authorization", "")
    if not given:
        raise _Answer(401, "There are no credentials.")
    scheme, _, encoded = given.partition(" ")
    if scheme.lower() != "basic":
        raise _Answer(401, "The credentials are not HTTP Basic.")
    try:
        pair = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise _Answer(401, "The credentials cannot be read.") from None
    # Compare all of them, so that the time does not reveal which one is similar.
    matches = [hmac.compare_digest(pair, secret.encode()) for secret in secrets]
    if not any(matches):
        raise _Answer(401, "The credentials are wrong.")
    logger.debug("A webhook request has the right credentials.")


def _read(request: HttpRequest) -> bytes:
    length = request.headers.get("Content-Length", "")
    if length.isdecimal() and int(length[:20]) > MAX_BODY_BYTES:
        raise _Answer(413, "The body is too large.")
    try:
        body = _read_stream(request)
    except OSError as error:
        raise_interrupt(error)
        raise _Answer(400, "The body is incomplete.") from None
    # For middleware that reads request.body after this view. Django would refuse that,
    # and the 500 would make turboSMTP post the stored events again.
    request._body = body
    if len(body) > MAX_BODY_BYTES:
        raise _Answer(413, "The body is too large.")
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding in {"", "identity"}:
        return body
    if encoding not in {"gzip", "x-gzip"}:
        raise _Answer(
            415, f"The body has the encoding {encoding[:20]!r}; only gzip is supported."
        )
    return _decompress(body)


def _read_stream(request: HttpRequest) -> bytes:
    """Return the body, or its first bytes if it is too large.

    Not ``request.body``, which DATA_UPLOAD_MAX_MEMORY_SIZE limits.
    """
    is_chunked = "chunked" in request.headers.get("Transfer-Encoding", "").lower()
    environ = getattr(request, "environ", None)
    if not is_chunked or environ is None:
        return request.read(MAX_BODY_BYTES + 1)
    # Without a length, Django's WSGIRequest has no body. If a server sets this flag, as
    # gunicorn does, the stream ends after the last chunk.
    if not environ.get("wsgi.input_terminated"):
        raise _Answer(
            411, "This server does not support chunked bodies: send Content-Length."
        )
    body: bytes = environ["wsgi.input"].read(MAX_BODY_BYTES + 1)
    return body


def _decompress(body: bytes) -> bytes:
    """Return the content of all members of a gzip file (RFC 1952, 2.2)."""
    try:
        plain = gzip.GzipFile(fileobj=io.BytesIO(body)).read(MAX_BODY_BYTES + 1)
    except (gzip.BadGzipFile, zlib.error):
        raise _Answer(400, "The body is not gzip.") from None
    except EOFError:
        raise _Answer(400, "The body is incomplete.") from None
    if len(plain) > MAX_BODY_BYTES:
        raise _Answer(413, "The body is too large.")
    return plain


def _store(body: bytes) -> int:
    try:
        events = read_body(body)
    except MalformedBody as error:
        raise _Answer(400, str(error)) from None
    except TooManyEvents as error:
        raise _Answer(413, str(error)) from None
    alias = choose_log_database()
    new = record_events(events, alias)
    if tracking.has_listeners():
        for event in read_data(new, alias):
            # Exceptions of receivers are only logged: the events are stored, so
            # turboSMTP does not need to send them again.
            tracking.send_robust(sender=webhook, event=event, esp_name=ESP_NAME)
    return len(events)
