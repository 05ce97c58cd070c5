"""A backend for tests, which does everything except send."""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, Any

from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend

from django_turbosmtp.api.body import Body
from django_turbosmtp.api.client import Client
from django_turbosmtp.api.results import Response, SendResult
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.conf.keys import CREDENTIALS
from django_turbosmtp.conf.settings import merge_options
from django_turbosmtp.payload.addresses import parse_list
from django_turbosmtp.statuses import Outcome
from django_turbosmtp.testing.outcomes import FAILURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from django_turbosmtp.conf.settings import Credentials, Settings

_mids = itertools.count(10**18)


class OutboxBackend(EmailBackend):
    """Stores accepted messages in ``django.core.mail.outbox`` and does not send them.

    Translation and its errors, ``turbosmtp_status``, the signals, RECIPIENT_GUARD and
    the log work as in production. It needs no credentials and never tries again, so the
    caller gets the error that the test has chosen. With ``QUEUE``, messages do not
    wait: they are in the outbox at once, with their final outcome.
    """

    needs_credentials = False
    # Tests read the outbox at once, and most tests never commit.
    stores_messages = False

    def __init__(self, fail_silently: bool = False, **options: Any) -> None:
        own = {name: value for name, value in options.items() if name.islower()}
        version = merge_options(own).get("API_VERSION", 2)
        pair = CREDENTIALS.get(version, CREDENTIALS[2])
        options |= {name.lower(): "test" for name in pair}
        options["max_retries"] = 0
        super().__init__(fail_silently, **options)
        if not hasattr(mail, "outbox"):
            mail.outbox = []

    def send_messages(self, email_messages: Iterable[Any]) -> int:
        """Process messages as in production, and store accepted ones in the outbox."""
        seen: list[Any] = []

        def draw() -> Iterator[Any]:
            for message in email_messages:
                seen.append(message)
                yield message

        if not email_messages:
            return 0
        try:
            return super().send_messages(draw())
        finally:
            for message in seen:
                status = getattr(message, "turbosmtp_status", None)
                if status is not None and status.outcome == Outcome.ACCEPTED:
                    kept = _copy_message(message)
                    kept.sent_using = self.settings.alias
                    mail.outbox.append(kept)

    def _build_client(self, credentials: Credentials) -> Client:  # noqa: ARG002
        return _OutboxClient(self.settings)


def _copy_message(message: Any) -> Any:
    """Return a copy that shares the message's connection.

    An open connection has locks, which cannot be copied. ``message.connection`` is not
    used, because it is deprecated in Django 6.1.
    """
    values = getattr(message, "__dict__", {}).values()
    shared = {id(v): v for v in values if isinstance(v, BaseEmailBackend)}
    return copy.deepcopy(message, shared)


class _OutboxBody(Body):
    """A body with the addresses of its recipients."""

    __slots__ = ("addresses",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.addresses = {
            mailbox.addr_spec.lower()
            for name in ("to", "cc", "bcc")
            for mailbox in parse_list(fields.get(name, ""), name)
        }


class _OutboxClient(Client):
    """Accepts all requests, except those for which the test has chosen an error."""

    def __init__(self, settings: Settings) -> None:
        # There is no session, because no request is made.
        super().__init__(None, settings, None)  # type: ignore[arg-type]

    def prepare(self, fields: Mapping[str, Any]) -> Body:
        return _OutboxBody(fields)

    def send(self, body: Body) -> SendResult:
        error = FAILURES.take(getattr(body, "addresses", ()))
        if error is not None:
            raise error
        mid = str(next(_mids))
        data = {"message": "OK", "mid": int(mid)}
        text = f'{{"message":"OK","mid":{mid}}}'
        response = Response(status_code=200, headers={}, text=text, data=data)
        return SendResult(message_id=mid, response=response)
