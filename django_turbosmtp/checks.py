"""System checks for the settings, the log, the webhook and the queue.

Errors (``turbosmtp.E...``) prevent mail from being sent. Most of them are found by
`conf.problems.find_problems`, which the backend uses, too. Two of them (E003, no
credentials; E034, no WEBHOOK_SECRET) are warnings without --deploy.

========  ==================================================================
W001      turboSMTP stopped supporting API v1 on 2024-06-30 (docs/wire.rst)
W002      DEFAULT_FROM_EMAIL or SERVER_EMAIL is not a valid sender
W003      (--deploy) SEND_URL is on this machine, so no mail is really sent
W004      (--deploy) RECIPIENT_GUARD restricts the recipients
W005      the app is installed, but no mailer uses its backend (if another one
          was chosen, only with --deploy)
W006      (--database) the log's tables are missing
W010      (--database) mail is being sent, but the webhook receives no events
W011      (--database) QUEUE is set, but neither run_due nor its command has run
W012      (--database) the queue of an account has stopped
W007      a mailer has keys besides OPTIONS, which Django ignores
W008      MAILERS is set, but this Django version ignores it
W009      SEND_URL has no path, unlike turboSMTP's API
========  ==================================================================
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.urls import NoReverseMatch, reverse

from django_turbosmtp._lib.hosts import is_loopback
from django_turbosmtp._lib.versions import HAS_MAILERS, chooses_mailer, list_mailers
from django_turbosmtp.conf.keys import KEYS, describe_url
from django_turbosmtp.conf.log import choose_log_database
from django_turbosmtp.conf.problems import describe_unknown_option, find_problems
from django_turbosmtp.conf.settings import OPTION_NAMES, merge_options, read_queue
from django_turbosmtp.conf.webhook import read_webhook_secrets
from django_turbosmtp.delivery.guard import build_guard
from django_turbosmtp.exceptions import InvalidAddress, MessageError
from django_turbosmtp.log.querysets import lacks_events
from django_turbosmtp.models import Message
from django_turbosmtp.payload.addresses import parse
from django_turbosmtp.payload.attributes import read_attributes
from django_turbosmtp.payload.headers import read_headers
from django_turbosmtp.queue.accounts import find_stopped, name_mailer
from django_turbosmtp.queue.due import find_overdue
from django_turbosmtp.queue.engines import require_engine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


TAG = "turbosmtp"

#: A machine without the environment variables, in CI for example, must be able to run
#: migrations and tests: missing settings are warnings, and errors only with --deploy.
_NO_CREDENTIALS = "turbosmtp.E003"
_CLOSED_WEBHOOK = "turbosmtp.E034"

#: Missing credentials matter only to a mailer that sends (`_find_senders`).
_ONLY_FOR_SENDERS = {"turbosmtp.E003", "turbosmtp.E004"}


def _find_our_mailers() -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Yield alias and OPTIONS of each mailer that uses our backend."""
    from django_turbosmtp.backends import import_our_backend

    for alias, config in list_mailers().items():
        if import_our_backend(config.get("BACKEND", "")) is not None:
            yield alias, config.get("OPTIONS", {})


def _find_senders() -> set[str | None]:
    """Return the aliases of the mailers that need credentials."""
    from django_turbosmtp.backends import import_our_backend

    backends = {
        alias: import_our_backend(config.get("BACKEND", ""))
        for alias, config in list_mailers().items()
    }
    return {
        alias for alias, found in backends.items() if found and found.needs_credentials
    }


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Report problems in TURBOSMTP and in the OPTIONS of each mailer."""
    mailers = list(_find_our_mailers())
    senders = _find_senders()
    found: dict[str, CheckMessage] = {}
    for alias, options in mailers or [(None, {})]:
        where = "" if alias is None else f"MAILERS[{alias!r}]: "
        own = {name: v for name, v in options.items() if name in OPTION_NAMES}
        try:
            problems = find_problems(merge_options(own), own, alias=alias)
        except ImproperlyConfigured as error:
            text = str(error).removesuffix(" (turbosmtp.E001)")
            return [Error(text, id="turbosmtp.E001")]
        for problem in problems:
            if problem.id in _ONLY_FOR_SENDERS and alias not in senders:
                continue
            text = f"{where}{problem.text}"
            level = Warning if problem.id == _NO_CREDENTIALS else Error
            # The key is the text, so that a problem is reported once, and not for each
            # mailer.
            found[text] = level(text, hint=problem.hint or None, id=problem.id)
        if not problems:
            found |= {str(m.msg): m for m in _check_values(merge_options(own))}
        # Django passes "fail_silently" to every backend.
        for name in options.keys() - OPTION_NAMES - {"fail_silently"}:
            problem_text, hint = describe_unknown_option(name)
            text = f"{where}{problem_text}"
            found[text] = Error(text, hint=hint, id="turbosmtp.E002")
    return list(found.values())


def _check_values(raw: Mapping[str, Any]) -> Iterator[CheckMessage]:
    """Yield problems of values that are parsed only when a message is sent."""
    try:
        build_guard(raw.get("RECIPIENT_GUARD"))
    except ImproperlyConfigured as error:
        text = str(error).removesuffix(" (turbosmtp.E023)")
        yield Error(text, id="turbosmtp.E023")
    try:
        attributes = read_attributes(
            EmailMessage(),
            raw.get("SEND_DEFAULTS", {}),
            api_version=raw.get("API_VERSION", 2),
        )
        read_headers(attributes.headers)
    except MessageError as error:
        yield Error(f"TURBOSMTP['SEND_DEFAULTS']: {error}", id="turbosmtp.E021")


def check_use(**kwargs: Any) -> Iterator[CheckMessage]:
    """Warn about settings that send mail in an unexpected way."""
    mailers = list(_find_our_mailers())
    if any(_read_value(options, "API_VERSION") == 1 for _, options in mailers):
        yield Warning(
            "API_VERSION is 1, which turboSMTP stopped supporting on 2024-06-30.",
            hint="Create a consumer key in turboSMTP's dashboard and use version 2.",
            id="turbosmtp.W001",
        )
    if not mailers and not chooses_mailer():
        # Probably an oversight; a different backend is a choice (see chooses_mailer).
        yield _report_no_mailer()
    yield from _find_ignored()
    for alias, options in mailers:
        url = _read_value(options, "SEND_URL")
        if not url or KEYS["SEND_URL"].complain(url):
            continue
        if not urlsplit(url).path.strip("/"):
            where = "" if alias is None else f"MAILERS[{alias!r}]: "
            yield Warning(
                f"{where}SEND_URL is {describe_url(url)}, without a path: messages are"
                " posted to /mail/send on that host.",
                hint="The URLs of turboSMTP and of the sandbox end with /api/v2.",
                id="turbosmtp.W009",
            )
    senders = ["DEFAULT_FROM_EMAIL"]
    if settings.ADMINS or settings.MANAGERS:
        senders.append("SERVER_EMAIL")
    for name in senders if mailers else ():
        address = getattr(settings, name)
        try:
            mailbox = parse(address, name)
        except InvalidAddress as error:
            text = str(error)
        else:
            # "webmaster@localhost" is Django's default.
            if "." in mailbox.domain:
                continue
            text = f"{name} is {address!r}, a domain that cannot receive replies."
        yield Warning(
            text,
            hint="Use an address of a domain that turboSMTP has verified.",
            id="turbosmtp.W002",
        )


def _find_ignored() -> Iterator[CheckMessage]:
    """Yield settings that Django ignores."""
    if not HAS_MAILERS:
        if getattr(settings, "MAILERS", None):
            yield Warning(
                "MAILERS is set, but Django before 6.1 ignores it: mail is sent with"
                " EMAIL_BACKEND.",
                hint="Set EMAIL_BACKEND and TURBOSMTP, or use Django 6.1.",
                id="turbosmtp.W008",
            )
        return
    from django_turbosmtp.backends import import_our_backend

    for alias, config in list_mailers().items():
        # Options of other backends are not ours to check.
        if alias is None or import_our_backend(config.get("BACKEND", "")) is None:
            continue
        for name in sorted(map(str, config.keys() - {"BACKEND", "OPTIONS"})):
            known = name.lower() in OPTION_NAMES
            yield Warning(
                f"MAILERS[{alias!r}] has a key besides BACKEND and OPTIONS, which"
                " Django ignores" + (f": {name!r}." if known else "."),
                hint=f"Move it to OPTIONS, as {name.lower()!r}."
                if known
                else "Move it to OPTIONS, or remove it.",
                id="turbosmtp.W007",
            )


def check_webhook(**kwargs: Any) -> Iterator[CheckMessage]:
    """Report a webhook without a secret: it refuses all requests."""
    try:
        address = _find_webhook_url()
        is_closed = not read_webhook_secrets()
    except ImproperlyConfigured:
        # Another check reports a wrong setting.
        return
    if not (address and is_closed):
        return
    yield Warning(
        f"The event webhook at {address} refuses every event, because WEBHOOK_SECRET"
        " is not set.",
        hint="Set TURBOSMTP['WEBHOOK_SECRET'] to \"user:password\", and enter the same"
        " in turboSMTP's dashboard.",
        id=_CLOSED_WEBHOOK,
    )


def check_deployment(**kwargs: Any) -> Iterator[CheckMessage]:
    """Warn about settings that are only right on a developer's machine."""
    mailers = list(_find_our_mailers())
    for alias, options in mailers:
        where = "" if alias is None else f"MAILERS[{alias!r}]: "
        url = _read_value(options, "SEND_URL")
        if isinstance(url, str) and is_loopback(urlsplit(url).hostname or ""):
            yield Warning(
                f"{where}SEND_URL is {describe_url(url)}, which is this machine: no"
                " mail is really sent.",
                hint="Remove SEND_URL and API_URL to send through turboSMTP.",
                id="turbosmtp.W003",
            )
        if _read_value(options, "RECIPIENT_GUARD") is not None:
            yield Warning(
                f"{where}RECIPIENT_GUARD is set: not all recipients get their mail.",
                hint="Remove it in production.",
                id="turbosmtp.W004",
            )
    if not mailers and chooses_mailer():
        yield _report_no_mailer()
    for message in (*check_settings(), *check_webhook()):
        if message.id in {_NO_CREDENTIALS, _CLOSED_WEBHOOK}:
            yield Error(message.msg, hint=message.hint, id=message.id)


def _report_no_mailer() -> CheckMessage:
    setting = "a BACKEND in MAILERS" if HAS_MAILERS else "EMAIL_BACKEND"
    return Warning(
        "django_turbosmtp is installed, but no mailer uses its backend: mail is not"
        " sent through turboSMTP.",
        hint=f"Set {setting} to 'django_turbosmtp.backends.EmailBackend'. If you use"
        " another backend on purpose, add 'turbosmtp.W005' to SILENCED_SYSTEM_CHECKS.",
        id="turbosmtp.W005",
    )


def check_tables(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """Warn if the log's tables are missing, because mail is then not logged.

    It is not an error, because commands that do not use the log run this check, too.
    ``migrate`` is excluded: it runs the checks before it creates the tables.
    """
    # Django has no other sign of the command that runs the checks.
    if sys.argv[1:2] == ["migrate"]:
        return
    mailers = list(_find_our_mailers()) or [(None, {})]
    if all(_read_value(options, "LOG") is False for _, options in mailers):
        return
    try:
        alias = choose_log_database()
    except ImproperlyConfigured:
        return  # Another check reports it.
    if alias not in (databases or ()):
        return
    try:
        with connections[alias].cursor() as cursor:
            tables = connections[alias].introspection.table_names(cursor)
    except DatabaseError:
        # The database cannot be reached. Other checks report that.
        return
    if Message._meta.db_table in tables:
        return
    option = "" if alias == DEFAULT_DB_ALIAS else f" --database {alias}"
    yield Warning(
        f"The log's tables are missing in the database {alias!r}: mail is sent, but"
        " not logged.",
        hint=f"Run: manage.py migrate{option}",
        id="turbosmtp.W006",
    )


def check_events(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """Warn if mail is being sent but the webhook has received no events."""
    try:
        address = _find_webhook_url()
        alias = choose_log_database()
        silent = (
            address
            and alias in (databases or ())
            and read_webhook_secrets()
            and lacks_events(alias)
        )
    except (ImproperlyConfigured, DatabaseError):
        return
    if not silent:
        return
    yield Warning(
        "Mail was sent in the last three days, but the webhook received no events.",
        hint=f"Check that {address} is entered in turboSMTP's dashboard, with the user"
        " and password of WEBHOOK_SECRET, and that no firewall blocks turboSMTP.",
        id="turbosmtp.W010",
    )


def check_queue(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """Warn if ``run_due`` does not run, and if the queue has stopped."""
    mailers = list(_find_our_mailers())
    try:
        alias = choose_log_database()
        if alias not in (databases or ()):
            return
        if not any(_read_value(options, "QUEUE") for _, options in mailers):
            return
        overdue = find_overdue(alias)
        stopped = find_stopped(alias)
    except (ImproperlyConfigured, DatabaseError):
        return
    if overdue:
        yield Warning(
            f"QUEUE is set, but {overdue}: messages that wait for a later attempt, or"
            " whose task was lost, are not sent.",
            hint="Run the task django_turbosmtp.tasks.run_due, or manage.py"
            " turbosmtp_run_due, every minute (docs/queue.rst).",
            id="turbosmtp.W011",
        )
    for row in stopped:
        yield Warning(
            f"The queue of {name_mailer(row.mailer)} has stopped: {row.error}",
            hint="One message is tried from time to time. If turboSMTP accepts it, the"
            " queue continues.",
            id="turbosmtp.W012",
        )


def check_engine(**kwargs: Any) -> Iterator[CheckMessage]:
    """Report a QUEUE whose task engine is not installed."""
    engines = {read_queue(_read_value(o, "QUEUE")) for _, o in _find_our_mailers()}
    for engine in sorted(engines & {"tasks", "celery"}):
        try:
            require_engine(engine)
        except ImproperlyConfigured as error:
            text = str(error).removesuffix(" (turbosmtp.E032)")
            yield Error(text, id="turbosmtp.E032")


def _find_webhook_url() -> str:
    """Return the path of the webhook, "" if the site does not include it."""
    # A project that only sends mail may have no URLs at all.
    if not getattr(settings, "ROOT_URLCONF", None):
        return ""
    try:
        return reverse("turbosmtp:webhook")
    except NoReverseMatch:
        return ""


def _read_value(options: dict[str, Any], key: str) -> Any:
    try:
        return merge_options(options).get(key)
    except ImproperlyConfigured:
        return None
