"""``settings.TURBOSMTP`` and mailer OPTIONS, read late into one frozen `Settings`.

What is wrong with them is found by one table, `find_problems`: a backend raises
the first error of it, ``manage.py check`` reports all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings as django_settings
from django.utils.module_loading import import_string

from django_turbosmtp._compat import build_configuration_error, list_mailer_options
from django_turbosmtp._interrupts import raise_as_it_was
from django_turbosmtp._secrets import Secret, hide, shows_no_locals
from django_turbosmtp._values import KEYS
from django_turbosmtp.constants import API_HOSTS, SEND_HOSTS

_SECRET_KEYS = {
    "CONSUMER_KEY",
    "CONSUMER_SECRET",
    "AUTHUSER",
    "AUTHPASS",
    "WEBHOOK_SECRET",
}

#: The keys of a mailer's OPTIONS.
OPTION_NAMES = frozenset(key.lower() for key in KEYS)

Credential = str | Callable[[], str] | None


#: The pair of keys that each API version logs in with (docs/wire.rst, "Login").
CREDENTIALS: dict[int, tuple[str, str]] = {
    2: ("CONSUMER_KEY", "CONSUMER_SECRET"),
    1: ("AUTHUSER", "AUTHPASS"),
}

#: Of these keys None means the same as leaving them out.
_NONE_IS_UNSET = {key for pair in CREDENTIALS.values() for key in pair} | {
    "SEND_URL",
    "API_URL",
}


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """The two halves of one login, as strings that no repr shows."""

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
    queue: bool = False
    webhook_secret: Any = field(default=None, repr=False)
    consumer_key: Credential = field(default=None, repr=False)
    consumer_secret: Credential = field(default=None, repr=False)
    authuser: Credential = field(default=None, repr=False)
    authpass: Credential = field(default=None, repr=False)
    alias: str | None = None
    #: The names of the two credentials, and where they were given, for errors.
    login_source: str = ""

    @shows_no_locals
    def credentials(self) -> Credentials:
        """Return the login of this API version, calling what is callable.

        Raise ImproperlyConfigured if a callable gives no usable string.
        """
        names = CREDENTIALS[self.api_version]
        user, password = (self._credential(name) for name in names)
        return Credentials(user=user, password=password)

    def _credential(self, key: str) -> Secret:
        value = getattr(self, key.lower())
        if callable(value):
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


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong: ``id`` of the check, text, and what to do."""

    id: str
    text: str
    hint: str = ""


def merge_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``settings.TURBOSMTP`` with mailer OPTIONS over it, unchecked.

    A pair of credentials is one thing: an OPTIONS that gives one half is not
    completed with the other half of somebody else's account.
    """
    raw = getattr(django_settings, "TURBOSMTP", None)
    raw = {} if raw is None else raw
    if not isinstance(raw, Mapping):
        raise build_configuration_error(
            f"TURBOSMTP is a {type(raw).__name__}, not a dict. (turbosmtp.E001)"
        )
    merged = hide_secrets(raw)
    for pair in CREDENTIALS.values():
        if any(options.get(key.lower()) is not None for key in pair):
            for key in pair:
                merged.pop(key, None)
    merged.update(hide_secrets({key.upper(): v for key, v in options.items()}))
    return merged


def hide_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, with what is secret as strings that no repr shows.

    An error reporter prints the local variables of whoever refuses them.
    """
    return {
        key: hide(value) if str(key).upper() in _SECRET_KEYS else value
        for key, value in values.items()
    }


def find_problems(
    raw: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
    *,
    alias: str | None = None,
) -> list[Problem]:
    """Return all that is wrong with settings as `merge_options` gives them.

    ``options`` are the backend's own, those of the mailer ``alias`` if it is one of
    MAILERS; both only say where a wrong value stands.
    """
    problems = []
    for key, value in raw.items():
        if key not in KEYS:
            problems.append(_report_unknown_key(key))
        elif value is None and key in _NONE_IS_UNSET:
            continue
        elif complaint := KEYS[key].complain(value):
            text = f"{_name_place(key, options or {}, alias)} {complaint}"
            problems.append(Problem(id=KEYS[key].check_id, text=text))
    version_is_wrong = KEYS["API_VERSION"].complain(raw.get("API_VERSION", 2))
    if not version_is_wrong:
        problems += _find_combined_problems(raw, options or {}, alias)
    return problems


def _name_place(key: str, options: Mapping[str, Any], alias: str | None) -> str:
    name = key.lower()
    if name not in options:
        return f"TURBOSMTP[{key!r}]"
    # Only a mailer of MAILERS has OPTIONS, and only Django 6.1 and later has MAILERS.
    return f"The argument {name!r}" if alias is None else f"OPTIONS[{name!r}]"


def _report_unknown_key(key: object) -> Problem:
    return Problem(
        id="turbosmtp.E002",
        text=f"TURBOSMTP has the unknown key {_show_key(key)}.",
        hint=_suggest_key(key),
    )


def _show_key(key: object) -> str:
    """Return an unknown key as an error may show it.

    A credential may have been pasted in its place: what has a digit, as no key of ours
    has, or is longer than any, is shown only where it is much like one of them.
    """
    text = str(key)
    longest = max(map(len, KEYS))
    is_name = len(text) <= longest and not any(map(str.isdigit, text))
    if is_name or _find_near(key):
        return repr(key)
    return f"(not shown: {len(text)} characters, perhaps a credential)"


def _suggest_key(key: object, *, option: bool = False) -> str:
    """Return a hint that names the known key, or option, most like this one."""

    def case(text: str) -> str:
        return text.lower() if option else text

    near = _find_near(key)
    if near:
        return f"Did you mean {case(near[0])!r}?"
    return f"Known: {', '.join(map(case, KEYS))}."


def _find_near(key: object) -> list[str]:
    from difflib import get_close_matches

    return get_close_matches(str(key).upper(), KEYS, n=1)


def _find_combined_problems(
    raw: Mapping[str, Any], options: Mapping[str, Any], alias: str | None
) -> list[Problem]:
    version = raw.get("API_VERSION", 2)
    problems = []
    if version == 1 and raw.get("REGION") == "eu" and not raw.get("SEND_URL"):
        problems.append(
            Problem(
                id="turbosmtp.E015",
                text="TURBOSMTP['REGION'] is 'eu', and API v1 has no European host.",
                hint="Use API_VERSION 2, or REGION 'global'.",
            )
        )
    pair = CREDENTIALS[version]
    missing = [key for key in pair if raw.get(key) is None]
    if len(missing) == 1 and any(options.get(key.lower()) for key in pair):
        (given,) = set(pair) - set(missing)
        problems.append(
            Problem(
                id="turbosmtp.E004",
                text=f"{'The backend' if alias is None else 'OPTIONS'} has"
                f" {given.lower()!r} and no {missing[0].lower()!r}.",
                hint="A pair is not completed from TURBOSMTP: that is another account.",
            )
        )
    elif missing:
        problems.append(
            Problem(
                id="turbosmtp.E004" if len(missing) == 1 else "turbosmtp.E003",
                text=f"TURBOSMTP has no {' and no '.join(map(repr, missing))},"
                f" which API v{version} needs.",
                hint="The consumer key and secret are made in turboSMTP's dashboard."
                if version == 2
                else "They are the e-mail address and password of the account.",
            )
        )
    return problems


def describe_unknown_option(name: str) -> tuple[str, str]:
    """Return the text about a backend option that is none of ours, and a hint."""
    return f"Unknown option {_show_key(name)}.", _suggest_key(name, option=True)


@raise_as_it_was
@shows_no_locals
def load(
    options: Mapping[str, Any] | None = None,
    *,
    alias: str | None = None,
    username: str | None = None,
    password: str | None = None,
) -> Settings:
    """Return the settings in force now. ``options`` has lower-case keys and wins.

    ``username`` and ``password`` stand for the pair of credentials of the API
    version. Raise ImproperlyConfigured (of a mailer on Django 6.1 and later,
    InvalidMailer) for the first thing that is wrong.
    """
    options = dict(options or {})
    login_was_passed = username is not None or password is not None
    if login_was_passed:
        pair = CREDENTIALS[1 if merge_options(options).get("API_VERSION") == 1 else 2]
        options |= {pair[0].lower(): username, pair[1].lower(): password}
    raw = merge_options(options)
    if problems := find_problems(raw, options, alias=alias):
        first = problems[0]
        raise build_configuration_error(
            " ".join(filter(None, [first.text, first.hint, f"({first.id})"])),
            alias=alias,
        )
    values = {key.lower(): value for key, value in raw.items() if value is not None}
    # Of these two None is a value: keep for ever.
    for key in ("RETENTION_DAYS", "BODY_RETENTION_DAYS"):
        if key in raw:
            values[key.lower()] = raw[key]
    if isinstance(redact := values.get("log_redact"), str):
        values["log_redact"] = import_string(redact)
    version, region = values.get("api_version", 2), values.get("region", "global")
    timeout = values.get("timeout", Settings.timeout)
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


@shows_no_locals
def read_webhook_secrets() -> list[Secret]:
    """Return every ``user:password`` that the webhook takes, of all mailers.

    Raise ImproperlyConfigured for a wrong one.
    """
    secrets: dict[Secret, None] = {}
    for value in _list_webhook_secrets():
        if complaint := KEYS["WEBHOOK_SECRET"].complain(value):
            raise build_configuration_error(f"TURBOSMTP['WEBHOOK_SECRET'] {complaint}")
        entries = [value] if isinstance(value, str) else value or ()
        secrets |= dict.fromkeys(map(Secret, entries))
    return list(secrets)


def has_webhook() -> bool:
    """Tell whether the webhook takes anything, right or wrong."""
    return any(_list_webhook_secrets())


def _list_webhook_secrets() -> list[Any]:
    ours = merge_options({}).get("WEBHOOK_SECRET")
    return [ours, *(each.get("webhook_secret") for each in list_mailer_options())]


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """What of ``settings.TURBOSMTP`` is about the log that is there already."""

    using: str | None = None
    retention_days: int | None = Settings.retention_days
    body_retention_days: int | None = Settings.body_retention_days


def read_log_settings() -> LogSettings:
    """Return the settings of the log in force now; no credentials are needed.

    Raise ImproperlyConfigured for the first that is wrong.
    """
    raw = merge_options({})
    values: dict[str, Any] = {}
    for name in ("using", "retention_days", "body_retention_days"):
        key = "LOG_USING" if name == "using" else name.upper()
        if key not in raw:
            continue
        if complaint := KEYS[key].complain(raw[key]):
            raise build_configuration_error(f"TURBOSMTP[{key!r}] {complaint}")
        values[name] = raw[key]
    return LogSettings(**values)
