"""A pytest plugin that replaces Django's outbox by a backend of this package.

It runs in the tests of other packages (see `run.py`). The variable
``BACKEND_OF_TESTS`` selects the backend: ``django`` keeps Django's, ``outbox`` is
`OutboxBackend`, and ``wire`` sends to a sandbox and adds accepted messages to
``mail.outbox``.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.core.mail.backends import locmem

from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.testing import OutboxBackend

MODE = os.environ["BACKEND_OF_TESTS"]
SANDBOX = Sandbox()
#: The message ids of accepted messages. A file, because senders may be processes.
REPORTED = Path(tempfile.mkstemp()[1])


class WireBackend(EmailBackend):
    """Sends to the sandbox, and adds accepted messages to ``mail.outbox``."""

    def __init__(self, fail_silently: bool = False, **options: Any) -> None:
        options |= {"consumer_key": "sandbox-key", "consumer_secret": "sandbox-secret"}
        options |= {"send_url": SANDBOX.send_url(2), "api_url": SANDBOX.api_url(2)}
        super().__init__(fail_silently, **options)

    def send_messages(self, email_messages: Any) -> int:
        messages = list(email_messages or ())
        try:
            return super().send_messages(messages)
        finally:
            for message in messages:
                if message.turbosmtp_status.outcome == "accepted":
                    self._report(message.turbosmtp_status)
                    mail.outbox.append(message)

    def _report(self, status: Any) -> None:
        with REPORTED.open("a") as file:
            for mid in {found.message_id for found in status.recipients.values()}:
                file.write(f"{mid}\n")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    backends = {"outbox": OutboxBackend, "wire": WireBackend}
    if MODE in backends:
        locmem.EmailBackend = backends[MODE]  # type: ignore[misc]
    if MODE == "wire":
        SANDBOX.__enter__()


def pytest_sessionfinish() -> None:
    reported = REPORTED.read_text().split()
    REPORTED.unlink()
    if MODE == "wire":
        delivered = [message.mid for message in SANDBOX.messages]
        SANDBOX.__exit__(None, None, None)
        assert delivered, "Nothing was sent over the wire."
        assert sorted(delivered) == sorted(reported)
