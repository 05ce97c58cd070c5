"""The e-mail backend."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.mail.backends.base import BaseEmailBackend
from django.db import DatabaseError
from django.utils.module_loading import import_string

from django_turbosmtp._lib.interrupts import raise_as_it_was
from django_turbosmtp._lib.secrets import hide
from django_turbosmtp._lib.versions import (
    HAS_MAILERS,
    build_backend_kwargs,
    build_configuration_error,
    get_mailer,
    list_mailers,
    names_passed_by_django,
)
from django_turbosmtp.conf.accounts import Account
from django_turbosmtp.conf.problems import describe_unknown_option
from django_turbosmtp.conf.settings import OPTION_NAMES, hide_secrets, load
from django_turbosmtp.delivery.engine import Engine
from django_turbosmtp.delivery.guard import build_guard
from django_turbosmtp.delivery.prepare import Preparer
from django_turbosmtp.delivery.windows import send_in_windows
from django_turbosmtp.exceptions import TurboSMTPError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django_turbosmtp.api.client import Client
    from django_turbosmtp.api.session import Session
    from django_turbosmtp.conf.settings import Credentials, Settings
    from django_turbosmtp.delivery.windows import Delivery
    from django_turbosmtp.queue.store import QueueStore

#: Workers do not need these settings.
_ONLY_FOR_CALLERS = {"queue", "webhook_secret", "login_source"}

#: Keep at least this many connections per process and host: urllib3 logs a warning if
#: more threads of a server send at the same time.
_POOL_SIZE = 32


class EmailBackend(BaseEmailBackend):
    """Sends Django's messages through turboSMTP's API."""

    #: Whether ``manage.py check`` reports missing credentials.
    needs_credentials = True
    #: Whether messages are stored for a worker if the settings have a queue.
    stores_messages = True

    def __init__(
        self,
        fail_silently: bool = False,
        *,
        alias: str | None = None,
        username: str | None = None,
        password: str | None = None,
        **options: Any,
    ) -> None:
        """Accept the keys of ``settings.TURBOSMTP``, in lower case, as options.

        ``username`` and ``password`` (of ``send_mail(auth_user=...,
        auth_password=...)``) are the consumer key and secret, or in API v1 the
        account's e-mail address and password. Raise ImproperlyConfigured for wrong
        settings (InvalidMailer for a mailer of MAILERS).
        """
        username, password = hide(username), hide(password)
        own = {name: options.pop(name) for name in OPTION_NAMES & options.keys()}
        own = hide_secrets(own)
        login = {"username": username or None, "password": password or None}
        if alias is not None and not login.keys() & names_passed_by_django(options):
            options |= {name: value for name, value in login.items() if value}
            login = {}
        if options and not HAS_MAILERS:
            # Django before 6.1 silently ignores unknown options.
            raise build_configuration_error(
                " ".join(describe_unknown_option(next(iter(options))))
            )
        super().__init__(**build_backend_kwargs(alias=alias, unknown=options))
        self.fail_silently = fail_silently
        self.settings: Settings = load(own, alias=alias, **login)
        self.guard = build_guard(self.settings.recipient_guard, alias=alias)
        self._has_arguments = bool(own or any(login.values()))
        self._session: Session | None = None

    def open(self) -> bool:
        """Keep one session until `close`; return whether it is a new one.

        No connection is opened before the first message.
        """
        if self._session is not None:
            return False
        self._session = self._share_session()
        return True

    def close(self) -> None:
        """Release the session of `open`, if there is one."""
        self._session = None

    def _share_session(self) -> Session:
        # Imported late: most processes of a site send no mail, so need no requests.
        from django_turbosmtp.api.shared import share_session

        # There may be more than MAX_CONNECTIONS threads that send one message each.
        size = max(self.settings.max_connections, _POOL_SIZE)
        return share_session(self.settings.send_url, pool_size=size)

    @raise_as_it_was
    def send_messages(self, email_messages: Iterable[Any]) -> int:
        """Send any iterable of messages, and return how many were accepted.

        Every message is tried, and its ``turbosmtp_status`` is set, before the first
        error is raised, with ``failures`` and ``sent_count``. ``fail_silently`` hides
        every `TurboSMTPError`, but they are logged.
        """
        if not email_messages:
            return 0
        if self.settings.queue and self.stores_messages:
            delivery = self._build_store().store(email_messages, self._is_reported)
        else:
            delivery = send_in_windows(
                email_messages, self.build_engine(), is_reported=self._is_reported
            )
        if delivery.failures or delivery.cut_short_by is not None:
            raise _build_failure(delivery)
        return delivery.accepted

    def build_engine(self, *, shares_pauses: bool = False) -> Engine:
        """Return an engine with the settings of this backend.

        ``shares_pauses``: for a worker of the queue (see `delivery.engine.Engine`).
        Raise ImproperlyConfigured if a callable does not return a valid credential.
        """
        credentials = self.settings.credentials()
        return Engine(
            client=self._build_client(credentials),
            settings=self.settings,
            sender=type(self),
            account=Account(user=credentials.user),
            guard=self.guard,
            shares_pauses=shares_pauses,
        )

    def _build_store(self) -> QueueStore:
        """Return an object that stores messages in the queue."""
        # Imported late: models cannot be imported if the app is not installed.
        from django_turbosmtp.queue.store import QueueStore

        preparer = Preparer(settings=self.settings, sender=type(self), guard=self.guard)
        account = Account(user=self.settings.credentials().user)
        if self._has_arguments:
            self._require_same_worker()
        return QueueStore(self.settings, account, preparer)

    def _require_same_worker(self) -> None:
        """Raise ImproperlyConfigured if workers would send with other settings.

        They create the backend from the settings, without the arguments of this one.
        """
        theirs = find_backend(self.settings.alias or "").settings
        different = [
            field.name
            for field in fields(self.settings)
            if field.name not in _ONLY_FOR_CALLERS
            and getattr(theirs, field.name) != getattr(self.settings, field.name)
        ]
        if different:
            raise build_configuration_error(
                "With TURBOSMTP['QUEUE'], workers send with the settings of the mailer."
                f" The arguments of this backend differ in {', '.join(different)}: move"
                " them to the settings, or pass queue=False to send at once."
                " (turbosmtp.E032)",
                alias=self.settings.alias,
            )

    def _build_client(self, credentials: Credentials) -> Client:
        from django_turbosmtp.api.client import Client

        session = self._session or self._share_session()
        return Client(session, self.settings, credentials)

    def _is_reported(self, error: BaseException) -> bool:
        if not self.fail_silently:
            return True
        if self.settings.queue and isinstance(error, DatabaseError):
            return False
        return not isinstance(error, TurboSMTPError)


def import_our_backend(path: str) -> type[EmailBackend] | None:
    """Return the `EmailBackend`, or subclass, at this dotted path, or None."""
    try:
        found = import_string(path)
    except ImportError:
        return None
    is_ours = isinstance(found, type) and issubclass(found, EmailBackend)
    return found if is_ours else None


def find_backend(alias: str) -> EmailBackend:
    """Return the backend of a mailer in the settings; "" is that of EMAIL_BACKEND.

    Raise ImproperlyConfigured if no such mailer uses our backend.
    """
    found: Any = None
    if HAS_MAILERS and alias:
        found = get_mailer(alias)
    elif not alias:
        # A subclass, if the site uses one.
        path = list_mailers().get(None, {}).get("BACKEND", "")
        found = (import_our_backend(path) or EmailBackend)()
    if not isinstance(found, EmailBackend):
        raise ImproperlyConfigured(
            f"The settings have no mailer {alias!r} that uses this backend."
        )
    return found


def _build_failure(delivery: Delivery) -> BaseException:
    """Return the exception to raise, with the results of the whole call."""
    error: Any = delivery.cut_short_by or delivery.failures[0][1]
    # The site's code may raise an exception that does not allow attributes.
    with contextlib.suppress(AttributeError, TypeError):
        error.failures = tuple(delivery.failures)
        error.sent_count = delivery.accepted
    raised: BaseException = error
    return raised
