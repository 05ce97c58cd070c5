"""The signal `tracking`, sent once for each new event."""

from __future__ import annotations

from typing import Any

import pytest

from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.signals import tracking
from tests.log.posting import (
    build,
    send,
    statuses,
    tell,
)
from tests.messages import new

pytestmark = pytest.mark.django_db


class TestSignal:
    def test_one_for_each_new_event(self, tracked: Any, sandbox: Sandbox) -> None:
        told: list[Any] = []

        def receive(event: Any, esp_name: str, **kwargs: Any) -> None:
            told.append((event, esp_name))

        message = new()
        message.metadata = {"order": 7}
        message.tags = ["a", "b"]
        [row] = send(message)
        tracking.connect(receive)
        try:
            event = build("CLICKED", row, url="https://x.org/", useragent="Firefox")
            tell(event)
            tell(event, event)
        finally:
            tracking.disconnect(receive)
        [(found, esp_name)] = told
        assert esp_name == "turboSMTP"
        assert found.event_type == "clicked"
        assert found.message_id == row.mid
        assert found.metadata == {"order": 7}
        assert found.tags == ("a", "b")
        assert found.click_url == "https://x.org/"
        assert found.esp_event == event

    def test_errors_of_receivers_are_not_raised(
        self, tracked: Any, sandbox: Sandbox, caplog: Any
    ) -> None:
        def receive(**kwargs: Any) -> None:
            raise LookupError("a receiver failed")

        [row] = send()
        tracking.connect(receive)
        try:
            tell(build("OPENED", row), build("CLICKED", row))
        finally:
            tracking.disconnect(receive)
        assert statuses(row) == ["clicked"]
        assert "a receiver failed" in caplog.text
