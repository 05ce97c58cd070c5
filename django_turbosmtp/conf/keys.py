"""The keys of ``TURBOSMTP``, each with the id of its check and a function for it.

Such a function returns a complaint, which continues the text ``TURBOSMTP[key]``, or ""
for a valid value. No complaint shows a value that may be a secret, whatever the key:
credentials are sometimes pasted in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.db import connections
from django.utils.module_loading import import_string

from django_turbosmtp._lib.hosts import is_loopback
from django_turbosmtp._lib.text import find_surrogate

#: Do not show a longer text in a complaint: it may be a misplaced secret.
_LONGEST_SHOWN = 8


def describe_value(value: object) -> str:
    """Return a description of a value that does not contain secrets."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        if len(value) <= _LONGEST_SHOWN:
            return repr(value)
        return f"a string of {len(value)} characters"
    if isinstance(value, (list, tuple)) and not any(
        isinstance(part, (str, bytes)) for part in value
    ):
        return f"({', '.join(map(describe_value, value))})"
    return f"a {type(value).__name__}"


#: Words in the names of settings, also of other packages. Such a name is not a secret.
# fmt: off
_ORDINARY = frozenset({
    "access", "account", "address", "alias", "api", "apikey", "auth",
    "authentication", "backend", "base", "bcc", "body", "cache", "cc", "client",
    "config", "connection", "connections", "consumer", "credentials", "database",
    "db", "debug", "default", "defaults", "domain", "email", "emails", "enabled",
    "endpoint", "env", "fail", "from", "header", "headers", "host", "html", "id",
    "ignore", "key", "keys", "level", "limit", "log", "login", "mail", "mailer",
    "max", "message", "metadata", "mode", "name", "options", "password", "path",
    "port", "private", "public", "queue", "rate", "region", "reply", "retries",
    "retry", "secret", "secrets", "send", "sender", "server", "service", "settings",
    "silently", "site", "smtp", "ssl", "subject", "tag", "tags", "test", "text",
    "timeout", "timezone", "tls", "to", "token", "tracking", "type", "url", "use",
    "user", "username", "using", "version", "webhook",
})
# fmt: on


def show_name(name: object, known: Collection[str]) -> str:
    """Return an unknown name of a setting for an error.

    It may be a secret that was pasted in the wrong place. So a name is shown only if it
    is similar to a known one, or consists of ordinary words.
    """
    text = str(name)
    words = re.split("[_ -]", text.lower())
    if all(word in _ORDINARY for word in words) or _is_almost(text, known):
        return repr(name)
    return f"(not shown: {len(text)} characters, perhaps a credential)"


def _is_almost(text: str, known: Collection[str]) -> bool:
    from difflib import get_close_matches

    by_fold = {name.upper(): name for name in known}
    near = get_close_matches(text.upper(), by_fold, n=1, cutoff=0.88)
    return bool(near) and abs(len(near[0]) - len(text)) <= 2


def describe_url(url: str) -> str:
    """Return a URL without the parts that may be secret: login, path and query."""
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        return describe_value(url)
    return repr(f"{scheme}://{re.split('[/?#]', rest)[0].rpartition('@')[2]}")


def _check_credential(value: Any) -> str:
    if callable(value):
        return ""
    if not isinstance(value, str):
        return f"is a {type(value).__name__}, not a string or a callable."
    if not value.strip():
        return "is empty."
    if value != value.strip() or any(ord(c) < 32 or ord(c) > 126 for c in value):
        return "has white space around it, or characters that credentials do not have."
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return "has quotation marks around it, perhaps from a .env file. Remove them."
    if " #" in value:
        return "contains ' #', perhaps a comment of a .env file. Remove it."
    return ""


def _check_password(value: Any) -> str:
    # A v1 password is sent as JSON, so any character is allowed.
    if callable(value):
        return ""
    if not isinstance(value, str) or not value:
        return "is not a string or a callable, or is empty."
    if find_surrogate(value) is not None:
        return "is not valid Unicode; was it read from bytes that are not UTF-8?"
    return ""


def _check_bool(value: Any) -> str:
    return (
        ""
        if isinstance(value, bool)
        else f"is {describe_value(value)}, not True or False."
    )


def _build_integer_check(minimum: int) -> Callable[[Any], str]:
    def complain(value: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool) and value >= minimum:
            return ""
        return f"is {describe_value(value)}, not a whole number of at least {minimum}."

    return complain


def _check_days(value: Any) -> str:
    return "" if value is None else _build_integer_check(1)(value)


def _check_timeout(value: Any) -> str:
    parts = value if isinstance(value, (tuple, list)) else (value, value)
    if len(parts) == 2 and all(
        isinstance(part, (int, float)) and not isinstance(part, bool) and part > 0
        for part in parts
    ):
        return ""
    return (
        f"is {describe_value(value)}, not a positive number of seconds, or two of them:"
        " (connect, read)."
    )


def _check_url(value: Any) -> str:
    if not isinstance(value, str):
        return f"is a {type(value).__name__}, not a string."
    try:
        parts = urlsplit(value)
        _ = parts.port  # It raises ValueError if it is invalid.
    except ValueError:
        return "is not a URL: its host or port cannot be read."
    if parts.username or parts.password:
        return "contains a user name or password, which turboSMTP answers with 401."
    shown = describe_url(value)
    if parts.scheme not in {"https", "http"} or not parts.hostname or " " in value:
        return f"is {shown}, not a URL that begins with https:// and names a host."
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        return (
            f"is {shown}: plain http would expose the credentials and every message,"
            " so it is allowed to this machine only. Use https."
        )
    if parts.query or parts.fragment:
        return f"is {shown} with a query or a fragment: remove '?' or '#'."
    if parts.path.rstrip("/").endswith("/mail/send"):
        return f"ends with '/mail/send' ({shown}). Remove that: it is added."
    return ""


def _check_send_defaults(value: Any) -> str:
    kinds: dict[str, tuple[type, ...]] = {
        "tags": (list, tuple),
        "metadata": (dict,),
        "headers": (dict,),
        "esp_extra": (dict,),
    }
    if not isinstance(value, Mapping):
        return f"is a {type(value).__name__}, not a dict."
    for key, part in value.items():
        if key not in kinds:
            return (
                f"has the unknown key {show_name(key, kinds)}; known:"
                f" {', '.join(sorted(kinds))}."
            )
        if not isinstance(part, kinds[key]):
            return f"has a {type(part).__name__} as {key!r}."
    return ""


def _check_guard(value: Any) -> str:
    wanted = 'None, a list of addresses and domains, or {"redirect": "address"}.'
    if isinstance(value, Mapping):
        target = value.get("redirect")
        if set(value) == {"redirect"} and isinstance(target, str) and "@" in target:
            return ""
    elif value is None or (
        isinstance(value, (list, tuple, set, frozenset))
        and all(isinstance(e, str) and ("." in e or "@" in e) for e in value)
    ):
        return ""
    return f"is {describe_value(value)}, not {wanted}"


def _check_callable(value: Any) -> str:
    if value is None or callable(value):
        return ""
    if not isinstance(value, str):
        return f"is a {type(value).__name__}, not a function or the path of one."
    if "." not in value or not all(map(str.isidentifier, value.split("."))):
        return f"is {describe_value(value)}, not the path of a function."
    try:
        found = import_string(value)
    except ImportError as error:
        return f"is {value!r}, which cannot be imported: {error}."
    return "" if callable(found) else f"is {value!r}, which is not a function."


def _check_alias(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return f"is a {type(value).__name__}, not an alias of DATABASES."
    if value not in connections:
        known = ", ".join(map(repr, connections))
        return f"is {describe_value(value)}, not an alias of DATABASES; known: {known}."
    return ""


def _check_webhook_secret(value: Any) -> str:
    entries = [value] if isinstance(value, str) else value
    if value is None or (
        isinstance(entries, (list, tuple))
        and all(isinstance(e, str) and e.partition(":")[2] for e in entries)
    ):
        return ""
    return 'is not "user:password", or a list of these while you rotate it.'


def _check_rate(value: Any) -> str:
    if value is None or (isinstance(value, str) and read_rate(value)):
        return ""
    return (
        f'is {describe_value(value)}, not a number of recipients per period: "10/s",'
        ' "100/m", "5000/h" or "20000/d".'
    )


#: The seconds of each unit of ``RATE``.
_PERIODS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_RATE = re.compile(r"\s*([1-9]\d*)\s*/\s*([smhd])[a-z]*\s*", re.ASCII)


def read_rate(value: str) -> tuple[int, int] | None:
    """Return the recipients and the seconds of ``"100/m"``, or None if invalid."""
    found = _RATE.fullmatch(value.lower())
    return (int(found[1]), _PERIODS[found[2]]) if found else None


def _build_choice_check(*allowed: object) -> Callable[[Any], str]:
    def complain(value: Any) -> str:
        if any(type(value) is type(choice) and value == choice for choice in allowed):
            return ""
        return f"is {describe_value(value)}; allowed: {', '.join(map(repr, allowed))}."

    return complain


class Key(NamedTuple):
    """One key of ``TURBOSMTP``."""

    #: The id of the system check that reports a wrong value.
    check_id: str
    #: Returns the problem of a value, "" for a valid one.
    complain: Callable[[Any], str]


KEYS: dict[str, Key] = {
    "CONSUMER_KEY": Key("turbosmtp.E010", _check_credential),
    "CONSUMER_SECRET": Key("turbosmtp.E011", _check_credential),
    "AUTHUSER": Key("turbosmtp.E012", _check_credential),
    "AUTHPASS": Key("turbosmtp.E013", _check_password),
    "API_VERSION": Key("turbosmtp.E014", _build_choice_check(2, 1)),
    "REGION": Key("turbosmtp.E015", _build_choice_check("global", "eu")),
    "SEND_URL": Key("turbosmtp.E016", _check_url),
    "API_URL": Key("turbosmtp.E017", _check_url),
    "TIMEOUT": Key("turbosmtp.E018", _check_timeout),
    "MAX_CONNECTIONS": Key("turbosmtp.E019", _build_integer_check(1)),
    "MAX_RETRIES": Key("turbosmtp.E020", _build_integer_check(0)),
    "SEND_DEFAULTS": Key("turbosmtp.E021", _check_send_defaults),
    "IGNORE_UNSUPPORTED_FEATURES": Key("turbosmtp.E022", _check_bool),
    "RECIPIENT_GUARD": Key("turbosmtp.E023", _check_guard),
    "LOG": Key("turbosmtp.E024", _check_bool),
    "LOG_BODY": Key("turbosmtp.E025", _check_bool),
    "LOG_ATTACHMENTS": Key("turbosmtp.E026", _check_bool),
    "LOG_USING": Key("turbosmtp.E027", _check_alias),
    "LOG_REDACT": Key("turbosmtp.E033", _check_callable),
    "RETENTION_DAYS": Key("turbosmtp.E028", _check_days),
    "BODY_RETENTION_DAYS": Key("turbosmtp.E029", _check_days),
    "SUPPRESS": Key("turbosmtp.E030", _check_bool),
    "WEBHOOK_SECRET": Key("turbosmtp.E031", _check_webhook_secret),
    "QUEUE": Key("turbosmtp.E032", _build_choice_check(False, True, "tasks", "celery")),
    "RATE": Key("turbosmtp.E036", _check_rate),
}

#: The pair of keys with which each API version logs in (docs/wire.rst, "Login").
CREDENTIALS: dict[int, tuple[str, str]] = {
    2: ("CONSUMER_KEY", "CONSUMER_SECRET"),
    1: ("AUTHUSER", "AUTHPASS"),
}

#: The values of these keys are not shown in errors, log records and reprs.
SECRET_KEYS = {
    "CONSUMER_KEY",
    "CONSUMER_SECRET",
    "AUTHUSER",
    "AUTHPASS",
    "WEBHOOK_SECRET",
}
