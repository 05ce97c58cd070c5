"""Merges ``settings.TURBOSMTP`` and the OPTIONS of a mailer into a frozen `Settings`.

They are read when they are needed, so that tests can override them. `conf.problems`
checks them: a backend raises the first problem, and ``manage.py check`` reports all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from django_turbosmtp._lib.interrupts import raise_as_it_was
from django_turbosmtp._lib.secrets import Secret, hide, shows_no_locals
from django_turbosmtp._lib.versions import (
    build_configuration_error,
    list_mailer_options,
    list_mailers,
)
from django_turbosmtp.conf.keys import CREDENTIALS, KEYS, SECRET_KEYS, read_rate
from django_turbosmtp.conf.problems import find_problems

SEND_HOSTS: Final = {
    (2, "global"): "https://api.turbo-smtp.com/api/v2",
    (2, "eu"): "https://api.eu.turbo-smtp.com/api/v2",
    (1, "global"): "https://api.turbo-smtp.com/api",
}
API_HOSTS: Final = {
    2: "https://pro.api.serversmtp.com/api/v2",
    1: "https://dashboard.serversmtp.com/api",
}

#: The keys of a mailer's OPTIONS.
OPTION_NAMES = frozenset(key.lower() for key in KEYS)

Credential = str | Callable[[], str] | None


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """The two parts of a login. Their repr is hidden."""

    user: Secret = field(repr=False)
    password: Secret = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one backend, complete and checked. Times are seconds."""

    api_version: int = 2
    region: str = "global"
    send_url: str = ""
    api_url: str = ""
    timeout: tuple[float, float] = (5.0, 30.0)
    max_connections: int = 8
    max_retries: int = 2
    send_defaults: Mapping[str, Any] = field(default_factory=dict)
    ignore_unsupported_features: bool = False
    recipient_guard: Any = None
    log: bool = True
    log_body: bool = True
    log_attachments: bool = False
    log_using: str | None = None
    log_redact: Callable[[str, str], str] | None = None
    retention_days: int | None = 365
    body_retention_days: int | None = 30
    suppress: bool = True
    #: False, "tasks" or "celery".
    queue: str | bool = False
    #: Recipients and seconds.
    rate: tuple[int, int] | None = None
    webhook_secret: Any = field(default=None, repr=False)
    consumer_key: Credential = field(default=None, repr=False)
    consumer_secret: Credential = field(default=None, repr=False)
    authuser: Credential = field(default=None, repr=False)
    authpass: Credential = field(default=None, repr=False)
    alias: str | None = None
    #: The names of the two credentials and their source, for errors.
    login_source: str = ""

    @shows_no_locals
    def credentials(self) -> Credentials:
        """Return the login for this API version, calling credentials that are callable.

        Raise ImproperlyConfigured if a callable does not return a valid string.
        """
        names = CREDENTIALS[self.api_version]
        user, password = (self._credential(name) for name in names)
        return Credentials(user=user, password=password)

    def _credential(self, key: str) -> Secret:
        value = getattr(self, key.lower())
        if callable(value):
            # Hide it at once, because error reporters show local variables.
            value = hide(value())
        complaint = KEYS[key].complain(value)
        if callable(value):
            complaint = "is callable itself."
        if complaint:
            raise build_configuration_error(
                f"TURBOSMTP[{key!r}]: the callable returned something that {complaint}",
                alias=self.alias,
            )
        return Secret(value)


def merge_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``settings.TURBOSMTP``, overridden by the OPTIONS of a mailer, unchecked.

    OPTIONS with one credential of a pair override both: the other one in TURBOSMTP may
    belong to another account.
    """
    raw = getattr(django_settings, "TURBOSMTP", None)
    raw = {} if raw is None else raw
    if not isinstance(raw, Mapping):
        raise build_configuration_error(
            f"TURBOSMTP is a {type(raw).__name__}, not a dict. (turbosmtp.E001)"
        )
    # A copy, because the dict belongs to the site.
    merged = hide_secrets(raw)
    for pair in CREDENTIALS.values():
        if any(options.get(key.lower()) is not None for key in pair):
            for key in pair:
                merged.pop(key, None)
    merged.update(hide_secrets({key.upper(): v for key, v in options.items()}))
    return merged


def list_values(key: str) -> list[Any]:
    """Return the value of a key in TURBOSMTP, then in each mailer's OPTIONS, unchecked.

    The value is None if the key is missing.
    """
    own = (options.get(key.lower()) for options in list_mailer_options())
    return [merge_options({}).get(key), *own]


def read_mailer(alias: str) -> dict[str, Any]:
    """Return the unchecked settings of a mailer; "" is the alias of EMAIL_BACKEND."""
    config = list_mailers().get(alias or None, {})
    return merge_options(config.get("OPTIONS") or {})


def read_queue(value: object) -> str:
    """Return the task engine for a value of ``QUEUE``, "" without a queue."""
    return "tasks" if value is True else str(value or "")


def uses_queue() -> bool:
    """Return whether any mailer of the site has a queue."""
    try:
        return any(list_values("QUEUE"))
    except ImproperlyConfigured:
        # TURBOSMTP is not a dict: a system check reports that.
        return False


def hide_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with all secrets as `Secret`.

    Error reporters print local variables, also those of the code that checks settings.
    """
    return {
        key: hide(value) if str(key).upper() in SECRET_KEYS else value
        for key, value in values.items()
    }


@raise_as_it_was
@shows_no_locals
def load(
    options: Mapping[str, Any] | None = None,
    *,
    alias: str | None = None,
    username: str | None = None,
    password: str | None = None,
) -> Settings:
    """Return the current settings. ``options`` (with lower-case keys) have precedence.

    ``username`` and ``password``: the pair of credentials for the API version. Raise
    ImproperlyConfigured (InvalidMailer for a mailer on Django 6.1 and later) for the
    first problem.
    """
    options = dict(options or {})
    login_was_passed = username is not None or password is not None
    if login_was_passed:
        # Any other version is an error, which is found below.
        pair = CREDENTIALS[1 if merge_options(options).get("API_VERSION") == 1 else 2]
        options |= {pair[0].lower(): username, pair[1].lower(): password}
    raw = merge_options(options)
    if problems := find_problems(raw, options, alias=alias):
        first = problems[0]
        raise build_configuration_error(
            " ".join(filter(None, [first.text, first.hint, f"({first.id})"])),
            alias=alias,
        )
    # None means "not set", so the default of `Settings` applies.
    values = {key.lower(): value for key, value in raw.items() if value is not None}
    # None is a valid value of these two: rows are kept forever.
    for key in ("RETENTION_DAYS", "BODY_RETENTION_DAYS"):
        if key in raw:
            values[key.lower()] = raw[key]
    if isinstance(redact := values.get("log_redact"), str):
        values["log_redact"] = import_string(redact)
    values["queue"] = read_queue(values.get("queue")) or False
    values["rate"] = read_rate(values.get("rate") or "")
    version, region = values.get("api_version", 2), values.get("region", "global")
    timeout = values.get("timeout", Settings.timeout)
    # A single number is used for both, as in requests.
    connect, read = timeout if isinstance(timeout, (tuple, list)) else (timeout,) * 2
    values["timeout"] = (float(connect), float(read))
    send_url = values.get("send_url") or SEND_HOSTS.get((version, region), "")
    values["send_url"] = send_url.rstrip("/")
    values["api_url"] = (values.get("api_url") or API_HOSTS[version]).rstrip("/")
    pair = CREDENTIALS[version]
    source = "TURBOSMTP"
    if login_was_passed:
        source = "the arguments auth_user and auth_password"
    elif any(options.get(key.lower()) is not None for key in pair):
        source = "the backend's arguments"
        if alias is not None:
            source = f"MAILERS[{alias!r}]['OPTIONS']"
    login_source = f"{' and '.join(pair)} (from {source})"
    return Settings(alias=alias, login_source=login_source, **values)
