"""Messages sent by the queues of other packages arrive at most once.

The tests use the real packages, a sandbox that counts deliveries, and the code of
docs/migrating.rst.
"""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Iterator
from typing import Any

import djcelery_email.conf  # noqa: F401 - adds defaults to the settings
import pytest
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.management import call_command

from django_turbosmtp.models import Message, Suppression
from django_turbosmtp.sandbox import Sandbox
from tests.test_docs import DOCS, find_block

pytestmark = pytest.mark.django_db(transaction=True)


def load_block(name: str, text: str) -> None:
    module = types.ModuleType(name)
    exec(find_block(DOCS / "migrating.rst", text), vars(module))
    sys.modules[name] = module


load_block("shop_mail", "def handle_error")
load_block("shop_tasks", "class EmailTask")


@pytest.fixture(autouse=True)
def _through_the_sandbox(sandbox: Sandbox, settings: Any) -> None:
    settings.TURBOSMTP = {
        "CONSUMER_KEY": "sandbox-key",
        "CONSUMER_SECRET": "sandbox-secret",
        "SEND_URL": sandbox.send_url(2),
        "MAX_RETRIES": 0,
    }


def build(number: int) -> Any:
    to = [f"p{number}@example.org"]
    message: Any = EmailMultiAlternatives(f"Order {number}", "Thank you", to=to)
    message.tags = ["orders"]
    return message


def count_deliveries(sandbox: Sandbox) -> dict[str, int]:
    counts: dict[str, int] = {}
    for received in sandbox.messages:
        subject = received.details.subject
        counts[subject] = counts.get(subject, 0) + 1
    return counts


def read_outcomes() -> list[str]:
    return list(
        Message.objects.order_by("subject", "id").values_list("outcome", flat=1)
    )


class TestDjangoMailer:
    @pytest.fixture(autouse=True)
    def _queue(self, settings: Any) -> None:
        settings.EMAIL_BACKEND = "mailer.backend.DbBackend"
        for number in range(4):
            build(number).send()

    def test_all_are_delivered_and_logged(self, sandbox: Sandbox) -> None:
        from mailer.models import Message as Queued
        from mailer.models import MessageLog

        call_command("send_mail")
        assert count_deliveries(sandbox) == {f"Order {n}": 1 for n in range(4)}
        assert read_outcomes() == ["accepted"] * 4
        assert not Queued.objects.exists()
        # The package's log pickles messages with their status.
        assert [log.email.subject for log in MessageLog.objects.order_by("id")] == [
            f"Order {n}" for n in range(4)
        ]
        assert Message.objects.first().tags == ["orders"]  # type: ignore[union-attr]

    def test_an_unknown_message_is_not_sent_again(self, sandbox: Sandbox) -> None:
        from mailer.models import Message as Queued
        from mailer.models import MessageLog

        sandbox.add_fault("lost_answer")
        for _ in range(3):
            call_command("send_mail")
            call_command("retry_deferred")
        assert count_deliveries(sandbox) == {f"Order {n}": 1 for n in range(4)}
        assert read_outcomes() == ["unknown", *["accepted"] * 3]
        assert not Queued.objects.exists()
        assert MessageLog.objects.filter(result="3").count() == 1

    @pytest.mark.parametrize("fault", ["400", "401", "nocredit", "429", "503"])
    def test_a_refused_message_does_not_block_others_and_is_kept(
        self, sandbox: Sandbox, fault: str
    ) -> None:
        from mailer.models import Message as Queued

        options = {"retry_after": 1} if fault == "503" else {}
        sandbox.add_fault(fault, **options)
        call_command("send_mail")
        assert len(count_deliveries(sandbox)) == 3
        assert read_outcomes() == ["refused", *["accepted"] * 3]
        assert Queued.objects.deferred().count() == 1
        call_command("retry_deferred")
        call_command("send_mail")
        assert count_deliveries(sandbox) == {f"Order {n}": 1 for n in range(4)}
        assert not Queued.objects.exists()

    def test_a_suppressed_recipient_is_not_tried_again(self, sandbox: Sandbox) -> None:
        from mailer.models import Message as Queued
        from mailer.models import MessageLog

        Suppression.objects.create(address="p0@example.org", reason="bounced")
        call_command("send_mail")
        assert count_deliveries(sandbox) == {f"Order {n}": 1 for n in range(1, 4)}
        assert not Queued.objects.exists()
        assert MessageLog.objects.filter(result="2").count() == 1


class TestPostOffice:
    @pytest.mark.parametrize("fault", [None, "lost_answer", "400", "503"])
    def test_each_is_delivered_at_most_once(
        self, sandbox: Sandbox, settings: Any, fault: str | None
    ) -> None:
        from post_office.mail import send_queued
        from post_office.models import STATUS, Email

        settings.EMAIL_BACKEND = "post_office.EmailBackend"
        for number in range(4):
            build(number).send()
        if fault:
            sandbox.add_fault(fault)
        for _ in range(2):
            send_queued()
        counts = count_deliveries(sandbox)
        assert set(counts.values()) == {1}
        assert len(counts) == (3 if fault in ("400", "503") else 4)
        failed = Email.objects.filter(status=STATUS.failed).count()
        assert failed == (1 if fault else 0)
        assert Message.objects.filter(outcome="accepted").count() == 4 - failed


class TestCeleryEmail:
    @pytest.fixture(autouse=True)
    def _worker(self, settings: Any) -> Iterator[None]:
        from celery import Celery
        from celery.contrib.testing.worker import start_worker

        settings.EMAIL_BACKEND = "djcelery_email.backends.CeleryEmailBackend"
        app = Celery("shop", broker="memory://", set_as_current=True)
        app.set_default()
        with start_worker(app, perform_ping_check=False, shutdown_timeout=20):
            yield

    @pytest.mark.parametrize(
        ("fault", "outcomes"),
        [
            (None, ["accepted"] * 3),
            # Tried again, because it was certainly not accepted.
            ("429", ["accepted", "accepted", "accepted", "refused"]),
            ("lost_answer", ["accepted", "accepted", "unknown"]),
            ("nocredit", ["accepted", "accepted", "refused"]),
        ],
    )
    def test_each_is_delivered_at_most_once(
        self, sandbox: Sandbox, fault: str | None, outcomes: list[str]
    ) -> None:
        if fault:
            sandbox.add_fault(fault)
        get_connection().send_messages([build(n) for n in range(3)])
        wait_for(lambda: len(read_outcomes()) == len(outcomes))
        wait_for(lambda: not Message.objects.filter(status="sending").exists())
        # A second attempt would be made immediately.
        time.sleep(1)
        assert sorted(read_outcomes()) == outcomes
        counts = count_deliveries(sandbox)
        assert set(counts.values()) == {1}
        assert len(counts) == (2 if fault == "nocredit" else 3)
        assert Message.objects.filter(tags=["orders"]).count() == len(outcomes)


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
