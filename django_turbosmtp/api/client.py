"""The API client: v2 and v1, send and login (docs/wire.rst)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from requests.structures import CaseInsensitiveDict

from django_turbosmtp._lib.secrets import Secret, list_forms, redact, shows_no_locals
from django_turbosmtp.api.body import Body, Transmission
from django_turbosmtp.api.errors import build_error
from django_turbosmtp.api.results import Login, Response, SendResult, parse_json
from django_turbosmtp.exceptions import ConnectionFailed, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django_turbosmtp.api.session import Session
    from django_turbosmtp.conf.settings import Credentials, Settings

_JSON = {"Content-Type": "application/json; charset=utf-8"}


class Client:
    """The API of one account, over a session. Safe to use from many threads."""

    def __init__(
        self, session: Session, settings: Settings, credentials: Credentials | None
    ) -> None:
        """Create a client; one without credentials can only log in."""
        self._session = session
        self._version = settings.api_version
        self._send_url = f"{settings.send_url}/mail/send"
        self._api_url = settings.api_url
        self._timeout = settings.timeout
        self._credentials = credentials
        self._login_source = settings.login_source
        self._mailer = f", mailer {settings.alias!r}" if settings.alias else ""
        self._secrets: list[str] = []
        if credentials:
            # The user of v1 is an e-mail address, which turboSMTP's messages contain.
            user = [credentials.user] if self._version == 2 else []
            self._secrets = list_forms([credentials.password, *user])

    @shows_no_locals
    def prepare(self, fields: Mapping[str, Any]) -> Body:
        """Return the request body for wire fields, adding the credentials of v1.

        Raise `MessageError` for an unpaired surrogate in any of them.
        """
        if self._version == 1 and self._credentials:
            # They are in the body, not in the query string, because servers log URLs.
            return Body(
                {
                    **fields,
                    "authuser": self._credentials.user,
                    "authpass": self._credentials.password,
                }
            )
        return Body(fields)

    @shows_no_locals
    def send(self, body: Body) -> SendResult:
        """Send one prepared message, once.

        Raise an `APIError` if turboSMTP refused it, `ConnectionFailed` if it was not
        sent, and `OutcomeUnknown` if it may have been accepted.
        """
        headers = dict(_JSON)
        if self._version == 2 and self._credentials:
            headers["consumerKey"] = self._credentials.user
            headers["consumerSecret"] = self._credentials.password
        answer = self._request("POST", self._send_url, headers, body)
        response = _redact(answer, self._secrets)
        if response.status_code == 200 and _says_ok(response):
            return SendResult(message_id=_read_message_id(response), response=response)
        raise self._build_refusal(response)

    def login(self, email: str, password: str, *, no_expire: bool = False) -> Login:
        """Return an authorization key for the account.

        turboSMTP limits the rate of logins, so store the key. ``no_expire`` is for v2
        only. Raise `AuthenticationError` for wrong credentials, `InvalidResponse` for
        an answer without a key, and `ConnectionFailed` if there was no answer.

        In v1, turboSMTP requires the password in the path of the URL, and urllib3's
        DEBUG log would show it.
        """
        # From here on, error reporters do not show it.
        password = Secret(password)
        return self._log_in(email, password, no_expire=no_expire)

    @shows_no_locals
    def _log_in(self, email: str, password: Secret, *, no_expire: bool) -> Login:
        url, body = f"{self._api_url}/authorize", None
        if self._version == 1:
            url = Secret(f"{url}/{quote(email, safe='')}/{quote(password, safe='')}")
        else:
            body = Body({"email": email, "password": password, "no_expire": no_expire})
        try:
            method, headers = ("GET", {}) if body is None else ("POST", _JSON)
            response = self._request(method, url, headers, body)
        except OutcomeUnknown as error:
            # A login can safely be repeated.
            raise ConnectionFailed(
                f"{self._name_place(self._api_url)} did not answer the login."
            ) from error.__cause__
        data = response.data
        key = data.get("auth") if isinstance(data, dict) else None
        if response.status_code == 200 and isinstance(key, str) and key:
            return Login(key=Secret(key))
        raise build_error(
            _redact(response, list_forms([password])),
            place=self._name_place(self._api_url),
            login="the e-mail address and password given",
        )

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
            place=self._name_place(url),
        )

    def _name_place(self, url: str) -> str:
        """Return the host and, if there are several mailers, the mailer, for errors."""
        return urlsplit(url).netloc + self._mailer

    def _build_refusal(self, response: Response) -> Exception:
        """Return the exception for an answer to a send that is not OK.

        Only an answer that turboSMTP gives before it accepts a message is a refusal. A
        gateway answers 5xx if it loses the connection to its server, and a redirect may
        follow a request that was processed: the outcome of both is unknown.
        """
        error = build_error(
            response,
            place=self._name_place(self._send_url),
            login=self._login_source,
        )
        status = response.status_code
        # A 503 can be tried again only if it has a Retry-After header.
        if 400 <= status < 500 or (status == 503 and error.retryable):
            return error
        unknown = OutcomeUnknown(
            f"The answer does not show whether the message was accepted. {error}"
        )
        unknown.__cause__ = error
        return unknown


def _says_ok(response: Response) -> bool:
    return isinstance(response.data, dict) and response.data.get("message") == "OK"


def _read_message_id(response: Response) -> str | None:
    digits = str(response.data.get("mid"))
    return digits if digits.isascii() and digits.isdecimal() else None


def _redact(response: Response, forms: list[str]) -> Response:
    """Return the answer without our secrets, in case the server repeated them."""
    headers = response.headers.items()
    everything = "\n".join([response.text, *map(": ".join, headers)])
    if redact(everything, forms) == everything:
        return response
    text = redact(response.text, forms)
    return replace(
        response,
        text=text,
        data=parse_json(text),
        headers=CaseInsensitiveDict(
            (redact(name, forms), redact(value, forms)) for name, value in headers
        ),
    )
