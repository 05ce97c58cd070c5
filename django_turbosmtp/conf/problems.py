"""Finds problems in the settings, for errors of the backend and for the checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django_turbosmtp.conf.keys import CREDENTIALS, KEYS, show_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: For these keys, None has the same meaning as a missing key.
_NONE_IS_UNSET = {key for pair in CREDENTIALS.values() for key in pair} | {
    "SEND_URL",
    "API_URL",
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem: the ``id`` of its check, a text, and a hint how to fix it."""

    id: str
    text: str
    hint: str = ""


def find_problems(
    raw: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
    *,
    alias: str | None = None,
) -> list[Problem]:
    """Return all problems of settings from `merge_options`.

    ``options`` and ``alias``: the options of the backend, and the alias of its mailer
    if it is one of MAILERS. They are only used to name the place of a wrong value.
    """
    problems = []
    for key, value in raw.items():
        if key not in KEYS:
            problems.append(_report_unknown_key(key))
        elif value is None and key in _NONE_IS_UNSET:
            continue
        elif key == "LOG_USING" and key.lower() in (options or {}):
            problems.append(
                Problem(
                    id="turbosmtp.E035",
                    text=f"{_name_place(key, options or {}, alias)} is set: the log"
                    " cannot be split over several databases.",
                    hint="Set TURBOSMTP['LOG_USING'], for all mailers.",
                )
            )
        elif complaint := KEYS[key].complain(value):
            text = f"{_name_place(key, options or {}, alias)} {complaint}"
            problems.append(Problem(id=KEYS[key].check_id, text=text))
    version_is_wrong = KEYS["API_VERSION"].complain(raw.get("API_VERSION", 2))
    # Which credentials are needed depends on the version.
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
        text=f"TURBOSMTP has the unknown key {show_name(key, KEYS)}.",
        hint=_suggest_key(key),
    )


def _suggest_key(key: object, *, option: bool = False) -> str:
    """Return a hint with the most similar known key or option."""

    def case(text: str) -> str:
        return text.lower() if option else text

    near = _find_near(key)
    if near:
        return f"Did you mean {case(near[0])!r}?"
    return f"Known: {', '.join(map(case, KEYS))}."


def _find_near(key: object) -> list[str]:
    # Imported late: it is only needed for an error.
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
    problems += _find_queue_problems(raw)
    pair = CREDENTIALS[version]
    missing = [key for key in pair if raw.get(key) is None]
    # `merge_options` ignores the other credential in TURBOSMTP, so "TURBOSMTP has no
    # ..." would be wrong.
    if len(missing) == 1 and any(options.get(key.lower()) for key in pair):
        (given,) = set(pair) - set(missing)
        problems.append(
            Problem(
                id="turbosmtp.E004",
                text=f"{'The backend' if alias is None else 'OPTIONS'} has"
                f" {given.lower()!r} and no {missing[0].lower()!r}.",
                hint="Set both: TURBOSMTP may have those of another account.",
            )
        )
    elif missing:
        problems.append(
            Problem(
                id="turbosmtp.E004" if len(missing) == 1 else "turbosmtp.E003",
                text=f"TURBOSMTP has no {' and no '.join(map(repr, missing))},"
                f" which API v{version} needs.",
                hint="Create a consumer key and secret in turboSMTP's dashboard."
                if version == 2
                else "Set the e-mail address and password of the account.",
            )
        )
    return problems


def _find_queue_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    if raw.get("QUEUE") and raw.get("LOG") is False:
        yield Problem(
            id="turbosmtp.E032",
            text="TURBOSMTP['QUEUE'] is set, and TURBOSMTP['LOG'] is False, but the"
            " queue uses the tables of the log.",
            hint="Remove LOG, or set QUEUE to False.",
        )
    if raw.get("RATE") is not None and not raw.get("QUEUE"):
        yield Problem(
            id="turbosmtp.E036",
            text="TURBOSMTP['RATE'] is set without TURBOSMTP['QUEUE']: only the queue"
            " limits the rate.",
            hint="Set QUEUE to True, or remove RATE.",
        )


def describe_unknown_option(name: str) -> tuple[str, str]:
    """Return the text about an unknown option of the backend, and a hint."""
    return f"Unknown option {show_name(name, KEYS)}.", _suggest_key(name, option=True)
