"""The API: send, login and logout of v1 and v2."""

from __future__ import annotations

import hmac
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django_turbosmtp.sandbox.answers import (
    Refusal,
    Reply,
    Request,
    answer_json,
    answer_message,
    refuse,
    refuse_credentials,
)
from django_turbosmtp.sandbox.service.compose import compose
from django_turbosmtp.sandbox.service.disguise import disguise
from django_turbosmtp.sandbox.service.rules import check
from django_turbosmtp.sandbox.state.store import Received
from django_turbosmtp.sandbox.strictjson import load_object

if TYPE_CHECKING:
    from django_turbosmtp.sandbox.state import State

SEND_PATHS = {"/api/mail/send": 1, "/api/v2/mail/send": 2}
# The whole e-mail must be smaller.
SIZE_LIMITS = {1: 4 * 2**20, 2: 24 * 2**20}
_CREDENTIALS = {"authuser", "authpass", "consumerkey", "consumersecret"}


def route(state: State, request: Request) -> Reply:
    """Answer a request below /api/."""
    version = SEND_PATHS.get(request.path)
    if version is not None:
        _require_method(request, "POST")
        return send(state, request, version=version)
    if request.path == "/api/v2/authorize":
        _require_method(request, "POST")
        return _login(state, load_object(_read_json_body(request)))
    if request.path == "/api/v2/deauthorize":
        _require_method(request, "POST")
        return _logout(state, request)
    if request.path.startswith("/api/authorize/") and len(request.segments) == 4:
        _require_method(request, "GET")
        return _login_v1(state, *request.segments[2:])
    if request.path == "/api/v2/redirected":
        # The target of the fault "redirect". Clients should not follow it.
        return answer_json({"message": "OK", "mid": state.store.next_mid()})
    return answer_message("resource_not_found", status=404)


def send(state: State, request: Request, *, version: int) -> Reply:
    """Accept or refuse one message, or simulate a fault."""
    fault = state.faults.take(request.body)
    # Before the message is read: a fault may answer 200 without accepting it.
    mid = state.store.next_mid()
    if fault is not None and not fault.accepts:
        answer = disguise(fault, Reply(), url=state.url, mid=mid)
        return replace(answer, fault=fault.kind)
    accepted = True
    try:
        answer = _accept(state, request, version=version, mid=mid)
    except Refusal as refusal:
        accepted, answer = False, refusal.response
        # A fault that accepts the message needs a valid one.
        if fault is None or fault.accept:
            return answer
    if fault is not None:
        answer = disguise(fault, answer, url=state.url, mid=mid)
    # The delay is after acceptance, as for a late answer.
    return replace(answer, wait=answer.wait + state.latency, accepted=accepted)


def _accept(state: State, request: Request, *, version: int, mid: int) -> Reply:
    exposed = sorted(n for n in request.query if n.lower() in _CREDENTIALS)
    if exposed:
        raise refuse(f"credentials in the query string: {', '.join(exposed)}")
    if version == 2:
        account = _identify_v2(state, request)
        fields = load_object(_read_json_body(request))
    else:
        fields = load_object(_read_json_body(request))
        account = _identify_v1(state, fields)
    checked = check(fields, version=version)
    now = datetime.now(UTC)
    raw = compose(fields, checked, mid=str(mid), now=now)
    limit = SIZE_LIMITS[version]
    if len(raw) >= limit:
        raise refuse(
            f"the e-mail has {len(raw)} bytes; it must be smaller than {limit}",
            status=413,
        )
    shown = {k: v for k, v in fields.items() if k.lower() not in _CREDENTIALS}
    received = Received(
        mid=str(mid),
        received_at=now,
        api_version=version,
        account=account,
        reference_id=fields.get("reference_id"),
        campaign=fields.get("X-campaign-ID"),
        fields=shown,
        sender=checked.sender.address,
        recipients=checked.recipients,
        raw=raw,
        connection=request.connection,
    )
    state.store.add(received)
    state.webhook.follow(received)
    return answer_json(
        {"message": "OK", "mid": mid} if version == 2 else {"message": "OK"}
    )


def _read_json_body(request: Request) -> bytes:
    if request.media_type != "application/json":
        raise refuse(
            f"Content-Type must be application/json, not {request.media_type!a}",
            status=415,
        )
    charset = request.headers.get_content_charset("utf-8")
    if charset.lower() not in {"utf-8", "utf8"}:
        raise refuse(f"charset must be utf-8, not {charset!a}", status=415)
    return request.body


def _identify_v2(state: State, request: Request) -> str:
    if "Authorization" in request.headers:
        raise refuse_credentials(
            "Invalid authorization token",
            details="Sending accepts only consumerKey and consumerSecret",
        )
    keys = request.headers.get_all("consumerKey") or []
    secrets = request.headers.get_all("consumerSecret") or []
    if len(keys) != 1 or len(secrets) != 1:
        raise refuse_credentials(
            "Wrong credentials specified",
            details="The headers consumerKey and consumerSecret are required once each",
        )
    if not _is_same(state.accounts.consumer_keys.get(keys[0]), secrets[0]):
        raise refuse_credentials(
            "Wrong credentials specified", details="Unknown key or wrong secret"
        )
    if keys[0] in state.accounts.inactive:
        # The e-mail address of a key is unknown here, and the key must not be shown.
        raise refuse_credentials(
            "Account for sandbox@example.com is inactive", details="Account inactive"
        )
    return keys[0]


def _identify_v1(state: State, fields: dict[str, Any]) -> str:
    user, password = fields.get("authuser"), fields.get("authpass")
    if not isinstance(user, str) or not isinstance(password, str):
        raise refuse_credentials(
            "Wrong credentials specified",
            details="authuser and authpass are required in the body",
            code=1,
        )
    if not _is_same(state.accounts.users.get(user), password):
        raise refuse_credentials(
            "Wrong credentials specified",
            details="Unknown user or wrong password",
            code=1,
        )
    if user in state.accounts.inactive:
        raise refuse_credentials(
            f"Account for {user} is inactive", details="Account inactive", code=2
        )
    return user


def _login(state: State, fields: dict[str, Any]) -> Reply:
    email, password = fields.get("email"), fields.get("password")
    forever = fields.get("no_expire", False)
    if not isinstance(email, str) or not isinstance(password, str):
        return answer_message("missing_email_or_password", status=400)
    if not isinstance(forever, bool) or fields.keys() - {
        "email",
        "password",
        "no_expire",
    }:
        return answer_message("invalid_parameters", status=400)
    if not _is_same(state.accounts.users.get(email), password):
        return answer_message("wrong_credentials_specified", status=403)
    if email in state.accounts.inactive:
        return answer_message("account_is_inactive", status=401)
    return answer_json({"auth": state.accounts.new_token(email)})


def _logout(state: State, request: Request) -> Reply:
    token = request.headers.get("Authorization")
    if not token:
        return answer_message("missing_authorization_key", status=401)
    if not state.accounts.drop_token(token):
        return answer_message("invalid_authorization_key", status=401)
    return answer_message("OK", status=200)


def _login_v1(state: State, user: str, password: str) -> Reply:
    if not _is_same(state.accounts.users.get(user), password):
        payload = {"errorCode": 1, "message": "Wrong credentials specified"}
        return answer_json(payload, status=401)
    if user in state.accounts.inactive:
        payload = {"errorCode": 2, "message": f"Account for {user} is inactive"}
        return answer_json(payload, status=401)
    return answer_json({"auth": state.accounts.new_token(user)})


def _require_method(request: Request, method: str) -> None:
    if request.method != method:
        answer = answer_message("method_not_allowed", status=405)
        raise Refusal(replace(answer, headers=(("Allow", method),)))


def _is_same(expected: str | None, given: str) -> bool:
    # Compare it even if the user is unknown, so that the time does not reveal that.
    matches = hmac.compare_digest((expected or "").encode(), given.encode())
    return expected is not None and matches


def mask_path(target: str) -> str:
    """Return a request target without secrets."""
    path, _, query = target.partition("?")
    path = re.sub(r"^(/api/authorize/[^/]*)/.*", r"\1/***", path)
    names = [pair.partition("=")[0] for pair in query.split("&")] if query else []
    return path + ("?" + "&".join(f"{name}=***" for name in names) if names else "")
