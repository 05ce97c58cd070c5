"""Reads events from the webhook's JSON, in django-anymail's words (docs/wire.rst).

Pure: no settings, no database. Every part of a body becomes an event. Values that
cannot be read are blank, and the raw JSON is kept.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from django_turbosmtp._lib.limits import MAX_REFERENCE_LENGTH
from django_turbosmtp.payload.addresses import normalize_address
from django_turbosmtp.statuses import (
    EVENT_TYPES,
    UNKNOWN_EVENT,
    Reason,
    Status,
    find_event_status,
)
from django_turbosmtp.tracking.bounces import HARD, classify

if TYPE_CHECKING:
    from collections.abc import Mapping

#: django-anymail's reject reasons.
_REASONS = {Status.COMPLAINED: "spam", Status.UNSUBSCRIBED: Reason.UNSUBSCRIBED.value}

#: The highest valid time: 2100, in seconds since 1970.
_MAX_SECONDS = 4_102_444_800
_MAX_EVENT_ID = 255
_MAX_TEXT = 2_000
_MAX_DIGITS = 50
_MAX_REASON_DEPTH = 3
_MAX_REASON_PARTS = 20
_MAX_DEPTH = 15

#: Whole phrases: "complaint rate of the account" is about the sender.
_COMPLAINED = re.compile(
    r"\bcomplaining recipient\b|\brecipient (?:has )?complained\b", re.IGNORECASE
)

#: A JSON string, a bracket, or the text between them.
_TOKENS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]|[^"\[\]{}]+', re.DOTALL)

#: The user agents of programs that load pictures and follow links. Bots are recognized
#: by a version ("Googlebot/2.1"), at the beginning, or after "compatible", because some
#: phones are called "CUBOT" or "M bot 60".
_MACHINES = re.compile(
    r"(?<![\w-])(?!cubot)[\w-]*bot(?:[/-]v?\d|-\w)|^(?!cubot)[\w-]*bot\b"
    r"|\bcompatible;[^)]*?(?!cubot)\b[\w-]*bot\b|\bbot@|[/.]bot\b|\+https?://"
    r"|crawler|spider|preview|url ?scan|scanner|barracuda|proofpoint|mimecast|symantec"
    r"|messagelabs|safelinks|trend ?micro|fireeye|sophos|forcepoint|ironport|cloudmark"
    r"|avanan|zscaler|fortiguard|fortimail|vade ?secure|headless|phantomjs|puppeteer"
    r"|python|curl/|wget/|go-http-client|java/|okhttp|libwww|apache-httpclient"
    r"|node-fetch|axios|\bruby\b|\bperl\b|guzzle|powershell|scrapy|httpx/|aiohttp/",
    re.IGNORECASE,
)
#: The whole user agent of Apple's Mail Privacy Protection. Mail programs have a longer
#: one.
_APPLE_PROXY = "Mozilla/5.0"


#: Refuse a request with more events: each needs a fraction of a millisecond, and a body
#: of 5 MiB may contain more than a million empty ones.
MAX_EVENTS = 10_000


class MalformedBody(ValueError):  # noqa: N818 - it names the body, not the error
    """The body of a webhook request is neither a JSON object nor an array."""


class TooManyEvents(ValueError):  # noqa: N818
    """The body of a webhook request has more than `MAX_EVENTS` parts."""


@dataclass(frozen=True, kw_only=True)
class TrackingEvent:
    """One event of a message and one of its recipients.

    The names are those of django-anymail's event. ``timestamp``: aware, or None.
    ``message_id``: exact digits, or None. ``bounce_kind``: the recipient's problem
    (`bounces.BounceKind`), or "". ``is_machine``: whether a program probably caused the
    open or click. ``metadata`` and ``tags``: of the message in the log; empty if it is
    not in the log. ``esp_event``: the event as it arrived.
    """

    event_type: str
    timestamp: datetime | None
    event_id: str
    message_id: str | None
    recipient: str
    reference_id: str = ""
    reject_reason: str | None = None
    bounce_kind: str = ""
    description: str = ""
    mta_response: str = ""
    user_agent: str = ""
    ip: str = ""
    click_url: str = ""
    is_machine: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    esp_event: Any = None

    @property
    def digest(self) -> str:
        """A hash that is the same if the same event is delivered twice.

        It includes id, status, address and time, because no document says that the id
        is unique. It begins with the time, so that an index on it grows at its end.
        """
        parts = (
            [self.event_id, self._wire_status, self.recipient, str(self.timestamp)]
            if self.event_id or self.message_id
            # An event without any id is only the same if all of it is.
            else [json.dumps(self.esp_event, sort_keys=True, default=str)]
        )
        if not self.event_id:
            parts.append(self.message_id or "")
        # A program may follow several links in one second.
        parts.append(self.click_url)
        seconds = int(self.timestamp.timestamp()) if self.timestamp else 0
        text = "\0".join(parts).encode(errors="surrogatepass")
        return f"{seconds:08x}{blake2b(text, digest_size=14).hexdigest()}"

    @property
    def status(self) -> Status | None:
        """The status that the event leads to, or None if its type is unknown."""
        return find_event_status(self.event_type, is_machine=self.is_machine)

    @property
    def _wire_status(self) -> str:
        if isinstance(self.esp_event, dict):
            return str(_fold(self.esp_event).get("status")).strip().upper()
        return ""

    @property
    def suppresses(self) -> bool:
        """Whether no further mail may be sent to its recipient."""
        if self.status in {Status.COMPLAINED, Status.UNSUBSCRIBED}:
            return True
        if self.status not in {Status.BOUNCED, Status.REJECTED}:
            return False
        if self.bounce_kind in HARD:
            return True
        # Dropped because of an earlier action of the recipient, not of this message.
        return self.status == Status.REJECTED and (
            self.reject_reason == Reason.UNSUBSCRIBED
            or _COMPLAINED.search(self.mta_response) is not None
        )


def read_body(body: bytes) -> list[TrackingEvent]:
    """Return the events of a webhook request, in order.

    Raise `MalformedBody` if it is neither a JSON object nor an array, and
    `TooManyEvents`.
    """
    # An invalid character damages one text, but not the other events.
    text = body.decode("utf-8-sig", errors="replace")
    try:
        value = _read_json(text)
    except ValueError:
        value = _read_lines(text)
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise MalformedBody("The body is neither an object nor an array.")
    if len(value) > MAX_EVENTS:
        raise TooManyEvents(
            f"The body has {len(value)} events; at most {MAX_EVENTS} are read."
        )
    return [read_event(part) for part in value]


def read_event(raw: Any) -> TrackingEvent:
    """Return an event of the webhook, from any JSON value."""
    given = _fold(raw) if isinstance(raw, dict) else {}
    event_type = EVENT_TYPES.get(
        str(given.get("status") or "").strip().upper(), UNKNOWN_EVENT
    )
    reason_text = _read_reason(given.get("reason"))
    status = find_event_status(event_type, is_machine=False)
    # Other events have no reason.
    reason, kind = _REASONS.get(status) if status else None, ""
    if status in {Status.BOUNCED, Status.REJECTED}:
        bounce = classify(reason_text)
        reason, kind = bounce.reason, bounce.kind
    user_agent = _read_text(given.get("useragent"))
    return TrackingEvent(
        event_type=event_type,
        timestamp=_read_moment(given.get("timestamp")),
        event_id=_read_text(given.get("id"))[:_MAX_EVENT_ID],
        message_id=_read_digits(given.get("mid")),
        recipient=normalize_address(_read_text(given.get("email"))),
        reference_id=_read_text(given.get("reference_id"))[:MAX_REFERENCE_LENGTH],
        reject_reason=reason,
        bounce_kind=kind,
        description=reason_text.partition("\n")[0][:500],
        mta_response=reason_text,
        user_agent=user_agent,
        ip=_read_text(given.get("ip"))[:45],
        click_url=_read_text(given.get("url")),
        is_machine=status in {Status.OPENED, Status.CLICKED} and is_machine(user_agent),
        esp_event=_make_plain(raw),
    )


def is_machine(user_agent: str) -> bool:
    """Return whether a user agent is probably an automatic program.

    Picture proxies that load when a person opens a message (Gmail, Yahoo) are not.
    """
    agent = user_agent.strip()
    return agent == _APPLE_PROXY or _MACHINES.search(agent) is not None


def _read_json(text: str) -> Any:
    """Return the value of a JSON text. Raise ValueError if it is not JSON."""
    how: dict[str, Any] = {
        "parse_int": _read_integer,
        "parse_float": _read_float,
        "parse_constant": str,
    }
    try:
        return json.loads(text, **how)
    except RecursionError:
        # One part is nested too deeply; others may be valid.
        return json.loads(_cut_depth(text), **how)


def _read_lines(text: str) -> list[Any]:
    """Return the objects of a body with one on each line (NDJSON)."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > MAX_EVENTS:
        raise TooManyEvents(
            f"The body has {len(lines)} lines; at most {MAX_EVENTS} events are read."
        )
    try:
        values = [_read_json(line) for line in lines]
    except ValueError:
        values = []
    if len(values) < 2 or not all(isinstance(value, dict) for value in values):
        raise MalformedBody("The body is not JSON.")
    return values


def _cut_depth(text: str) -> str:
    """Return the JSON text with parts that are nested too deeply replaced."""
    kept, depth = [], 0
    for found in _TOKENS.finditer(text):
        part = found[0]
        depth += part in "[{"
        if depth <= _MAX_DEPTH + 3:
            kept.append(part)
        elif depth == _MAX_DEPTH + 4 and part in "[{":
            kept.append('"(nested too deeply)"')
        depth -= part in "]}"
    return "".join(kept)


def _read_integer(digits: str) -> int | str:
    # Python refuses to read very long ones, and all events would be lost.
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


def _read_float(text: str) -> Decimal | str:
    """Return the exact number, because it may be an id; as text if it is huge."""
    try:
        number = Decimal(text[:_MAX_DIGITS])
    except (InvalidOperation, OverflowError):
        return text
    short = len(text) <= _MAX_DIGITS and abs(number.adjusted()) <= _MAX_DIGITS
    return number if short else text


def _fold(raw: dict[str, Any]) -> dict[str, Any]:
    """Return it with names in lower case, because turboSMTP uses both.

    If both are present, the value that is not empty is used.
    """
    folded: dict[str, Any] = {}
    for given, value in raw.items():
        name = str(given).strip().lower()
        if folded.get(name) in (None, "") or value not in (None, ""):
            folded[name] = value
    return folded


def _read_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        return ""
    text = format(value, "f") if isinstance(value, Decimal) else str(value)
    return text[:_MAX_TEXT]


def _read_digits(value: Any) -> str | None:
    if isinstance(value, Decimal) and value == int(value):
        value = int(value)
    text = _read_text(value).strip()
    if text.isascii() and text.isdecimal() and len(text) <= 40:
        return text
    return None


def _read_moment(value: Any) -> datetime | None:
    text = _read_text(value).strip()
    try:
        seconds = float(text)
        if seconds > _MAX_SECONDS:  # milliseconds
            seconds /= 1000
        if 0 < seconds < _MAX_SECONDS:
            return datetime.fromtimestamp(seconds, UTC)
    except ValueError:
        pass
    return None


def _read_reason(value: Any, depth: int = 0) -> str:
    """Return the text of a reason, which may be a text, an object or a list.

    If parts of an object ("0" and "response") repeat each other, the longer text is
    returned; otherwise each on a separate line.
    """
    if not isinstance(value, (dict, list)):
        return _read_text(value).strip()
    if depth > _MAX_REASON_DEPTH:
        return ""
    parts = value
    if isinstance(value, dict):
        folded = _fold(value)
        known = [folded.get("response"), folded.get("0")]
        parts = known if any(known) else list(folded.values())
    texts: list[str] = []
    for part in parts[:_MAX_REASON_PARTS]:
        text = _read_reason(part, depth + 1)
        if not any(text in other for other in texts):
            texts = [other for other in texts if other not in text] + [text]
    return "\n".join(texts)[:_MAX_TEXT]


def _make_plain(value: Any, depth: int = 0) -> Any:
    """Return a JSON value with exact numbers, as text if parsers may round them."""
    if depth > _MAX_DEPTH and isinstance(value, (dict, list)):
        return "(nested too deeply)"
    if isinstance(value, dict):
        return {str(k): _make_plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_make_plain(part, depth + 1) for part in value]
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**53:
        # Some JSON parsers, as in browsers, would round it.
        return str(value)
    return value
