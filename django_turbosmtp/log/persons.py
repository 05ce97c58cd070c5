"""Finds one person in all columns that may contain their address, in any encoding.

An address is recognized in URLs (percent-encoded), HTML (entities), JSON (escapes),
MIME (quoted-printable, base64, encoded words), with a quoted local part, and with its
domain in Unicode or IDNA.
"""

from __future__ import annotations

import contextlib
import html
import re
from base64 import b64decode, b64encode, urlsafe_b64decode
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from django.apps import apps
from django.db import router
from django.db.models import BinaryField, Q, TextField
from django.db.models.functions import Cast, Lower

from django_turbosmtp._lib.hashes import list_hashes
from django_turbosmtp.models import (
    Attachment,
    Attempt,
    Content,
    Event,
    HashedAddress,
    Heartbeat,
    Message,
    Payload,
    QueueAccount,
    QueuedMessage,
    RateUse,
    Recipient,
    Resend,
    StoredFile,
    Suppression,
    Tag,
    Unmatched,
)
from django_turbosmtp.payload.addresses import normalize_address
from django_turbosmtp.payload.stored import (
    UnreadablePayloadError,
    read_raw_fields,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import Model, QuerySet

#: Replaces texts that contained the address of an erased person.
ERASED: Final = "(erased)"

#: All columns of text, JSON or bytes that may contain an address.
COLUMNS: Final[dict[type[Model], tuple[str, ...]]] = {
    Message: (
        *("reference_id", "from_email", "subject", "subject_start", "first_recipient"),
        *("campaign", "tags", "metadata", "headers", "why_mime", "error"),
    ),
    Content: ("text", "html", "wire"),
    Recipient: ("address", "shown"),
    Tag: ("name",),
    Attempt: ("recipients", "error", "answer"),
    Payload: ("data",),
    Attachment: ("name", "type", "content_id"),
    Event: (
        *("event_id", "reference_id", "address", "answer", "user_agent", "click_url"),
        "raw",
    ),
    Unmatched: ("reference_id",),
    Suppression: ("address", "source", "note"),
}

#: All other columns of text, and why they do not contain an address.
WITHOUT_PERSONS: Final[dict[type[Model], dict[str, str]]] = {
    Message: {
        **dict.fromkeys(("status", "outcome"), "words of `statuses`"),
        "mid": "digits of turboSMTP's",
        "mailer": "an alias of the settings",
        "account": "a fingerprint",
        "error_class": "a class name",
        "altered": "names of fields",
    },
    Recipient: {
        **dict.fromkeys(("kind", "status", "why"), "words of `statuses`"),
        "mid": "digits of turboSMTP's",
    },
    Attempt: {"error_class": "a class name"},
    Attachment: {"sha256": "a hash of the content"},
    StoredFile: {"sha256": "a hash of the content", "file": "a path with that hash"},
    Event: {
        "digest": "a hash; the events about a person are deleted",
        "mid": "digits of turboSMTP's",
        **dict.fromkeys(("event_type", "reject_reason", "bounce_kind"), "words"),
    },
    Unmatched: {"mid": "digits of turboSMTP's"},
    Suppression: {"reason": "a word of `statuses`"},
    HashedAddress: {"hash": "a keyed hash"},
    Resend: {},
    QueuedMessage: {
        "mailer": "an alias of the settings",
        "account": "a fingerprint",
    },
    QueueAccount: {
        "account": "a fingerprint",
        "mailer": "an alias of the settings",
        "error": "about the account, not about recipients",
        "error_class": "a class name",
    },
    RateUse: {"account": "a fingerprint"},
    Heartbeat: {"name": "of a task"},
}

#: Columns of the admin's log, which contains subjects and addresses.
ADMIN_COLUMNS: Final = ("object_repr", "change_message")

_ROUNDS = 4
_ZERO_WIDTH = re.compile("[\u200b-\u200d\u2060\ufeff\u00ad]")
_JSON_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_ESCAPED_SPACE = re.compile(r"\\[nrt]")
_QUOTED_PRINTABLE = re.compile(r"=\r?\n|(?:=[0-9A-Fa-f]{2})+")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-]{12,}={0,2}")
_TOKEN = re.compile(r"[a-z0-9]+")


class Person:
    """One address, with the patterns for finding it in texts."""

    def __init__(self, address: str) -> None:
        self.address = normalize_address(address)
        self.hashes = list_hashes(self.address)
        self._pattern = _build_pattern(self._list_spellings())

    def _list_spellings(self) -> list[str]:
        local, at, domain = self.address.rpartition("@")
        domains = [domain]
        with contextlib.suppress(UnicodeError):
            # The log stores domains in IDNA, but texts contain them as people write
            # them.
            domains.append(domain.encode("ascii").decode("idna"))
        plain = local.strip('"')
        locals_ = [local, plain, f'"{plain}"']
        return list(dict.fromkeys(f"{one}{at}{d}" for one in locals_ for d in domains))

    @cached_property
    def tokens(self) -> list[str]:
        """Tokens, at least one of which is in every text with the person's address.

        The longest part of letters and digits, which encodings do not change, and the
        address in base64 at each of the three alignments.
        """
        local, _, domain = self.address.rpartition("@")
        words = _TOKEN.findall(local) + _TOKEN.findall(domain)
        named = max(_TOKEN.findall(local) or words or [self.address], key=len)
        # A short token would match nearly every row, and each match is decoded.
        if len(named) < 3:
            named = max(words or [self.address], key=len)
        return [named, *_list_base64(self.address.encode())]

    def is_named_in(self, value: Any) -> bool:
        """Return whether a text, a JSON value or bytes contain the address."""
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._is_named_in_bytes(bytes(value))
        return any(self._is_named_in_text(text) for text in list_texts(value))

    def _is_named_in_text(self, text: str) -> bool:
        # Encodings may be nested, such as a URL inside HTML inside JSON.
        for _ in range(_ROUNDS):
            if self._pattern.search(text):
                return True
            decoded = _decode(text)
            if decoded == text:
                break
            text = decoded
        return any(
            self._pattern.search(_read_base64(found[0]))
            for found in _BASE64.finditer(text)
        )

    def _is_named_in_bytes(self, content: bytes) -> bool:
        # Remove null bytes: UTF-16 without them looks like ASCII.
        content = content.replace(b"\0", b"")
        lower = content.lower()
        if not any(token.lower().encode() in lower for token in self.tokens):
            return False
        return self._is_named_in_text(content.decode(errors="replace"))

    def is_named_in_payload(self, payload: bytes) -> bool:
        """Return whether the stored JSON of a request contains the address.

        Its MIME and its attachments are decoded.
        """
        try:
            fields = read_raw_fields(payload)
        except UnreadablePayloadError:
            return self.is_named_in(payload)
        if self.is_named_in(fields):
            return True
        contents = [
            _read_base64_bytes(str(part.get("content", "")))
            for part in fields.get("attachments") or ()
            if isinstance(part, dict)
        ]
        raw = fields.get("mime_raw")
        if isinstance(raw, str):
            contents += _read_mime(raw.encode(errors="replace"))
        return any(self.is_named_in(content) for content in contents)

    def replace_in(self, value: Any) -> Any:
        """Return a text or JSON value with each text that has the address replaced."""
        if isinstance(value, str):
            return ERASED if self.is_named_in(value) else value
        if isinstance(value, dict):
            return {
                self.replace_in(name): self.replace_in(item)
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [self.replace_in(item) for item in value]
        return value

    def find_rows(
        self, model: type[Model], alias: str
    ) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Yield the key of each row with the address, and the columns that contain it.

        It reads the whole table once, because no index can be used.
        """
        columns = COLUMNS[model]
        rows = model._default_manager.using(alias).order_by("pk")
        yield from self._match_rows(rows, columns)

    def find_admin_log(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Yield the same for Django's admin log, if the admin is installed."""
        if apps.is_installed("django.contrib.admin"):
            from django.contrib.admin.models import LogEntry

            rows = LogEntry.objects.using(router.db_for_write(LogEntry))
            yield from self._match_rows(rows.order_by("pk"), ADMIN_COLUMNS)

    def _match_rows(
        self, rows: QuerySet[Any], columns: tuple[str, ...]
    ) -> Iterator[tuple[Any, dict[str, Any]]]:
        # Compare in lower case, because some columns and databases are case-sensitive.
        lower = {
            f"{name}_in_lower_case": Lower(Cast(name, TextField())) for name in columns
        }
        named = Q()
        for path in lower:
            for token in self.tokens:
                named |= Q(**{f"{path}__contains": token.lower()})
        found = rows.annotate(**lower).filter(named)
        part = found.values_list("pk", *columns)
        # Read in parts, because MariaDB's client loads all rows of one statement.
        while chunk := list(part[:_CHUNK]):
            for pk, *values in chunk:
                pairs = dict(zip(columns, values, strict=True))
                naming = {n: v for n, v in pairs.items() if self.is_named_in(v)}
                if naming:
                    yield pk, naming
            part = found.filter(pk__gt=chunk[-1][0]).values_list("pk", *columns)


_CHUNK = 200


def list_unclassified_columns() -> list[str]:
    """Return the columns of text that neither table lists, as ``Model.field``."""
    kinds = {
        *("CharField", "TextField", "JSONField", "BinaryField", "FileField"),
        *("EmailField", "SlugField", "URLField"),
    }
    return [
        f"{model.__name__}.{field.name}"
        for model in apps.get_app_config("turbosmtp").get_models()
        for field in model._meta.concrete_fields
        if not field.is_relation
        and (field.get_internal_type() in kinds or isinstance(field, BinaryField))
        and field.name not in COLUMNS.get(model, ())
        and field.name not in WITHOUT_PERSONS.get(model, {})
    ]


def _build_pattern(spellings: list[str]) -> re.Pattern[str]:
    """Return a pattern that matches an address, but not as part of a longer one."""
    either = "|".join(map(re.escape, spellings))
    return re.compile(rf"(?<![\w.+-])(?:{either})(?![\w-]|\.\w)", re.IGNORECASE)


def list_texts(value: Any) -> Iterator[str]:
    """Yield the texts of a JSON value, including the names of objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield str(name)
            yield from list_texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from list_texts(item)


def _decode(text: str) -> str:
    """Return a text with one layer of each encoding removed."""
    text = _ZERO_WIDTH.sub("", text)
    text = _JSON_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    text = _ESCAPED_SPACE.sub(" ", text).replace('\\"', '"')
    if "=?" in text:
        with contextlib.suppress(ValueError, LookupError):
            text = str(make_header(decode_header(text)))
    text = _QUOTED_PRINTABLE.sub(_read_quoted_printable, text)
    return html.unescape(unquote(text))


def _read_quoted_printable(found: re.Match[str]) -> str:
    return bytes.fromhex("".join(found[0].strip().split("="))).decode(errors="replace")


def _list_base64(content: bytes) -> list[str]:
    """Return three texts; every base64 text with these bytes contains one of them."""
    found = []
    for shift in range(3):
        whole = b64encode(b"\0" * shift + content).decode()
        # The first and the last group may also encode bits of other bytes.
        start = 4 if shift else 0
        end = len(whole) - (4 if (shift + len(content)) % 3 else 0)
        found.append(whole[start:end])
    return [text for text in found if len(text) >= 8]


def _read_base64(text: str) -> str:
    return _read_base64_bytes(text).decode(errors="replace")


def _read_base64_bytes(text: str) -> bytes:
    text = text.strip().rstrip("=")
    # Texts are often cut, or written without padding.
    text += "=" * (-len(text) % 4)
    try:
        if "-" in text or "_" in text:
            return urlsafe_b64decode(text)
        return b64decode(text)
    except ValueError:
        return b""


def _read_mime(content: bytes) -> list[bytes]:
    """Return the headers and the decoded parts of a MIME message."""
    try:
        message = message_from_bytes(content, policy=policy.compat32)
        parts = [str(message.items()).encode(errors="replace")]
        for part in message.walk():
            decoded = part.get_payload(decode=True)
            parts.append(str(part.items()).encode(errors="replace"))
            if isinstance(decoded, bytes):
                parts.append(decoded)
    except (ValueError, LookupError, AttributeError):
        return [content]
    return parts
