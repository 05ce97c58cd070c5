"""The inbox in the browser. It works without JavaScript."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django_turbosmtp.sandbox.answers import Refusal, Reply, Request
from django_turbosmtp.sandbox.inbox import faultpage, preview, render
from django_turbosmtp.sandbox.inbox.control import mask_account, shorten_fields
from django_turbosmtp.sandbox.state.store import Received, Refused
from django_turbosmtp.sandbox.state.webhook import WORDS

if TYPE_CHECKING:
    from django_turbosmtp.sandbox.state import State

#: Page numbers are shorter. Python refuses to read a number of 5,000 digits.
_TOO_MANY_DIGITS = 10

PER_PAGE = 100
_REFRESH_SECONDS = "5"
# Show this many characters, so that the browser stays fast. The download has all.
_SHOWN_CHARACTERS = 400_000
_TABS = (
    ("html", "HTML"),
    ("text", "Text"),
    ("headers", "Headers"),
    ("source", "Source"),
    ("json", "Request (JSON)"),
    ("attachments", "Attachments"),
)
_WIDTHS = (
    ("phone", "Phone, 375"),
    ("tablet", "Tablet, 768"),
    ("desktop", "Desktop, full"),
)
_KINDS = {"to": "To", "cc": "Cc", "bcc": "Bcc (blind)"}


def route(state: State, request: Request) -> Reply:
    """Answer a browser's request."""
    match request.method, *request.segments:
        case ["GET", ""]:
            return _show_inbox(state, request)
        case ["GET", "clear"]:
            return _ask_to_clear(state)
        case ["POST", "clear"]:
            render.read_form(state, request)
            state.store.clear(requests=False)
            return render.redirect("/")
        case ["GET", "messages", mid]:
            return _show_message(state, _find(state, mid), request)
        case ["POST", "messages", mid, "events"]:
            form = render.read_form(state, request)
            return _post_event(state, _find(state, mid), form)
        case ["GET", "messages", mid, "preview"]:
            remote = request.query.get("remote") == "1"
            return preview.show_document(_find(state, mid), remote=remote)
        case ["GET", "messages", mid, "inline", number]:
            return preview.show_picture(_find(state, mid), number)
        case ["GET", "faults"]:
            return faultpage.show(state)
        case ["POST", "faults"]:
            return faultpage.change(state, render.read_form(state, request))
        case ["GET", "static", name]:
            return render.serve_static(name)
    return render.render_not_found()


def _find(state: State, mid: str) -> Received:
    received = state.store.get(mid)
    if received is None:
        raise Refusal(render.render_not_found())
    return received


def _show_inbox(state: State, request: Request) -> Reply:
    query = request.query.get("q", "").strip()
    refresh = request.query.get("refresh") == _REFRESH_SECONDS
    kept, refused = state.messages, state.refused
    entries: list[Received | Refused] = [*kept, *refused]
    entries.sort(key=lambda entry: entry.received_at, reverse=True)
    found = [entry for entry in entries if _contains(entry, query.casefold())]
    pages = max(1, -(-len(found) // PER_PAGE))
    asked = request.query.get("page", "")
    if not (asked.isascii() and asked.isdigit()):
        asked = "1"
    number = int(asked) if len(asked) < _TOO_MANY_DIGITS else pages
    number = max(1, min(number, pages))
    shown = found[(number - 1) * PER_PAGE : number * PER_PAGE]
    context = {
        "section": "inbox",
        "rows": [
            _describe_row(entry)
            if isinstance(entry, Received)
            else _describe_refused(entry)
            for entry in shown
        ],
        "query": query,
        "summary": _summarise(len(found), len(kept), len(refused), state, query),
        "refresh": _REFRESH_SECONDS if refresh else "",
        "toggle_url": _build_link(q=query, refresh="" if refresh else _REFRESH_SECONDS),
        "reload_url": _build_link(q=query, refresh=_REFRESH_SECONDS if refresh else ""),
        "newer_url": _build_link(q=query, page=str(number - 1)) if number > 1 else "",
        "older_url": _build_link(q=query, page=str(number + 1))
        if number < pages
        else "",
        "page": f"Page {number} of {pages}" if pages > 1 else "",
        "any": bool(kept or refused),
        "send_url": state.send_url(2),
        "faults": _format_count(len(state.faults.active), "fault"),
    }
    return render.render_page("inbox.html", context)


def _ask_to_clear(state: State) -> Reply:
    context = {
        "section": "inbox",
        "messages": _format_count(len(state.messages), "message"),
        "refused": state.refused
        and _format_count(len(state.refused), "refused request"),
        "token": state.form_token,
    }
    return render.render_page("clear.html", context)


def _contains(received: Received | Refused, wanted: str) -> bool:
    if not wanted:
        return True
    if isinstance(received, Refused):
        texts = (received.subject, received.to, received.reason, received.fault)
        return any(wanted in text.casefold() for text in texts)
    details = received.details
    places = (
        details.subject,
        received.sender,
        received.reference_id or "",
        received.mid,
        details.text,
        details.html,
        *(address for _, address in received.recipients),
        *(value for name, value in details.headers if name.lower() in {"from", "to"}),
    )
    return any(wanted in place.casefold() for place in places)


def _describe_row(received: Received) -> dict[str, Any]:
    files = len(received.details.files)
    return {
        "mid": received.mid,
        "subject": received.details.subject.strip() or "(no subject)",
        "sender": received.sender,
        "recipients": _name_first([address for _, address in received.recipients]),
        "time": _format_time(received),
        "iso": received.received_at.isoformat(),
        "size": _format_size(len(received.raw)),
        "files": _format_count(files, "attachment") if files else "",
        "account": mask_account(received.account),
        "api": f"API v{received.api_version}",
    }


def _describe_refused(refused: Refused) -> dict[str, Any]:
    status = f"answered {refused.status}" if refused.status else "not answered"
    reason = refused.reason or (
        "no answer was sent" if refused.status is None else "an unreadable answer"
    )
    if refused.fault:
        reason += f" (fault {refused.fault})"
    return {
        "refused": status,
        "reason": reason,
        "subject": refused.subject.strip() or "(no subject)",
        "recipients": refused.to,
        "time": _format_time(refused),
        "iso": refused.received_at.isoformat(),
        "api": f"API v{refused.api_version}",
    }


def _post_event(state: State, received: Received, form: dict[str, str]) -> Reply:
    """Post the event of a button for the message."""
    word, address = form.get("status", ""), form.get("address", "")
    known = [recipient for _, recipient in received.recipients]
    if word in WORDS and address in known:
        state.webhook.post(received, [word], address)
        # Wait, so that the next page shows the answer.
        state.webhook.wait(2)
    return render.redirect(f"/messages/{received.mid}")


def _describe_events(state: State, received: Received) -> dict[str, Any]:
    """Return the events of a message that were posted, and that can be posted."""
    if state.webhook.url is None:
        return {"webhook": ""}
    return {
        "webhook": state.webhook.shown_url,
        "token": state.form_token,
        "words": list(WORDS.items()),
        "addresses": list(dict.fromkeys(a for _, a in received.recipients))[:100],
        "events": [e for e in state.webhook.posted if e.mid == received.mid],
    }


def _show_message(state: State, received: Received, request: Request) -> Reply:
    details = received.details
    tab = request.query.get("tab", "")
    if tab not in dict(_TABS):
        tab = "html" if details.html else "text"
    width = request.query.get("width", "")
    if width not in dict(_WIDTHS):
        width = "desktop"
    remote = request.query.get("remote") == "1"
    base = f"/messages/{received.mid}"

    def link(**changes: str) -> str:
        state = {"tab": tab, "width": width, "remote": "1" if remote else ""} | changes
        return f"{base}?{urlencode({k: v for k, v in state.items() if v})}"

    context = (
        _describe_row(received)
        | {
            "shown_from": _find_shown_sender(received),
            "kinds": _group_by_kind(received),
            "reference_id": received.reference_id or "",
            "campaign": received.campaign or "",
            "tab": tab,
            "tabs": [
                (_name_tab(name, label, received), link(tab=name), name == tab)
                for name, label in _TABS
            ],
            "width": width,
            "widths": [(lb, link(width=name), name == width) for name, lb in _WIDTHS],
            "remote": remote,
            "remote_url": link(remote="" if remote else "1"),
            "preview_url": f"{base}/preview" + ("?remote=1" if remote else ""),
            "raw_url": f"/sandbox{base}/raw",
            "json_url": f"/sandbox{base}",
            "has_html": bool(details.html),
            "has_remote": preview.names_remote_pictures(details.html),
            "headers": details.headers,
        }
        | _describe_panel(received, tab)
        | _describe_events(state, received)
    )
    return render.render_page("message.html", context)


def _describe_panel(received: Received, tab: str) -> dict[str, Any]:
    """Return the data of the open tab only, because that of others may be large."""
    text = ""
    if tab == "text":
        text = received.details.text
    elif tab == "source":
        text = received.raw.decode("utf-8", "replace")
    elif tab == "json":
        text = json.dumps(shorten_fields(received), indent=2, ensure_ascii=False)
    files = []
    if tab == "attachments":
        files = [
            {
                "name": info.name,
                "type": info.type,
                "size": _format_size(info.size),
                "sha256": info.sha256,
                "content_id": info.content_id or "",
                "inline": info.inline,
                "url": f"/sandbox/messages/{received.mid}/attachments/{number}",
            }
            for number, info in enumerate(received.details.files, start=1)
        ]
    cut = len(text) > _SHOWN_CHARACTERS
    return {"text": text[:_SHOWN_CHARACTERS], "cut": cut, "file_list": files}


def _name_tab(name: str, label: str, received: Received) -> str:
    if name == "attachments":
        return f"{label} ({len(received.details.files)})"
    return label


def _find_shown_sender(received: Received) -> str:
    for name, value in received.details.headers:
        if name.lower() == "from" and value != received.sender:
            return value
    return ""


def _group_by_kind(received: Received) -> list[tuple[str, str]]:
    found: dict[str, list[str]] = {}
    for kind, address in received.recipients:
        found.setdefault(kind, []).append(address)
    return [(_KINDS[kind], ", ".join(found[kind])) for kind in _KINDS if kind in found]


def _name_first(addresses: list[str]) -> str:
    rest = len(addresses) - 3
    shown = ", ".join(addresses[:3])
    return f"{shown} and {rest} more" if rest > 0 else shown


def _summarise(found: int, kept: int, refused: int, state: State, query: str) -> str:
    text = _format_count(kept, "message")
    if query:
        return f"{found} of {_format_count(kept + refused, 'message')} found"
    if state.total_accepted != kept:
        text += f" kept of {state.total_accepted} accepted"
    return f"{text}, {refused} refused" if refused else text


def _format_count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _format_time(received: Received | Refused) -> str:
    return received.received_at.astimezone().strftime("%d %b %Y, %H:%M:%S")


def _format_size(number: int) -> str:
    if number < 1024:
        return f"{number} bytes"
    if number < 1024**2:
        return f"{number / 1024:.1f} KiB"
    return f"{number / 1024**2:.1f} MiB"


def _build_link(**parameters: str) -> str:
    given = {name: value for name, value in parameters.items() if value}
    return f"/?{urlencode(given)}" if given else "/"
