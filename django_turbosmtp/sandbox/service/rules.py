"""The strict rules for the fields of a send request."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from email import errors as mime_errors
from email import policy
from email.parser import BytesParser
from typing import TYPE_CHECKING, Any

from django_turbosmtp.sandbox.answers import refuse
from django_turbosmtp.sandbox.service.addressing import (
    LINE_BREAK,
    ParsedAddress,
    parse,
    parse_list,
)

if TYPE_CHECKING:
    from email.message import EmailMessage

MAX_SUBJECT = 700
KINDS = ("to", "cc", "bcc")
_TEXTS = {"from", *KINDS, "subject", "content", "html_content", "mime_raw"}
_ONLY_V2 = {"reference_id", "X-campaign-ID"}
_ONLY_V1 = {"authuser", "authpass"}
_BODIES = ("content", "html_content", "attachments", "custom_headers")
_ONE_LINE = ("from", *KINDS, "subject", "reference_id", "X-campaign-ID")
_STRUCTURAL = {"from", *KINDS, "subject", "mime-version"}
_FIELD_NAME = re.compile(r"[!-9;-~]+")
#: The characters of a restricted-name (RFC 6838, 4.2), in which media types are
#: registered.
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]+"  # noqa: S105  (MIME's word for a word)
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[ -~\t]*)?")
#: Visible ASCII except "<", ">" and "@" (docs/wire.rst, quirk 3).
_CONTENT_ID = re.compile(r"[!-;=?A-~]+")
_BROKEN_MIME = (
    mime_errors.FirstHeaderLineIsContinuationDefect,
    mime_errors.MalformedHeaderDefect,
    mime_errors.MissingHeaderBodySeparatorDefect,
    mime_errors.NoBoundaryInMultipartDefect,
    mime_errors.StartBoundaryNotFoundDefect,
    mime_errors.CloseBoundaryNotFoundDefect,
    mime_errors.MultipartInvariantViolationDefect,
)


@dataclass(frozen=True, kw_only=True)
class Attached:
    """An attachment of the request, decoded."""

    name: str
    type: str
    content: bytes
    content_id: str | None


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A valid request."""

    sender: ParsedAddress
    mailboxes: dict[str, list[ParsedAddress]]
    attachments: list[Attached]

    @property
    def recipients(self) -> list[tuple[str, str]]:
        """All deliveries in order; a repeated address has two."""
        return [
            (kind, mailbox.address)
            for kind in KINDS
            for mailbox in self.mailboxes[kind]
        ]


def check(fields: dict[str, Any], *, version: int) -> Checked:
    """Return the parsed request, or refuse it with all of its errors."""
    errors = list(_find_field_errors(fields, version))
    if errors:
        # Values of a wrong type cannot be checked any further.
        raise refuse(*errors)
    errors += [
        f"{name} contains a line break"
        for name in _ONE_LINE
        if LINE_BREAK.search(fields.get(name, ""))
    ]
    if len(fields.get("subject", "")) > MAX_SUBJECT:
        errors.append(f"subject is longer than {MAX_SUBJECT} characters")
    sender = parse(fields.get("from", ""))
    if sender is None:
        errors.append("missing or not valid sender email (from)")
    mailboxes = {}
    for kind in KINDS:
        mailboxes[kind], bad = parse_list(fields.get(kind, ""))
        errors += [f"'{piece}' '{kind}' email not valid" for piece in bad]
    # An empty field is also missing: docs/wire.rst, "Send", requires a recipient.
    if not fields.get("to", "").strip():
        errors.append("missing recipients (to)")
    errors += _find_header_errors(fields.get("custom_headers", {}))
    attachments, attachment_errors = _read_attachments(fields.get("attachments", []))
    errors += attachment_errors
    if errors or sender is None:
        raise refuse(*errors)
    if "mime_raw" in fields:
        _check_mime(fields)
    return Checked(sender=sender, mailboxes=mailboxes, attachments=attachments)


def _find_field_errors(fields: dict[str, Any], version: int) -> list[str]:
    errors = []
    known = _TEXTS | {"custom_headers", "attachments"}
    known |= _ONLY_V2 if version == 2 else _ONLY_V1
    for name, value in fields.items():
        if name not in known:
            errors.append(f"unknown field {name!a} in API v{version}")
        elif name == "custom_headers":
            if not isinstance(value, dict):
                errors.append("custom_headers must be an object")
            else:
                errors += [
                    f"custom_headers {header!a} must be a string"
                    for header, item in value.items()
                    if not isinstance(item, str)
                ]
        elif name == "attachments":
            if not isinstance(value, list):
                errors.append("attachments must be an array")
        elif not isinstance(value, str):
            errors.append(f"{name} must be a string")
    return errors


def _find_header_errors(headers: dict[str, str]) -> list[str]:
    errors = []
    seen: set[str] = set()
    for name, value in headers.items():
        lower = name.lower()
        if not _FIELD_NAME.fullmatch(name):
            errors.append(f"custom_headers {name!a} is not a header name")
        if LINE_BREAK.search(value) or "\0" in value:
            errors.append(f"custom_headers {name!a} contains a line break")
        # turboSMTP sets these itself. The documentation does not state which value
        # would be used.
        if lower in _STRUCTURAL or lower.startswith("content-"):
            errors.append(f"custom_headers may not set {name!a}")
        if lower in seen:
            errors.append(f"custom_headers names {lower!a} twice")
        seen.add(lower)
    return errors


def _read_attachments(items: list[Any]) -> tuple[list[Attached], list[str]]:
    found: list[Attached] = []
    errors: list[str] = []
    for index, item in enumerate(items):
        problem = _find_attachment_problem(item)
        if problem:
            errors.append(f"attachments[{index}] {problem}")
            continue
        try:
            # Without strict_mode, Python would skip invalid characters.
            content = binascii.a2b_base64(item["content"], strict_mode=True)
        except ValueError:
            errors.append(f"attachments[{index}] content is not valid base64")
            continue
        content_id = item.get("content_id")
        if content_id is not None and content_id in {a.content_id for a in found}:
            errors.append(f"attachments[{index}] repeats a content_id")
            continue
        found.append(
            Attached(
                name=item["name"],
                type=item["type"],
                content=content,
                content_id=content_id,
            )
        )
    return found, errors


def _find_attachment_problem(item: Any) -> str:
    if not isinstance(item, dict):
        return "must be an object"
    needed = {"content", "name", "type"}
    unknown = item.keys() - needed - {"content_id"}
    if unknown:
        return f"has unknown keys: {', '.join(map(ascii, sorted(unknown)))}"
    if needed - item.keys():
        return f"lacks {', '.join(sorted(needed - item.keys()))}"
    for key, value in item.items():
        if not isinstance(value, str):
            return f"{key} must be a string"
    if not item["name"] or re.search(r"[\r\n\0]", item["name"]):
        return "name is empty or contains a line break"
    if not _MEDIA_TYPE.fullmatch(item["type"]):
        return "type is not a media type"
    if item["type"].lower().startswith("multipart/"):
        return "type may not be multipart"
    if "content_id" in item and not _CONTENT_ID.fullmatch(item["content_id"]):
        return "content_id must be bare: no @, <, > or space"
    return ""


def _check_mime(fields: dict[str, Any]) -> None:
    beside = [name for name in _BODIES if name in fields]
    if beside:
        # The documentation does not describe how they would be combined.
        raise refuse(f"mime_raw replaces the message: it excludes {', '.join(beside)}")
    raw: bytes = fields["mime_raw"].encode()
    problem = find_mime_problem(raw)
    if problem:
        raise refuse("Invalid Mime", details=problem)


def find_mime_problem(raw: bytes) -> str:
    """Return why `raw` is not a valid MIME message, or ""."""
    head = re.split(rb"\r?\n\r?\n", raw, maxsplit=1)[0]
    # Header fields are ASCII without SMTPUTF8 (RFC 5322, 2.2).
    if not head.isascii():
        return "the header block contains raw non-ASCII characters"
    if b"\0" in head:
        return "the header block contains a NUL"
    message: EmailMessage = BytesParser(policy=policy.default).parsebytes(raw)
    senders = sum(name.lower() == "from" for name in message.keys())  # noqa: SIM118
    if senders != 1:
        return f"it has {senders} From headers; one is needed"
    pending: list[Any] = [message]
    while pending:
        part = pending.pop()
        for defect in part.defects:
            if isinstance(defect, _BROKEN_MIME):
                return type(defect).__name__
        # The contents of attached messages are not checked.
        if part.get_content_maintype() == "multipart" and part.is_multipart():
            pending += part.get_payload()
    return ""
