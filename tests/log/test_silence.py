"""Mail is sent, but the webhook receives no events: the check and the banner."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import Client
from django.utils import timezone

from django_turbosmtp.models import (
    Message,
)
from django_turbosmtp.sandbox import Sandbox
from tests.log.posting import (
    build,
    send,
    tell,
)
from tests.worlds import WORLD

pytestmark = pytest.mark.django_db


class TestSilence:
    TEXT = "turboSMTP has reported no events"

    def ask(self, client: Client) -> tuple[bool, bool]:
        """Return whether the dashboard and the checks report missing events."""
        page = client.get("/admin/turbosmtp/message/dashboard/").text
        found = run_checks(tags=["database"], databases=[WORLD.alias])
        return self.TEXT in page, "turbosmtp.W010" in {message.id for message in found}

    @pytest.mark.parametrize(
        ("hours", "said"), [(0.5, False), (5, True), (71, True), (80, False)]
    )
    def test_mail_is_sent_and_no_events_arrive(
        self,
        hours: float,
        said: bool,
        tracked: Any,
        sandbox: Sandbox,
        admin_client: Client,
    ) -> None:
        send()
        then = timezone.now() - timedelta(hours=hours)
        Message.objects.update(created_at=then)
        assert self.ask(admin_client) == (said, said)

    def test_one_event_is_enough(
        self, tracked: Any, sandbox: Sandbox, admin_client: Client
    ) -> None:
        send()
        Message.objects.update(created_at=timezone.now() - timedelta(hours=5))
        tell(build("OPENED"))
        assert self.ask(admin_client) == (False, False)

    def test_a_site_without_a_webhook_is_not_warned(
        self, tracked: Any, sandbox: Sandbox, admin_client: Client
    ) -> None:
        send()
        Message.objects.update(created_at=timezone.now() - timedelta(hours=5))
        del tracked.TURBOSMTP["WEBHOOK_SECRET"]
        assert self.ask(admin_client) == (False, False)
