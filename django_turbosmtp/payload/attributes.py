"""Reads the attributes that Django does not have: tags, metadata and so on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django_turbosmtp._lib.limits import MAX_REFERENCE_LENGTH
from django_turbosmtp._lib.text import has_control
from django_turbosmtp.exceptions import MessageError, UnsupportedFeature
from django_turbosmtp.payload.wire import (
    QUEUE_ATTRIBUTES,
    SHOWN_HEADERS,
    UNSUPPORTED_ATTRIBUTES,
    WIRE_FIELDS,
)


@dataclass(kw_only=True, slots=True)
class Attributes:
    """The attributes known from django-anymail, with the defaults applied.

    ``headers``: those of the message and of the defaults, as Django would read them.
    ``campaign``: None if there is none.
    """

    reference_id: str
    tags: tuple[str, ...] = ()
    campaign: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)


def read_attributes(
    message: Any,
    defaults: Mapping[str, Any],
    *,
    api_version: int = 2,
    ignore_unsupported: bool = False,
    default_reference_id: str = "",
    is_queued: bool = False,
) -> Attributes:
    """Return the attributes of ``message``, merged with ``SEND_DEFAULTS``.

    Tags are the message's followed by the defaults'. Dicts are merged key by key, and
    the message has precedence (header names are compared in lower case).
    ``default_reference_id`` is used if there is no other. Raise `UnsupportedFeature`
    for an attribute that turboSMTP has no field for, unless ``ignore_unsupported``; for
    one that only the queue supports, unless ``is_queued``; and for a key of
    ``esp_extra`` that is not supported.
    """
    if not ignore_unsupported:
        _refuse_unsupported(message)
        if not is_queued:
            _refuse_queue_attributes(message)
    extra = {**defaults.get("esp_extra", {}), **_read_mapping(message, "esp_extra")}
    _check_esp_extra(extra, api_version)
    # Remove duplicates, but keep the order: the first tag is the campaign.
    tags = tuple(dict.fromkeys([*_read_tags(message), *defaults.get("tags", ())]))
    # esp_extra overrides the tags, as in django-anymail.
    campaign = extra.get("X-campaign-ID", tags[0] if tags else None)
    return Attributes(
        reference_id=_read_reference_id(message, extra) or default_reference_id,
        tags=tags,
        campaign=None if campaign is None else _require_one_line("campaign", campaign),
        metadata={**defaults.get("metadata", {}), **_read_mapping(message, "metadata")},
        headers=merge_headers(
            _drop_replaced_by_lists(defaults.get("headers", {}), message),
            _read_own_headers(message),
            _spell_as_django(extra.get("custom_headers", {})),
        ),
    )


def _read_own_headers(message: Any) -> dict[str, Any]:
    """Return the headers as Django reads them: ``items()``, and some by their name.

    A dict-like object may have lists of values, or ignore the case of names.
    """
    own = getattr(message, "extra_headers", None)
    if not own:
        return {}
    headers = dict(own.items())
    for lowered, name in SHOWN_HEADERS.items():
        # Django reads these headers with get(), so a case-insensitive dict finds them
        # in any spelling.
        if name not in headers and own.get(name) is not None:
            headers = {
                name if str(n).lower() == lowered else n: v for n, v in headers.items()
            }
    return headers


def _spell_as_django(headers: Mapping[str, Any]) -> dict[str, Any]:
    # turboSMTP spells it "reply-to" (docs/wire.rst, quirk 2).
    return {
        SHOWN_HEADERS.get(str(name).lower(), name): v for name, v in headers.items()
    }


def _drop_replaced_by_lists(
    defaults: Mapping[str, Any], message: Any
) -> dict[str, Any]:
    """Return the default headers without those that the message's lists replace."""
    if not defaults:
        return {}
    headers = _spell_as_django(defaults)
    for name in ("To", "Cc", "Reply-To"):
        if getattr(message, name.lower().replace("-", "_"), None):
            headers.pop(name, None)
    return headers


def merge_headers(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return merged headers. Later dicts have precedence; case is ignored."""
    result: dict[str, Any] = {}
    for layer in filter(None, layers):
        taken = {str(name).lower() for name in layer}
        result = {n: v for n, v in result.items() if str(n).lower() not in taken}
        result.update(layer)
    return result


def _check_esp_extra(extra: Mapping[str, Any], api_version: int) -> None:
    if not extra:
        return
    # Other fields are attributes of the message, so a value here would contradict them.
    own = {"custom_headers"} | (
        {"X-campaign-ID", "reference_id"} if api_version == 2 else set()
    )
    for key, value in extra.items():
        if key not in own:
            known = (
                "is set on the message itself" if key in WIRE_FIELDS else "is unknown"
            )
            raise UnsupportedFeature(
                f"esp_extra[{key!r}] {known}; with turboSMTP's API v{api_version} it"
                f" may have these keys: {', '.join(sorted(own))}."
            )
        if key == "custom_headers" and not isinstance(value, Mapping):
            raise MessageError(
                f"esp_extra['custom_headers'] is a {type(value).__name__}, not a dict."
            )


def _require_one_line(name: str, value: Any) -> str:
    text = str(value)
    if has_control(text):
        raise MessageError(
            f"{name}: {text!r} contains a line break or a control character."
        )
    return text


def read_attribute(message: Any, name: str) -> Any:
    """Return an attribute, or None if it is not set (or django-anymail's ``UNSET``)."""
    value = getattr(message, name, None)
    if value is None:
        return None
    # AnymailMessage sets all attributes to a class of this name.
    return None if getattr(value, "__name__", "") == "UNSET" else value


def _find_set(message: Any, names: Iterable[str]) -> list[str]:
    """Return the attributes that are set: False, 0 and empty values ask for nothing."""
    return [
        name
        for name in names
        if getattr(message, name, None) and read_attribute(message, name)
    ]


def _refuse_unsupported(message: Any) -> None:
    if found := _find_set(message, UNSUPPORTED_ATTRIBUTES):
        raise UnsupportedFeature(
            f"The message sets {', '.join(found)}; turboSMTP's send API has no field"
            " for that. Remove it, or set TURBOSMTP['IGNORE_UNSUPPORTED_FEATURES'] to"
            " True to send without it."
        )


def _refuse_queue_attributes(message: Any) -> None:
    if found := _find_set(message, QUEUE_ATTRIBUTES):
        raise UnsupportedFeature(
            f"The message sets {', '.join(found)}, and only the queue supports that."
            " Set TURBOSMTP['QUEUE'] to True, or remove the attribute."
        )


def _read_tags(message: Any) -> list[str]:
    tags = read_attribute(message, "tags")
    if not tags:
        return []
    # A str is also iterable, and would become one tag for each character.
    if isinstance(tags, (str, Mapping)):
        raise MessageError(f"tags is a {type(tags).__name__}, not a list of strings.")
    return [_require_one_line("tags", tag) for tag in tags]


def _read_mapping(message: Any, name: str) -> Mapping[str, Any]:
    value = read_attribute(message, name)
    if not value:
        return {}
    if not isinstance(value, Mapping):
        raise MessageError(f"{name} is a {type(value).__name__}, not a dict.")
    return value


def _read_reference_id(message: Any, extra: Mapping[str, Any]) -> str:
    value = read_attribute(message, "reference_id") or extra.get("reference_id")
    if not value:
        return ""
    text = _require_one_line("reference_id", value)
    if len(text) > MAX_REFERENCE_LENGTH:
        raise MessageError(
            f"reference_id has {len(text)} characters; at most {MAX_REFERENCE_LENGTH}"
            " are allowed."
        )
    return text
