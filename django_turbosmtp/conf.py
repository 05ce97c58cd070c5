"""``settings.TURBOSMTP`` and mailer OPTIONS, read late into one frozen `Settings`.

What is wrong with them is found by one table, `find_problems`: a backend raises
the first error of it, ``manage.py check`` reports all.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings

from django_turbosmtp._compat import configuration_error
from django_turbosmtp.constants import API_HOSTS, SEND_HOSTS

MASK = "********"


class Secret(str):
    """A string that shows as asterisks wherever a repr of it is taken.

    Error reporters print the repr of every local variable of a traceback.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK)


_SECRET_KEYS = {
    "CONSUMER_KEY",
    "CONSUMER_SECRET",
    "AUTHUSER",
    "AUTHPASS",
    "WEBHOOK_SECRET",
}

Credential = str | Callable[[], str] | None


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
            value = hidden(value())
        if complaint := "is callable itself." * callable(value) or KEYS[key][1](value):
            raise configuration_error(
                f"TURBOSMTP[{key!r}]: the callable returned something that {complaint}",
                alias=self.alias,
            )
        return Secret(value)


#: The pair of keys that each API version logs in with (docs/wire.rst, "Login").
CREDENTIALS: dict[int, tuple[str, str]] = {
    2: ("CONSUMER_KEY", "CONSUMER_SECRET"),
    1: ("AUTHUSER", "AUTHPASS"),
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong: ``id`` of the check, text, and what to do."""

    id: str
    text: str
    hint: str = ""


# Each of these returns what is wrong with a value, to stand behind "TURBOSMTP[key]",
# or an empty string. None of them shows a value that may be a secret.


def _credential(value: Any) -> str:
    if callable(value):
        return ""
    if not isinstance(value, str):
        return f"is a {type(value).__name__}, not a string or a callable."
    if not value.strip():
        return "is empty."
    if value != value.strip() or any(ord(c) < 32 or ord(c) > 126 for c in value):
        return "has white space around it or characters that no credential has."
    return ""


def _password(value: Any) -> str:
    # A v1 password travels in JSON and may hold any character.
    if callable(value):
        return ""
    if not isinstance(value, str) or not value:
        return "is not a string or a callable, or is empty."
    if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        return "is not valid Unicode; was it read from bytes that are not UTF-8?"
    return ""


def _bool(value: Any) -> str:
    return "" if isinstance(value, bool) else f"is {value!r}, not True or False."


def _integer(minimum: int) -> Callable[[Any], str]:
    def complain(value: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool) and value >= minimum:
            return ""
        return f"is {value!r}, not a whole number from {minimum} up."

    return complain


def _days(value: Any) -> str:
    return "" if value is None else _integer(1)(value)


def _timeout(value: Any) -> str:
    parts = value if isinstance(value, (tuple, list)) else (value, value)
    if len(parts) == 2 and all(
        isinstance(part, (int, float)) and not isinstance(part, bool) and part > 0
        for part in parts
    ):
        return ""
    return (
        f"is {value!r}, not a number of seconds above 0, or two of them:"
        " (connect, read)."
    )


def _url(value: Any) -> str:
    if not isinstance(value, str):
        return f"is a {type(value).__name__}, not a string."
    try:
        parts = urlsplit(value)
        _ = parts.port  # raises where it is none
    except ValueError:
        return "is not a URL: its host or port cannot be read."
    if parts.username or parts.password:
        return "holds a user name or password: turboSMTP answers such requests 401."
    if parts.scheme not in {"https", "http"} or not parts.hostname or " " in value:
        return f"is {value!r}, not a URL that begins with https:// and names a host."
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        return (
            f"is {value!r}: plain http would show the credentials and every mail"
            " on the way; it is allowed to this machine only. Use https."
        )
    if parts.query or parts.fragment:
        return f"is {value!r}: a base URL has no '?' and no '#'."
    if parts.path.rstrip("/").endswith("/mail/send"):
        return f"is {value!r}: leave '/mail/send' out, it is added."
    return ""


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _send_defaults(value: Any) -> str:
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
            return f"has the unknown key {key!r}; known: {', '.join(sorted(kinds))}."
        if not isinstance(part, kinds[key]):
            return f"has a {type(part).__name__} as {key!r}."
    return ""


def _guard(value: Any) -> str:
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
    return f"is {value!r}, not {wanted}"


def _alias(value: Any) -> str:
    return "" if value is None or isinstance(value, str) else "is no database alias."


def _webhook_secret(value: Any) -> str:
    entries = [value] if isinstance(value, str) else value
    if value is None or (
        isinstance(entries, (list, tuple))
        and all(isinstance(e, str) and e.partition(":")[2] for e in entries)
    ):
        return ""
    return 'is not "user:password", or a list of such while rotating.'


def _queue(value: Any) -> str:
    if value is True:
        return "is True, and this release has no queue yet: nothing would be sent."
    return _bool(value)


def _choice(*allowed: object) -> Callable[[Any], str]:
    def complain(value: Any) -> str:
        if any(type(value) is type(choice) and value == choice for choice in allowed):
            return ""
        return f"is {value!r}; allowed: {', '.join(map(repr, allowed))}."

    return complain


#: Key: check id, and what complains about a wrong value.
KEYS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "CONSUMER_KEY": ("turbosmtp.E010", _credential),
    "CONSUMER_SECRET": ("turbosmtp.E011", _credential),
    "AUTHUSER": ("turbosmtp.E012", _credential),
    "AUTHPASS": ("turbosmtp.E013", _password),
    "API_VERSION": ("turbosmtp.E014", _choice(2, 1)),
    "REGION": ("turbosmtp.E015", _choice("global", "eu")),
    "SEND_URL": ("turbosmtp.E016", _url),
    "API_URL": ("turbosmtp.E017", _url),
    "TIMEOUT": ("turbosmtp.E018", _timeout),
    "MAX_CONNECTIONS": ("turbosmtp.E019", _integer(1)),
    "MAX_RETRIES": ("turbosmtp.E020", _integer(0)),
    "SEND_DEFAULTS": ("turbosmtp.E021", _send_defaults),
    "IGNORE_UNSUPPORTED_FEATURES": ("turbosmtp.E022", _bool),
    "RECIPIENT_GUARD": ("turbosmtp.E023", _guard),
    "LOG": ("turbosmtp.E024", _bool),
    "LOG_BODY": ("turbosmtp.E025", _bool),
    "LOG_ATTACHMENTS": ("turbosmtp.E026", _bool),
    "LOG_USING": ("turbosmtp.E027", _alias),
    "RETENTION_DAYS": ("turbosmtp.E028", _days),
    "BODY_RETENTION_DAYS": ("turbosmtp.E029", _days),
    "SUPPRESS": ("turbosmtp.E030", _bool),
    "WEBHOOK_SECRET": ("turbosmtp.E031", _webhook_secret),
    "QUEUE": ("turbosmtp.E032", _queue),
}

OPTION_NAMES = frozenset(key.lower() for key in KEYS)


def merged(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``settings.TURBOSMTP`` with mailer OPTIONS over it, unchecked.

    A pair of credentials is one thing: an OPTIONS that gives one half is not
    completed with the other half of somebody else's account.
    """
    raw = getattr(django_settings, "TURBOSMTP", None)
    raw = {} if raw is None else raw
    if not isinstance(raw, Mapping):
        raise configuration_error(
            f"TURBOSMTP is a {type(raw).__name__}, not a dict. (turbosmtp.E001)"
        )
    merged = hide_secrets(raw)
    for pair in CREDENTIALS.values():
        if any(options.get(key.lower()) is not None for key in pair):
            for key in pair:
                merged.pop(key, None)
    merged.update(hide_secrets({key.upper(): v for key, v in options.items()}))
    return merged


def hidden(value: Any) -> Any:
    """Return a string as one that no repr shows, and anything else as it is."""
    return Secret(value) if isinstance(value, str) else value


def hide_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, with what is secret as strings that no repr shows.

    An error reporter prints the local variables of whoever refuses them.
    """
    return {
        key: hidden(value) if str(key).upper() in _SECRET_KEYS else value
        for key, value in values.items()
    }


def find_problems(
    raw: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> list[Problem]:
    """Return all that is wrong with settings as `merged` gives them.

    ``options`` are the mailer's own, and only say where a wrong value stands.
    """
    problems = []
    for key, value in raw.items():
        if key not in KEYS:
            problems.append(_unknown_key(key))
        elif value is None and key in _NONE_IS_UNSET:
            continue
        elif complaint := KEYS[key][1](value):
            text = f"{_place(key, options or {})} {complaint}"
            problems.append(Problem(id=KEYS[key][0], text=text))
    if not KEYS["API_VERSION"][1](raw.get("API_VERSION", 2)):
        problems += _combined_problems(raw, options or {})
    return problems


_NONE_IS_UNSET = {key for pair in CREDENTIALS.values() for key in pair} | {
    "SEND_URL",
    "API_URL",
}


def _place(key: str, options: Mapping[str, Any]) -> str:
    name = key.lower()
    return f"OPTIONS[{name!r}]" if name in options else f"TURBOSMTP[{key!r}]"


def _unknown_key(key: object) -> Problem:
    return Problem(
        id="turbosmtp.E002",
        text=f"TURBOSMTP has the unknown key {key!r}.",
        hint=nearest(key),
    )


def nearest(key: object, *, option: bool = False) -> str:
    """Return a hint that names the known key, or option, most like this one."""
    from difflib import get_close_matches

    def case(text: str) -> str:
        return text.lower() if option else text

    near = get_close_matches(str(key).upper(), KEYS, n=1)
    if near:
        return f"Did you mean {case(near[0])!r}?"
    return f"Known: {', '.join(map(case, KEYS))}."


def _combined_problems(
    raw: Mapping[str, Any], options: Mapping[str, Any]
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
                text=f"OPTIONS has {given.lower()!r} and no {missing[0].lower()!r}.",
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


def unknown_option(name: str) -> str:
    """Return the text about a backend option that is none of ours."""
    return f"Unknown option {name!r}. {nearest(name, option=True)}"


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
    if username is not None or password is not None:
        pair = CREDENTIALS[1 if merged(options).get("API_VERSION") == 1 else 2]
        options |= {pair[0].lower(): username, pair[1].lower(): password}
    raw = merged(options)
    if problems := find_problems(raw, options):
        first = problems[0]
        raise configuration_error(
            " ".join(filter(None, [first.text, first.hint, f"({first.id})"])),
            alias=alias,
        )
    values = {key.lower(): value for key, value in raw.items() if value is not None}
    # Of these two None is a value: keep for ever.
    for key in ("RETENTION_DAYS", "BODY_RETENTION_DAYS"):
        if key in raw:
            values[key.lower()] = raw[key]
    version, region = values.get("api_version", 2), values.get("region", "global")
    timeout = values.get("timeout", Settings.timeout)
    connect, read = timeout if isinstance(timeout, (tuple, list)) else (timeout,) * 2
    values["timeout"] = (float(connect), float(read))
    send_url = values.get("send_url") or SEND_HOSTS.get((version, region), "")
    values["send_url"] = send_url.rstrip("/")
    values["api_url"] = (values.get("api_url") or API_HOSTS[version]).rstrip("/")
    return Settings(alias=alias, **values)
