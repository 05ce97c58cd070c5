"""Mail does not cause more mail, and log handlers do not affect sending."""

from __future__ import annotations

import io
import logging
import logging.config
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.core.mail import mail_admins, send_mail
from django.utils.log import DEFAULT_LOGGING

from django_turbosmtp._lib.versions import MODERN_MIME
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.exceptions import (
    AuthenticationError,
    BadRequest,
    ConnectionFailed,
    TurboSMTPError,
)
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.signals import post_send
from tests.messages import new

pytestmark = pytest.mark.usefixtures("short_waits")


@pytest.fixture
def site(project: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A site with an admin, whose mail is sent through this backend."""
    # Django's default handler would mail the same records.
    monkeypatch.setattr(logging.getLogger("django"), "handlers", [])
    admin = "admin@example.org"
    project.ADMINS = [admin if MODERN_MIME else ("Admin", admin)]
    project.SERVER_EMAIL = "server@example.com"
    return project


class Mailing(logging.Handler):
    """Mails every record, and counts them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())
        assert len(self.records) < 20, "mail begets mail"
        with suppress(TurboSMTPError):
            mail_admins("Log", record.getMessage())


@contextmanager
def handled_by(handler: logging.Handler, name: str = "") -> Iterator[logging.Handler]:
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)


@contextmanager
def received_by(receiver: Callable[..., Any]) -> Iterator[None]:
    post_send.connect(receiver)
    try:
        yield
    finally:
        post_send.disconnect(receiver)


def fail(**kwargs: Any) -> None:
    raise LookupError("a receiver failed")


def test_django_s_stock_logging_and_a_receiver_that_raises(
    site: Any, sandbox: Sandbox
) -> None:
    # Django mails its own record about a failing receiver.
    site.DEBUG = False
    logging.config.dictConfig(DEFAULT_LOGGING)
    with received_by(fail):
        assert send_mail("S", "T", "shop@example.com", ["a@example.org"]) == 1
    assert [m.fields["to"] for m in sandbox.messages] == [
        "a@example.org",
        "admin@example.org",
    ]
    assert "a receiver failed" in sandbox.messages[1].fields["content"]


def test_mailed_records_with_wrong_credentials(site: Any, sandbox: Sandbox) -> None:
    site.TURBOSMTP = {**site.TURBOSMTP, "CONSUMER_SECRET": "another"}
    with handled_by(Mailing()) as handler, pytest.raises(AuthenticationError):
        send_mail("S", "T", "shop@example.com", ["a@example.org"])
    assert len(handler.records) == 1  # type: ignore[attr-defined]
    assert len(sandbox.requests) == 2


def test_mailed_records_with_a_dead_server(site: Any, sandbox: Sandbox) -> None:
    site.TURBOSMTP = {**site.TURBOSMTP, "SEND_URL": "http://127.0.0.1:9/api/v2"}
    with handled_by(Mailing()) as handler, pytest.raises(ConnectionFailed):
        EmailBackend(max_retries=0, max_connections=1).send_messages(
            [new() for _ in range(10)]
        )
    # One for the message that was tried, and one for the nine others.
    assert len(handler.records) == 2  # type: ignore[attr-defined]


def test_mailed_records_with_an_admin_left_out_by_the_guard(
    site: Any, sandbox: Sandbox
) -> None:
    site.TURBOSMTP = {**site.TURBOSMTP, "RECIPIENT_GUARD": ["friend.org"]}
    with handled_by(Mailing()) as handler:
        EmailBackend().send_messages([new(to=["a@friend.org", "b@elsewhere.org"])])
    assert len(handler.records) == 1  # type: ignore[attr-defined]
    assert [m.fields["to"] for m in sandbox.messages] == ["a@friend.org"]


def test_mailed_records_with_a_receiver_that_raises(
    site: Any, sandbox: Sandbox
) -> None:
    with handled_by(Mailing()) as handler, received_by(fail):
        EmailBackend().send_messages([new() for _ in range(3)])
    # One record for each message, mailed once; these mails cause no records.
    assert len(handler.records) == 3  # type: ignore[attr-defined]
    assert sandbox.total_accepted == 6


def test_signals_are_sent_for_mail_of_a_receiver(site: Any, sandbox: Sandbox) -> None:
    told = []

    def tell(message: Any, **kwargs: Any) -> None:
        told.append(message.subject)
        if message.subject == "first":
            send_mail("second", "T", "shop@example.com", ["a@example.org"])

    with received_by(tell):
        EmailBackend().send_messages([new(subject="first")])
    assert told == ["first", "second"]


class Raising(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        raise LookupError("a filter failed")


class RaisingHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise LookupError("a handler failed")


@pytest.mark.parametrize("what", ["filter", "handler"])
def test_errors_of_logging_are_not_raised(
    what: str, site: Any, sandbox: Sandbox, capfd: Any
) -> None:
    sandbox.add_fault("400", match="bad@", times=None)
    handler = RaisingHandler() if what == "handler" else logging.StreamHandler()
    if what == "filter":
        handler.addFilter(Raising())
    handler.setLevel(logging.DEBUG)
    messages = [new(to=["bad@x.org" if n % 3 else "good@x.org"]) for n in range(12)]
    logger = logging.getLogger("django_turbosmtp")
    logger.setLevel(logging.DEBUG)
    try:
        with (
            handled_by(handler, "django_turbosmtp"),
            pytest.raises(BadRequest) as caught,
        ):
            EmailBackend().send_messages(messages)
    finally:
        logger.setLevel(logging.NOTSET)
    assert caught.value.sent_count == 4 == sandbox.total_accepted
    outcomes = [m.turbosmtp_status.outcome for m in messages]
    assert outcomes == ["accepted", "refused", "refused"] * 4
    assert f"a {what} failed" in capfd.readouterr().err


def test_a_failing_receiver_with_a_failing_log_handler(
    site: Any, sandbox: Sandbox
) -> None:
    with handled_by(RaisingHandler(), "django.dispatch"), received_by(fail):
        assert EmailBackend().send_messages([new(), new()]) == 2


def test_a_record_names_the_caller_s_line(
    site: Any, sandbox: Sandbox, caplog: Any
) -> None:
    EmailBackend(fail_silently=True).send_messages([new(to=["nobody"])])
    [record] = [r for r in caplog.records if r.name == "django_turbosmtp.delivery"]
    assert (record.filename, record.funcName) == ("prepare.py", "_refuse")


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("is_of_handler", [True, False])
def test_a_failing_filter_does_not_lose_the_answer(
    is_of_handler: bool, count: int, project: Any, sandbox: Sandbox
) -> None:
    """For all loggers that are used, including urllib3's."""
    broken = Raising()
    handler = logging.StreamHandler(io.StringIO())
    handler.addFilter(broken)
    root = logging.getLogger()
    names = ["urllib3", "urllib3.connectionpool", "requests", "django_turbosmtp"]
    names += ["django_turbosmtp.delivery", "django_turbosmtp.api"]
    loggers = [] if is_of_handler else [logging.getLogger(name) for name in names]
    messages = [new() for _ in range(count)]
    level = root.level
    root.setLevel(logging.DEBUG)
    if is_of_handler:
        root.addHandler(handler)
    for logger in loggers:
        logger.addFilter(broken)
    try:
        assert EmailBackend().send_messages(messages) == count
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        for logger in loggers:
            logger.removeFilter(broken)
    assert sandbox.total_accepted == count


def test_what_urllib3_logs_is_still_logged(
    project: Any, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "urllib3")
    EmailBackend().send_messages([new()])
    [text] = [r.getMessage() for r in caplog.records if "mail/send" in r.getMessage()]
    assert '"POST /api/v2/mail/send HTTP/1.1" 200' in text
