"""JSON for tests and people under /sandbox/: messages and faults."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from django_turbosmtp.sandbox.answers import (
    HeaderPairs,
    Refusal,
    Reply,
    Request,
    answer_json,
    answer_message,
)
from django_turbosmtp.sandbox.state import describe
from django_turbosmtp.sandbox.strictjson import load_object

if TYPE_CHECKING:
    from django_turbosmtp.sandbox.state import State
    from django_turbosmtp.sandbox.state.faults import Fault
    from django_turbosmtp.sandbox.state.store import Received

NO_CONTENT = "default-src 'none'; frame-ancestors 'none'; sandbox"
SECURITY: HeaderPairs = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
_FAULT_ARGUMENTS = {
    "kind",
    "times",
    "skip",
    "retry_after",
    "match",
    "seconds",
    "accept",
}


def route(state: State, request: Request) -> Reply:
    """Answer a request below /sandbox/."""
    match request.method, *request.segments[1:]:
        case ["GET", "messages"]:
            return _list(state, request)
        case ["DELETE", "messages"]:
            _check_same_site(request)
            state.store.clear(requests=False)
            return _answer_json({"message": "OK"})
        case ["GET", "messages", mid]:
            return _answer_json(describe_message(_find(state, mid)))
        case ["GET", "messages", mid, "raw"]:
            received = _find(state, mid)
            return download(received.raw, f"{received.mid}.eml", "message/rfc822")
        case ["GET", "messages", mid, "attachments", number]:
            info, content = find_file(_find(state, mid), number)
            return download(content, info.name, info.type)
        case ["GET", "refused"]:
            results = [asdict(refused) for refused in reversed(state.refused)]
            for result in results:
                result["received_at"] = result["received_at"].isoformat()
            return _answer_json({"count": len(results), "results": results})
        case ["GET", "faults"]:
            return _answer_json({"faults": [f.as_dict() for f in state.faults.active]})
        case ["POST", "faults"]:
            _check_same_site(request)
            return _answer_json(_add_fault(state, request).as_dict(), status=201)
        case ["DELETE", "faults"]:
            _check_same_site(request)
            state.clear_faults()
            return _answer_json({"message": "OK"})
    return answer_message("not_found", status=404)


def describe_message(received: Received) -> dict[str, Any]:
    """Return a message for JSON, without secrets and the bytes of attachments."""
    details = received.details
    return {
        "mid": received.mid,
        "received_at": received.received_at.isoformat(),
        "api_version": received.api_version,
        "account": mask_account(received.account),
        "reference_id": received.reference_id,
        "campaign": received.campaign,
        "sender": received.sender,
        "recipients": [list(pair) for pair in received.recipients],
        "subject": details.subject,
        "text": details.text,
        "html": details.html,
        "headers": [list(pair) for pair in details.headers],
        "attachments": [
            {
                "name": info.name,
                "type": info.type,
                "size": info.size,
                "sha256": info.sha256,
                "content_id": info.content_id,
                "inline": info.inline,
                "url": f"/sandbox/messages/{received.mid}/attachments/{number}",
            }
            for number, info in enumerate(details.files, start=1)
        ],
        "fields": shorten_fields(received),
        "size": len(received.raw),
    }


def shorten_fields(received: Received) -> dict[str, Any]:
    """Return the wire JSON with the contents of attachments replaced by sizes."""
    fields = dict(received.fields)
    if "attachments" in fields:
        fields["attachments"] = [
            {**item, "content": f"({len(item['content'])} characters of base64)"}
            for item in fields["attachments"]
        ]
    return fields


def mask_account(account: str) -> str:
    """Return a user unchanged, but only the beginning of a consumer key."""
    return account if "@" in account else f"{account[:4]}…"


def find_file(received: Received, number: str) -> tuple[describe.FileInfo, bytes]:
    """Return an attachment and its bytes, or refuse with 404."""
    files = received.details.files
    # The length is limited, because Python refuses to convert very long numbers.
    if not re.fullmatch(r"[1-9][0-9]{0,5}", number) or int(number) > len(files):
        raise Refusal(answer_message("attachment_not_found", status=404))
    content = describe.read_file(received.raw, int(number))
    return files[int(number) - 1], content


def download(content: bytes, name: str, content_type: str) -> Reply:
    """Return bytes that a browser saves instead of showing them."""
    # For browsers that do not read filename* (RFC 6266, appendix D).
    fallback = re.sub(r'[^ -~]|["\\/%]', "_", name)
    disposition = (
        f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{quote(name, safe='')}"
    )
    headers: HeaderPairs = (
        *SECURITY,
        ("Content-Disposition", disposition),
        ("Content-Security-Policy", NO_CONTENT),
    )
    return Reply(body=content, content_type=content_type, headers=headers)


def _find(state: State, mid: str) -> Received:
    received = state.latest if mid == "latest" else state.store.get(mid)
    if received is None:
        raise Refusal(answer_message("email_not_found", status=404))
    return received


def _list(state: State, request: Request) -> Reply:
    limit = request.query.get("limit", "")
    if not re.fullmatch(r"[0-9]{0,6}", limit):
        return answer_message("limit_is_not_a_number", status=400)
    newest_first = state.messages[::-1]
    if limit:
        newest_first = newest_first[: int(limit)]
    return _answer_json(
        {
            "count": len(state.messages),
            "total_accepted": state.total_accepted,
            "results": [describe_message(received) for received in newest_first],
        }
    )


def _add_fault(state: State, request: Request) -> Fault:
    arguments = load_object(request.body)
    unknown = arguments.keys() - _FAULT_ARGUMENTS
    if unknown:
        message = f"unknown arguments: {', '.join(sorted(unknown))}"
        raise Refusal(answer_message(message, status=400))
    try:
        return state.add_fault(arguments.pop("kind", ""), **arguments)
    except ValueError as error:
        raise Refusal(answer_message(str(error), status=400)) from None


def _check_same_site(request: Request) -> None:
    # A form of another site cannot post either of these, and a script needs
    # permission first (CORS), which is not given.
    own = request.media_type == "application/json" or (
        request.headers.get("X-Sandbox") is not None
    )
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
        own = False
    if not own:
        raise Refusal(
            answer_message(
                "send_json_or_the_header_x_sandbox_from_this_origin", status=403
            )
        )


def _answer_json(value: Any, *, status: int = 200) -> Reply:
    return answer_json(value, status=status, headers=SECURITY)
