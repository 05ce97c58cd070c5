"""Every error of the package, as one tree.

::

    TurboSMTPError
    ├── MessageError (ValueError)        cannot be sent as written; nothing left
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
    │   └── InvalidResponse              an answer nobody can read
    ├── ConnectionFailed (OSError)       certainly not accepted
    ├── OutcomeUnknown                   may have been accepted
    ├── RecipientsRefused                all recipients are suppressed
    └── CancelSend                       raised by a pre_send receiver

Wrong configuration is ``django.core.exceptions.ImproperlyConfigured`` (on Django
6.1 and later ``InvalidMailer``) and stays outside, so that ``fail_silently``
cannot hide it.

An error is an ``OSError`` exactly if sending the message again is safe: django-mailer,
relays and Celery's ``autoretry_for=(OSError,)`` send such messages again.

An error of a ``send_messages()`` call carries what happened to the whole call in
``failures`` and ``sent_count``. Pickling drops the messages from ``failures``:
they hold bodies, and often objects that cannot be pickled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence


class TurboSMTPError(Exception):
    """Base of every error raised for a message or an answer."""

    #: Whether sending the same message again can be safe and of use.
    retryable: bool = False

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        #: Pairs of message and error, in the order of the call.
        self.failures: Sequence[tuple[Any, BaseException]] = ()
        #: How many messages of the call were accepted.
        self.sent_count: int = 0

    def __str__(self) -> str:
        # OSError has a __str__ of its own, which knows nothing of one argument.
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.__dict__ | {"failures": self._failures_without_messages()}
        return (_rebuild, (type(self), self.args, state))

    def _failures_without_messages(
        self,
    ) -> tuple[tuple[None, BaseException | None], ...]:
        # The first error of a call stands in its own failures; None stands for it.
        return tuple((None, None if e is self else e) for _, e in self.failures)

    def __copy__(self) -> Self:
        clone: Self = _rebuild(type(self), self.args, dict(self.__dict__))
        return clone


def _rebuild(
    cls: type[TurboSMTPError], args: tuple[Any, ...], state: dict[str, Any]
) -> Any:
    # Not through __init__, so that a subclass may have any signature it likes.
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    failures: Any = error.failures
    error.failures = tuple((m, error if e is None else e) for m, e in failures)
    return error


class MessageError(TurboSMTPError, ValueError):
    """The message cannot be sent as written; nothing has left."""


class InvalidAddress(MessageError):
    """An address that turboSMTP cannot take."""


class UnsupportedFeature(MessageError):
    """Something turboSMTP has no field for."""


class MessageTooLarge(MessageError):
    """The whole message is over turboSMTP's limit."""


class APIError(TurboSMTPError):
    """turboSMTP answered that it did not do what was asked.

    ``status_code``: HTTP status (int). ``errors``: the server's own words, flat
    (tuple of str). ``code``: its ``errorCode`` (int or None). ``details``: str.
    ``answer``: the beginning of what came back, as text (str). It stands in no error
    message, since a server may repeat what it was sent.
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
    """What was asked for is not there (404)."""


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
    """An answer that is not what turboSMTP's documents promise."""


class ConnectionFailed(TurboSMTPError, OSError):
    """No whole request reached turboSMTP: certainly not accepted.

    ``connected``: whether there was a connection, which then broke (bool).
    """

    retryable = True

    def __init__(self, message: str = "", *, connected: bool = False) -> None:
        super().__init__(message)
        self.connected = connected


class OutcomeUnknown(TurboSMTPError):
    """The request left, and no readable answer arrived: it may have been accepted.

    Do not send such a message again, by hand or by program, before its outcome is
    settled: it could arrive twice. So this is not an ``OSError``, whatever its cause.
    ``reference_id``: what to look for in turboSMTP's dashboard (str). The cause holds
    the answer, if any.
    """

    reference_id: str = ""


class RecipientsRefused(TurboSMTPError):
    """No recipient of the message may be written to. ``recipients``: addresses.

    All are on the list of suppressed addresses: they do not exist, have complained, or
    want no mail. A message whose ``ignore_suppressions`` is true goes all the same.
    """

    def __init__(self, message: str = "", *, recipients: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.recipients = tuple(recipients)


class CancelSend(TurboSMTPError):
    """Raise it in a ``pre_send`` receiver to cancel one message silently."""
