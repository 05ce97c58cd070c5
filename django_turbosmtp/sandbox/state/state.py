"""The state of a sandbox."""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING

from django_turbosmtp.sandbox.state.faults import Fault, Faults
from django_turbosmtp.sandbox.state.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_turbosmtp.sandbox.state.accounts import Accounts
    from django_turbosmtp.sandbox.state.store import (
        Received,
        Refused,
        RequestRecord,
        Store,
    )


class State:
    """Accounts, messages and faults, and the URLs of the sandbox.

    ``latency``: seconds added to every send. ``log``: called with one line for each
    send request.
    """

    def __init__(
        self,
        *,
        accounts: Accounts,
        store: Store,
        latency: float = 0.0,
        log: Callable[[str], object] | None = None,
        webhook_url: str | None = None,
    ) -> None:
        self.webhook = Webhook(webhook_url)
        self.accounts = accounts
        self.store = store
        self.faults = Faults()
        self.latency = latency
        self.log = log
        #: Set while the server stops, so that delayed answers are sent at once.
        self.stopping = threading.Event()
        #: A token in all forms, which other sites do not know.
        self.form_token = secrets.token_urlsafe(24)
        #: The server's origin, such as http://127.0.0.1:8025; None if it is stopped.
        self.origin: str | None = None

    @property
    def url(self) -> str:
        """The origin, such as http://127.0.0.1:8025."""
        if self.origin is None:
            raise RuntimeError("the sandbox is not running: call start() first")
        return self.origin

    def send_url(self, version: int = 2) -> str:
        """Return the base URL to send to."""
        return self.url + {1: "/api", 2: "/api/v2"}[version]

    def api_url(self, version: int = 2) -> str:
        """Return the base URL of all other requests, which has the same origin."""
        return self.send_url(version)

    @property
    def messages(self) -> list[Received]:
        """The stored messages, oldest first."""
        return self.store.messages

    @property
    def latest(self) -> Received | None:
        """The newest message."""
        messages = self.store.messages
        return messages[-1] if messages else None

    @property
    def refused(self) -> list[Refused]:
        """The stored sends that were not accepted, oldest first."""
        return self.store.refused

    @property
    def requests(self) -> list[RequestRecord]:
        """The stored API requests, including refused ones, oldest first."""
        return self.store.requests

    @property
    def total_accepted(self) -> int:
        """The number of accepted messages, including deleted ones."""
        return self.store.total_accepted

    def add_fault(
        self,
        kind: str,
        *,
        times: int | None = 1,
        skip: int = 0,
        retry_after: float | str | None = None,
        match: str | None = None,
        seconds: float | None = None,
        accept: bool = False,
    ) -> Fault:
        """Fail the next matching sends in this way."""
        fault = Fault(
            kind=kind,
            times=times,
            skip=skip,
            retry_after=retry_after,
            match=match,
            seconds=seconds,
            accept=accept,
        )
        return self.faults.add(fault)

    def clear_faults(self) -> None:
        """Delete all faults."""
        self.faults.clear()
