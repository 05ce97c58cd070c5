"""The exceptions of the package.

::

    TurboSMTPError
    ├── MessageError (ValueError)        cannot be sent as written; not sent
    │   ├── InvalidAddress
    │   ├── UnsupportedFeature
    │   └── MessageTooLarge
    ├── APIError                         turboSMTP answered: not accepted
    │   ├── AuthenticationError          401
    │   ├── BadRequest                   400
    │   ├── NoCredit                     400 "nocredit"
    │   ├── Forbidden                    403
    │   ├── NotFound                     404
    │   ├── RateLimited (OSError)        429
    │   ├── ServerError (OSError)        5xx
    │   └── InvalidResponse              an unreadable answer
    ├── ConnectionFailed (OSError)       certainly not accepted
    ├── OutcomeUnknown                   may have been accepted
    ├── RecipientsRefused                all recipients are suppressed
    └── CancelSend                       raised by a pre_send receiver

Wrong settings raise ``django.core.exceptions.ImproperlyConfigured`` (for a mailer on
Django 6.1 and later, ``InvalidMailer``), which ``fail_silently`` does not hide.

An error is an ``OSError`` if and only if it is safe to send the message again:
django-mailer, and Celery's ``autoretry_for=(OSError,)``, send such messages again.

An error raised by ``send_messages()`` describes the result of the whole call in
``failures`` and ``sent_count``. A pickled error has no messages in its ``failures``:
they contain bodies, and often objects that cannot be pickled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence


class TurboSMTPError(Exception):
    """Base of every error raised for a message or an answer."""

    #: Whether it is safe, and can help, to send the same message again.
    retryable: bool = False

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        #: Pairs of message and error, in the order of the call.
        self.failures: Sequence[tuple[Any, BaseException]] = ()
        #: How many messages of the call were accepted.
        self.sent_count: int = 0

    def __str__(self) -> str:
        # OSError overrides __str__, and does not support a single argument.
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.__dict__ | {"failures": self._failures_without_messages()}
        return (_rebuild, (type(self), self.args, state))

    def _failures_without_messages(
        self,
    ) -> tuple[tuple[None, BaseException | None], ...]:
        # The first error of a call is also in its own failures. None represents it.
        return tuple((None, None if e is self else e) for _, e in self.failures)

    def __copy__(self) -> Self:
        clone: Self = _rebuild(type(self), self.args, dict(self.__dict__))
        return clone


def _rebuild(
    cls: type[TurboSMTPError], args: tuple[Any, ...], state: dict[str, Any]
) -> Any:
    # Do not call __init__, so that subclasses may have another signature.
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    failures: Any = error.failures
    error.failures = tuple((m, error if e is None else e) for m, e in failures)
    return error


class MessageError(TurboSMTPError, ValueError):
    """The message cannot be sent as written, and was not sent."""


class InvalidAddress(MessageError):
    """An address that is invalid, or that turboSMTP does not accept."""


class UnsupportedFeature(MessageError):
    """The message uses a feature that turboSMTP does not support."""


class MessageTooLarge(MessageError):
    """The message exceeds one of turboSMTP's size limits."""


class APIError(TurboSMTPError):
    """turboSMTP refused the request.

    ``status_code``: HTTP status (int). ``errors``: the server's messages (tuple of
    str). ``code``: its ``errorCode`` (int or None). ``details``: str. ``answer``: the
    beginning of the answer (str). It is not part of the exception's text, because a
    server may repeat the request.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status_code: int | None = None,
        errors: Sequence[str] = (),
        code: int | None = None,
        details: str = "",
        answer: str = "",
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.errors = tuple(errors)
        self.code = code
        self.details = details
        self.answer = answer


class AuthenticationError(APIError):
    """The credentials are wrong, or the account is inactive (401)."""


class BadRequest(APIError):
    """turboSMTP refused the fields of this message (400)."""


class NoCredit(APIError):
    """The account has no credit left (400 ``nocredit``)."""


class Forbidden(APIError):
    """The account's plan does not allow this (403)."""


class NotFound(APIError):
    """The requested resource does not exist (404)."""


class RateLimited(APIError, OSError):
    """Too many requests (429). ``retry_after``: seconds (float), or None."""

    retryable = True

    def __init__(
        self, message: str = "", *, retry_after: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(message, **kwargs)
        self.retry_after = retry_after


class ServerError(APIError, OSError):
    """turboSMTP failed (5xx).

    Raised for a send only after a 503 with ``Retry-After``, which was certainly not
    accepted; ``retry_after`` is its value in seconds. Any other 5xx answer to a send is
    only the cause of an `OutcomeUnknown`.
    """

    def __init__(
        self, message: str = "", *, retry_after: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(message, **kwargs)
        self.retry_after = retry_after
        self.retryable = retry_after is not None


class InvalidResponse(APIError):
    """An answer that turboSMTP's documentation does not describe."""


class ConnectionFailed(TurboSMTPError, OSError):
    """The request was not completely sent: certainly not accepted.

    ``connected``: whether there was a connection, which then broke (bool).
    """

    retryable = True

    def __init__(self, message: str = "", *, connected: bool = False) -> None:
        super().__init__(message)
        self.connected = connected


class OutcomeUnknown(TurboSMTPError):
    """The request was sent, but there was no readable answer: it may be accepted.

    Do not send such a message again before its outcome is known: it could arrive twice.
    So this is never an ``OSError``. ``reference_id``: the id to search for in
    turboSMTP's dashboard (str). If there was an answer, the ``__cause__`` contains it.
    """

    reference_id: str = ""


class RecipientsRefused(TurboSMTPError):
    """All recipients of the message are suppressed. ``recipients``: their addresses.

    They do not exist, have complained, or have unsubscribed. To send nevertheless, set
    the message's ``ignore_suppressions`` to True.
    """

    def __init__(self, message: str = "", *, recipients: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.recipients = tuple(recipients)


class CancelSend(TurboSMTPError):
    """Raise it in a ``pre_send`` receiver to cancel one message silently."""
