"""The kit for users' tests, with pytest and with Django's test runner."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMultiAlternatives, send_mail

from django_turbosmtp._lib.versions import HAS_MAILERS
from django_turbosmtp.checks import check_settings
from django_turbosmtp.exceptions import (
    InvalidAddress,
    NoCredit,
    OutcomeUnknown,
    RateLimited,
)
from django_turbosmtp.models import Message
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.signals import post_send, pre_send
from django_turbosmtp.testing import Outbox, OutboxBackend, use_outbox, use_sandbox

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _no_log(settings: Any) -> None:
    settings.TURBOSMTP = {"LOG": False}


def order(**fields: Any) -> Any:
    message: Any = EmailMultiAlternatives(
        **{
            "subject": "Your order 2041",
            "body": "Thank you",
            "from_email": "shop@example.com",
            "to": ["Jane <jane@example.org>"],
        }
        | fields
    )
    message.attach_alternative("<p>Thank you</p>", "text/html")
    message.attach("invoice.pdf", b"%PDF", "application/pdf")
    message.tags = ["orders"]
    return message


def test_the_same_as_in_production(turbosmtp_outbox: Outbox) -> None:
    told: list[str] = []

    def before(**kwargs: Any) -> None:
        told.append("before")

    def after(status: Any, **kwargs: Any) -> None:
        told.append(status.outcome)

    pre_send.connect(before)
    post_send.connect(after)
    try:
        message = order()
        assert message.send() == 1
    finally:
        pre_send.disconnect(before)
        post_send.disconnect(after)
    assert told == ["before", "accepted"]
    status = message.turbosmtp_status
    assert status.outcome == "accepted"
    assert status.message_id.isdecimal()
    assert status.recipients["jane@example.org"].status == "sent"
    [kept] = mail.outbox
    assert kept is not message
    assert kept.turbosmtp_status.message_id == status.message_id


def test_messages_that_turbosmtp_refuses_are_refused(turbosmtp_outbox: Outbox) -> None:
    with pytest.raises(InvalidAddress):
        send_mail("s", "b", "shop@example.com", ["nobody"])
    turbosmtp_outbox.assert_nothing_sent()


@pytest.mark.django_db
def test_the_log_is_written_if_it_is_on() -> None:
    with use_outbox(LOG=True) as outbox:
        order().send()
        row = Message.objects.get()
        assert (row.outcome, row.status) == ("accepted", "sent")
        outbox.fail_next(NoCredit("turboSMTP answered 400: nocredit", status_code=400))
        with pytest.raises(NoCredit):
            order().send()
    assert Message.objects.filter(error_class="NoCredit").count() == 1


def test_the_guard_is_applied() -> None:
    with use_outbox(RECIPIENT_GUARD=["example.com"]) as outbox:
        message = order()
        assert message.send() == 0
        assert message.turbosmtp_status.outcome == "suppressed"
        outbox.assert_nothing_sent()


def test_predefined_outcomes(turbosmtp_outbox: Outbox) -> None:
    turbosmtp_outbox.fail_next(RateLimited("slowly", retry_after=60))
    with pytest.raises(RateLimited):
        order().send()
    order().send()
    turbosmtp_outbox.fail_next(OutcomeUnknown("lost"), to="Jane@example.org", times=2)
    assert order(to=["other@example.org"]).send() == 1
    for _ in range(2):
        message = order()
        with pytest.raises(OutcomeUnknown):
            message.send()
        assert message.turbosmtp_status.outcome == "unknown"
    assert order().send() == 1
    turbosmtp_outbox.assert_count(3)
    turbosmtp_outbox.fail_next(NoCredit("none"), to="ann@bücher.example")
    assert order(to=["Joann <joann@bücher.example>"]).send() == 1
    with pytest.raises(NoCredit):
        order(to=['"Ann, A." <Ann@bücher.example>']).send()
    turbosmtp_outbox.fail_next(NoCredit("none"), times=None)
    for _ in range(3):
        with pytest.raises(NoCredit):
            order().send()
    turbosmtp_outbox.clear()
    assert order().send() == 1


def test_predefined_outcomes_of_a_batch(turbosmtp_outbox: Outbox) -> None:
    turbosmtp_outbox.fail_next(OutcomeUnknown("lost"), to="p3@example.org")
    messages = [order(to=[f"p{n}@example.org"]) for n in range(8)]
    backend = mail.mailers["default"] if HAS_MAILERS else mail.get_connection()
    with pytest.raises(OutcomeUnknown) as caught:
        backend.send_messages(messages)
    assert caught.value.sent_count == 7
    turbosmtp_outbox.assert_count(7)
    # In the order of the call, for any order of threads.
    assert [message.to for message in mail.outbox] == [
        [f"p{n}@example.org"] for n in range(8) if n != 3
    ]


@pytest.mark.parametrize(
    "expected",
    [
        {},
        {"to": "jane@example.org"},
        {"to": ["JANE@example.org"], "subject": "Your order 2041"},
        {"subject": re.compile("order [0-9]+$"), "from_email": "shop@example.com"},
        {"body": "Thank", "html": "<p>Thank", "attachment": "invoice.pdf"},
        {"tag": "orders", "bcc": [], "cc": "c@example.org"},
    ],
)
def test_assert_sent(turbosmtp_outbox: Outbox, expected: dict[str, Any]) -> None:
    order(cc=["Cee <c@example.org>"]).send()
    assert turbosmtp_outbox.assert_sent(**expected) is mail.outbox[0]


def test_assert_sent_lists_the_sent_messages(turbosmtp_outbox: Outbox) -> None:
    with pytest.raises(
        AssertionError, match=r"^No message was sent. The outbox is empty."
    ):
        turbosmtp_outbox.assert_sent()
    order().send()
    with pytest.raises(AssertionError) as caught:
        turbosmtp_outbox.assert_sent(to="jane@example.org", subject="Your orders")
    assert str(caught.value) == (
        "No message with to='jane@example.org', subject='Your orders' was sent. Sent"
        " messages:\n  1. to=['Jane <jane@example.org>'] subject='Your order 2041'"
        " attachments=['invoice.pdf']"
    )
    with pytest.raises(TypeError, match="no argument 'sbject'"):
        turbosmtp_outbox.assert_sent(sbject="x")
    with pytest.raises(AssertionError, match="2 expected, 1 sent"):
        turbosmtp_outbox.assert_count(2)


def test_the_sandbox(turbosmtp_sandbox: Sandbox) -> None:
    order().send()
    assert turbosmtp_sandbox.latest is not None
    assert turbosmtp_sandbox.latest.details.subject == "Your order 2041"
    turbosmtp_sandbox.add_fault("nocredit")
    with pytest.raises(NoCredit):
        order().send()


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions(version: int) -> None:
    with use_outbox(API_VERSION=version) as outbox:
        order().send()
        outbox.assert_count(1)
    with use_sandbox(API_VERSION=version) as sandbox:
        order().send()
        assert len(sandbox.messages) == 1


def test_settings_are_restored(settings: Any) -> None:
    before = [dict(settings.TURBOSMTP), mail.outbox]
    with use_outbox() as outbox:
        order().send()
        outbox.fail_next(NoCredit("none"))
    assert [settings.TURBOSMTP, mail.outbox] == before
    assert mail.outbox == []
    with use_outbox():
        assert order().send() == 1


SHOP_TESTS = """
from django.core import mail
from django.core.mail import send_mail
from django.test import SimpleTestCase, TestCase

from django_turbosmtp.exceptions import NoCredit
from django_turbosmtp.testing import OutboxMixin, SandboxMixin, use_outbox


class OrderTests(OutboxMixin, TestCase):
    def test_order(self):
        send_mail("Order", "Thank you", None, ["jane@example.org"])
        message = self.outbox.assert_sent(to="jane@example.org", subject="Order")
        self.assertEqual(message.turbosmtp_status.outcome, "accepted")
        self.assertEqual(len(mail.outbox), 1)

    def test_the_outbox_is_empty_for_each_test(self):
        self.outbox.assert_nothing_sent()
        self.outbox.fail_next(NoCredit("none"))
        with self.assertRaises(NoCredit):
            send_mail("Order", "Thank you", None, ["jane@example.org"])


class SandboxTests(SandboxMixin, SimpleTestCase):
    def test_order(self):
        send_mail("Order", "Thank you", None, ["jane@example.org"])
        self.assertEqual(self.sandbox.latest.details.subject, "Order")


class PlainTests(SimpleTestCase):
    def test_block(self):
        with use_outbox() as outbox:
            send_mail("Order", "Thank you", None, ["jane@example.org"])
            outbox.assert_sent(subject="Order")
        self.assertEqual(mail.outbox, [])
"""
EMAIL_BACKEND_TESTS = """

class SettingTests(OutboxMixin, SimpleTestCase):
    def test_other_packages_read_it(self):
        from django.conf import settings

        self.assertIn("OutboxBackend", settings.EMAIL_BACKEND)
"""
SHOP_SETTINGS = """
SECRET_KEY = "x"
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
DEFAULT_FROM_EMAIL = "shop@example.com"
"""


BACKEND = "django_turbosmtp.backends.EmailBackend"
# Django 6.1 deprecates loading this setting, and reading it in a test.
MAY_USE_EMAIL_BACKEND = ["-W", "ignore:The EMAIL_BACKEND setting is deprecated"]


@pytest.mark.parametrize(
    ("own", "tests"),
    [
        (f'EMAIL_BACKEND = "{BACKEND}"', SHOP_TESTS + EMAIL_BACKEND_TESTS),
        (f'MAILERS = {{"default": {{"BACKEND": "{BACKEND}"}}}}', SHOP_TESTS),
    ][: 1 + HAS_MAILERS],
)
def test_under_django_s_own_runner(tmp_path: Path, own: str, tests: str) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "__init__.py").touch()
    (shop / "tests.py").write_text(tests)
    (tmp_path / "site_settings.py").write_text(SHOP_SETTINGS + own)
    warnings = ["-W", "error", *(MAY_USE_EMAIL_BACKEND if "EMAIL" in own else ())]
    done = subprocess.run(
        [sys.executable, *warnings, "-m", "django", "test", "-v", "2"],
        cwd=tmp_path,
        env={
            "DJANGO_SETTINGS_MODULE": "site_settings",
            "PYTHONPATH": f"{tmp_path}:{ROOT}",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert f"Ran {tests.count('def test_')} tests" in done.stderr


def test_a_message_with_an_open_connection(turbosmtp_outbox: Outbox) -> None:
    backend = OutboxBackend()
    message = order()
    with backend:
        # As set by Message(connection=...), which Django 6.1 deprecates.
        setattr(message, "_connection" if HAS_MAILERS else "connection", backend)
        assert backend.send_messages([message]) == 1
    [kept] = turbosmtp_outbox.messages
    assert kept is not message
    assert kept.subject == "Your order 2041"


def test_the_outbox_as_a_backend_needs_no_credentials(settings: Any) -> None:
    path = "django_turbosmtp.testing.OutboxBackend"
    if HAS_MAILERS:
        settings.MAILERS = {"default": {"BACKEND": path}, "bulk": {"BACKEND": BACKEND}}
        [problem] = check_settings()
        assert problem.msg.startswith("MAILERS['bulk']: ")
        assert problem.id == "turbosmtp.E003"
        settings.MAILERS = {"default": {"BACKEND": path}}
    else:
        settings.EMAIL_BACKEND = path
    assert check_settings() == []
    assert order().send() == 1
