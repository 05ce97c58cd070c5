"""Reads JSON strictly, because other servers may do so, too."""

from __future__ import annotations

import json
from typing import Any

from django_turbosmtp.sandbox.answers import refuse


def load_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`, or refuse it with the reason."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refuse(f"body is not UTF-8 (at byte {error.start})") from None
    try:
        value = json.loads(
            text, object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant
        )
    except ValueError as error:
        raise refuse(f"body is not valid JSON: {_explain(error)}") from None
    except RecursionError:
        raise refuse("body is not valid JSON: nested too deep") from None
    if not isinstance(value, dict):
        raise refuse(f"body must be a JSON object, not {type(value).__name__}")
    if "\\u" in text:
        # An unpaired surrogate must be an escape, because UTF-8 has none.
        _check_surrogates(value)
    return value


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = [name for name, _ in pairs if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
        raise ValueError(f"duplicate key {twice[0]!a}")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _explain(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        # str(error) is not used, because some versions quote the document.
        return f"{error.msg} at character {error.pos}"
    return str(error)


def _check_surrogates(value: Any, where: str = "body") -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise refuse(f"{where} contains a lone surrogate") from None
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_surrogates(name, "a field name")
            _check_surrogates(item, name)
    elif isinstance(value, list):
        for item in value:
            _check_surrogates(item, where)


def read_subject_and_to(body: bytes) -> tuple[str, str]:
    """Return subject and recipient of a request, whatever it contains."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(value, dict):
        return "", ""
    return _shorten(value.get("subject")), _shorten(value.get("to"))


def read_refusal(body: bytes) -> str:
    """Return the text of the sandbox's refusal, "" if there is none."""
    value = json.loads(body) if body else {}
    found = value.get("errors") or value.get("message") or ""
    text = "; ".join(map(str, found)) if isinstance(found, list) else str(found)
    details = value.get("details")
    return _shorten(f"{text} ({details})" if details else text, 500)


def _shorten(value: Any, limit: int = 80) -> str:
    text = value if isinstance(value, str) else ""
    return text if len(text) <= limit else text[: limit - 3] + "..."
