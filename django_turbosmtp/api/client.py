"""The API client: v2 and v1, send and login (docs/wire.rst)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from django_turbosmtp.api.body import Body, Transmission
from django_turbosmtp.api.errors import build_error
from django_turbosmtp.api.results import Login, Response, SendResult, parse_json
from django_turbosmtp.conf import MASK, Credentials, Secret
from django_turbosmtp.exceptions import ConnectionFailed, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django_turbosmtp.api.session import Session
    from django_turbosmtp.conf import Settings

_SHORTEST_SECRET = 6
_JSON = {"Content-Type": "application/json; charset=utf-8"}


class Client:
    """Speaks one account's API over a session. Safe to use from many threads."""

    def __init__(
        self, session: Session, settings: Settings, credentials: Credentials | None
    ) -> None:
        """Take ``credentials`` None for a client that only logs in."""
        self._session = session
        self._version = settings.api_version
        self._send_url = f"{settings.send_url}/mail/send"
        self._api_url = settings.api_url
        self._timeout = settings.timeout
        self._credentials = credentials

    def prepare(self, fields: Mapping[str, Any]) -> Body:
        """Return the body of a send, of wire fields without credentials.

        Raise `MessageError` for an unpaired surrogate in any of them.
        """
        if self._version == 1 and self._credentials:
            # In the body, never in the query string: URLs end in logs.
            return Body(
                {
                    **fields,
                    "authuser": self._credentials.user,
                    "authpass": self._credentials.password,
                }
            )
        return Body(fields)

    def send(self, body: Body) -> SendResult:
        """Send one prepared message, once.

        Raise an `APIError` where turboSMTP refused it, `ConnectionFailed` where it
        did not leave, and `OutcomeUnknown` for all that may have been accepted.
        """
        headers = dict(_JSON)
        if self._version == 2 and self._credentials:
            headers["consumerKey"] = self._credentials.user
            headers["consumerSecret"] = self._credentials.password
        response = self._request("POST", self._send_url, headers, body)
        if response.status_code == 200 and _says_ok(response):
            return SendResult(message_id=_read_message_id(response), response=response)
        raise _build_refusal(_redact(response, *self._list_secrets()))

    def _list_secrets(self) -> list[Secret]:
        if not self._credentials:
            return []
        # The account of v1 is an address, and part of turboSMTP's own words.
        user = [self._credentials.user] if self._version == 2 else []
        return [self._credentials.password, *user]

    def login(self, email: str, password: str, *, no_expire: bool = False) -> Login:
        """Return an authorization key for the account.

        turboSMTP limits the rate of logins: keep the key. ``no_expire`` is v2 only.
        Raise `AuthenticationError` for wrong credentials, `InvalidResponse` for an
        answer without a key, `ConnectionFailed` where none came.

        In v1 the password stands in the path of the URL, as turboSMTP wants it:
        urllib3's own DEBUG log would show it.
        """
        # From here on, no variable shows it to an error reporter.
        password = Secret(password)
        url, body = f"{self._api_url}/authorize", None
        if self._version == 1:
            url = Secret(f"{url}/{quote(email, safe='')}/{quote(password, safe='')}")
        else:
            body = Body({"email": email, "password": password, "no_expire": no_expire})
        try:
            method, headers = ("GET", {}) if body is None else ("POST", _JSON)
            response = self._request(method, url, headers, body)
        except OutcomeUnknown as error:
            # Logging in twice does no harm.
            raise ConnectionFailed(
                f"No answer to the login came from {urlsplit(self._api_url).netloc}."
            ) from error.__cause__
        data = response.data
        key = data.get("auth") if isinstance(data, dict) else None
        if response.status_code == 200 and isinstance(key, str) and key:
            return Login(key=Secret(key))
        response, data = _redact(response, password), None
        raise build_error(response)

    def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None = None,
    ) -> Response:
        return self._session.request(
            method,
            url,
            headers=headers,
            body=None if body is None else Transmission(body),
            timeout=self._timeout,
        )


def _says_ok(response: Response) -> bool:
    return isinstance(response.data, dict) and response.data.get("message") == "OK"


def _read_message_id(response: Response) -> str | None:
    digits = str(response.data.get("mid"))
    return digits if digits.isascii() and digits.isdecimal() else None


def _build_refusal(response: Response) -> Exception:
    """Return what to raise for an answer to a send that does not say OK.

    Only an answer that turboSMTP itself gives before it takes a message is a refusal.
    A gateway answers 5xx when it loses the upstream midway, and a redirect may follow
    a request that was served.
    """
    error = build_error(response)
    status = response.status_code
    # A 503 can be tried again only where it says when.
    if 400 <= status < 500 or (status == 503 and error.retryable):
        return error
    unknown = OutcomeUnknown(
        f"No readable answer says whether the message was accepted. {error}"
    )
    unknown.__cause__ = error
    return unknown


def _redact(response: Response, *secrets: str) -> Response:
    """Return the answer without our own secrets, should a server repeat them."""
    text = response.text
    for secret in secrets:
        # A shorter one is no secret, and would be found in any word.
        if len(secret) >= _SHORTEST_SECRET:
            for form in _list_forms(secret):
                text = text.replace(form, MASK)
    if text == response.text:
        return response
    return replace(response, text=text, data=parse_json(text))


def _list_forms(secret: str) -> set[str]:
    """Return the secret as it may stand in an answer: plain, in JSON, in a URL."""
    return {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        quote(secret),
        quote(secret, safe=""),
    }
