"""The page with buttons that make the sandbox fail."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from django_turbosmtp.sandbox.inbox import render
from django_turbosmtp.sandbox.state.faults import KINDS

if TYPE_CHECKING:
    from django_turbosmtp.sandbox.answers import Reply
    from django_turbosmtp.sandbox.state import State
    from django_turbosmtp.sandbox.state.faults import Fault

_MEANINGS = {
    "400": "refused",
    "401": "wrong credentials",
    "403": "not in the plan",
    "404": "not found",
    "413": "too large",
    "429": "too many requests",
    "500": "server error",
    "502": "bad gateway",
    "503": "unavailable",
    "504": "gateway time-out",
    "nocredit": "no credit left",
    "inactive": "account is inactive",
    "old_errors": "400 with nested errors, as from older servers",
    "old_nocredit": "no credit left, as from older servers",
    "html": "200 with a web page",
    "cut_json": "200 with a truncated answer",
    "wrong_type": "200 as text/plain",
    "empty": "200 without a body",
    "redirect": "302 to another URL",
    "no_mid": "accepted, answer without a mid",
    "lost_answer": "accepted, answer lost",
    "close": "connection closed after the answer",
    "slow_headers": "slow answer, headers and body",
    "slow_body": "slow answer, only the body",
    "latency": "late answer",
    "reset_before_body": "reset before the body is read",
    "reset_after_body": "reset after the body is read",
    "timeout": "no answer for a long time",
}
_ONE_CLICK = ("429", "500", "503", "nocredit", "inactive", "lost_answer", "timeout")


def show(state: State, *, error: str = "") -> Reply:
    """Return the page."""
    context = {
        "section": "faults",
        "token": state.form_token,
        "error": error,
        "latency": f"{state.latency:g}",
        "active": [_describe_row(fault) for fault in state.faults.active],
        "common": [(kind, _MEANINGS[kind]) for kind in _ONE_CLICK],
        "kinds": [(kind, _MEANINGS[kind]) for kind in KINDS],
    }
    return render.render_page("faults.html", context, status=400 if error else 200)


def change(state: State, form: dict[str, str]) -> Reply:
    """Apply a button of the page."""
    try:
        match form.get("action"):
            case "add":
                state.add_fault(form.get("kind", ""), **_read_arguments(form))
            case "clear":
                state.clear_faults()
            case "latency":
                state.latency = _read_seconds(form.get("latency", ""))
            case _:
                return render.render_not_found()
    except ValueError as error:
        return show(state, error=str(error))
    return render.redirect("/faults")


def _read_arguments(form: dict[str, str]) -> dict[str, Any]:
    filled = {name: text.strip() for name, text in form.items() if text.strip()}
    arguments: dict[str, Any] = {"accept": filled.get("accept") == "1"}
    if filled.get("until_cleared") == "1":
        arguments["times"] = None
    elif "times" in filled:
        arguments["times"] = _read_whole(filled["times"])
    if "skip" in filled:
        arguments["skip"] = _read_whole(filled["skip"])
    if "seconds" in filled:
        arguments["seconds"] = _read_seconds(filled["seconds"])
    for name in ("match", "retry_after"):
        if name in filled:
            arguments[name] = filled[name]
    return arguments


def _describe_row(fault: Fault) -> dict[str, str]:
    rules = []
    if fault.skip:
        rules.append(f"after {fault.skip} others ({fault.skipped} seen)")
    if fault.match:
        rules.append(f"only with “{fault.match}”")
    if fault.retry_after is not None:
        rules.append(f"Retry-After: {fault.retry_after}")
    if fault.duration:
        rules.append(f"{fault.duration:g} s")
    if fault.accepts:
        rules.append("message accepted")
    left = "until cleared" if fault.times is None else f"{fault.times - fault.used}"
    return {
        "kind": fault.kind,
        "meaning": _MEANINGS[fault.kind],
        "left": left,
        "rules": ", ".join(rules),
    }


def _read_whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise ValueError(f"not a whole number: {text[:20]!r}")
    return int(text)


def _read_seconds(text: str) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not 0 <= value < 3600:
        raise ValueError(f"not a number of seconds below 3600: {text[:20]!r}")
    return value
