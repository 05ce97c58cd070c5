"""Fixtures: a running sandbox, and a client with real sockets."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

import pytest

from django_turbosmtp.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

V2 = {"consumerKey": "sandbox-key", "consumerSecret": "sandbox-secret"}
V1 = {"authuser": "sandbox@example.com", "authpass": "sandbox-password"}
PATHS = {1: "/api/mail/send", 2: "/api/v2/mail/send"}


class Answer:
    """A completely read answer."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class Client:
    """One keep-alive connection."""

    def __init__(self, sandbox: Sandbox, timeout: float = 10) -> None:
        port = int(sandbox.url.rpartition(":")[2])
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def request(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> Answer:
        self.connection.request(
            method, path, body, {k.replace("_", "-"): v for k, v in headers.items()}
        )
        return Answer(self.connection.getresponse())

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, **headers)

    def raw(self, body: bytes, version: int = 2, **headers: str) -> Answer:
        own = V2 if version == 2 else {}
        given = {"Content_Type": "application/json", **own, **headers}
        return self.request("POST", PATHS[version], body, **given)

    def send(self, version: int = 2, **fields: Any) -> Answer:
        body = {"from": "Shop <shop@example.com>", "to": "jane@example.org"}
        if version == 1:
            body |= V1
        body |= {
            name.replace("X_campaign_ID", "X-campaign-ID"): v
            for name, v in fields.items()
        }
        sender = body.pop("from_", None)
        if sender is not None:
            body["from"] = sender
        wire = {name: value for name, value in body.items() if value is not None}
        return self.raw(json.dumps(wire).encode(), version)

    def form(self, path: str, body: str, **headers: str) -> Answer:
        kind = "application/x-www-form-urlencoded"
        return self.request("POST", path, body, Content_Type=kind, **headers)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    with closing(sandbox) as made:
        yield made


class closing:  # noqa: N801
    """A client whose connection is closed at the end."""

    def __init__(self, sandbox: Sandbox, timeout: float = 10) -> None:
        self.client = Client(sandbox, timeout)

    def __enter__(self) -> Client:
        return self.client

    def __exit__(self, *_: object) -> None:
        self.client.connection.close()
