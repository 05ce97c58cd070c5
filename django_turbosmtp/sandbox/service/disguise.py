"""Changes answers for simulated faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_turbosmtp.sandbox.answers import Reply, answer_json
from django_turbosmtp.sandbox.state.faults import ODD

if TYPE_CHECKING:
    from django_turbosmtp.sandbox.state.faults import Fault

#: The JSON of the answer for each fault that is a status.
STATUSES: dict[str, dict[str, Any]] = {
    "400": {"message": "error", "errors": ["refused by a fault of the sandbox"]},
    "401": {
        "errorCode": 3,
        "message": "Invalid authorization token",
        "details": "A fault of the sandbox",
    },
    "403": {"message": "feature_not_available_for_active_plan"},
    "404": {"message": "resource_not_found"},
    "413": {"message": "error", "errors": ["request entity too large"]},
    "429": {"message": "too_many_requests"},
    "500": {"message": "internal_server_error"},
    "502": {"message": "bad_gateway"},
    "503": {"message": "service_unavailable"},
    "504": {"message": "gateway_timeout"},
}
NAMED: dict[str, tuple[int, dict[str, Any]]] = {
    "nocredit": (400, {"message": "error", "errors": ["nocredit"]}),
    "inactive": (
        401,
        {
            "errorCode": 3,
            "message": "Account for sandbox@example.com is inactive",
            "details": "A fault of the sandbox",
        },
    ),
    "old_errors": (
        400,
        {"message": "error", "errors": [["'abc' 'to' email not valid"]]},
    ),
    "old_nocredit": (
        400,
        {"message": "error", "errors": {"message": "error", "errors": "nocredit"}},
    ),
}


def disguise(fault: Fault, answer: Reply, *, url: str, mid: int) -> Reply:
    """Return the answer changed by a fault."""
    kind = fault.kind
    if kind in STATUSES or kind in NAMED:
        status, payload = NAMED.get(kind) or (int(kind), STATUSES[kind])
        return answer_json(payload, status=status, headers=_build_retry_after(fault))
    if kind in ODD:
        return _build_odd_answer(kind, url=url, mid=mid)
    body, status = answer.body, answer.status
    if kind == "no_mid" and status == 200:
        return answer_json({"message": "OK"})
    if kind in {"lost_answer", "timeout"}:
        return Reply(manner="drop", wait=fault.duration)
    if kind in {"reset_before_body", "reset_after_body"}:
        return Reply(manner="reset")
    wait = answer.wait + fault.duration
    if kind == "slow_headers":
        return Reply(status=status, body=body, manner="slow_headers", wait=wait)
    if kind == "slow_body":
        return Reply(status=status, body=body, manner="slow_body", wait=wait)
    manner = "close" if kind == "close" else answer.manner
    return Reply(status=status, body=body, manner=manner, wait=wait)


def _build_odd_answer(kind: str, *, url: str, mid: int) -> Reply:
    good = f'{{"message":"OK","mid":{mid}}}'.encode()
    if kind == "html":
        page = b"<!doctype html><title>Maintenance</title><p>We are back soon."
        return Reply(body=page, content_type="text/html; charset=utf-8")
    if kind == "cut_json":
        return Reply(body=good[:-9])
    if kind == "wrong_type":
        return Reply(body=good, content_type="text/plain")
    if kind == "redirect":
        # The target answers OK, so that tests notice if a client follows the redirect.
        location = ("Location", f"{url}/api/v2/redirected")
        return Reply(status=302, headers=(location,), content_type="")
    return Reply(content_type="")


def _build_retry_after(fault: Fault) -> tuple[tuple[str, str], ...]:
    if fault.retry_after is None:
        return ()
    return (("Retry-After", str(fault.retry_after)),)
