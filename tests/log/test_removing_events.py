"""Events when rows are pruned or a person is erased."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from django.core.management import call_command

from django_turbosmtp.models import (
    Event,
    Message,
    Unmatched,
)
from django_turbosmtp.sandbox import Sandbox
from tests.log.posting import (
    build,
    send,
    tell,
)
from tests.messages import new

pytestmark = pytest.mark.django_db


class TestRemoving:
    def test_prune(self, tracked: Any, sandbox: Sandbox) -> None:
        [row] = send()
        tell(build("OPENED", row), build("OPENED"))
        with pytest.MonkeyPatch.context() as patch:
            later = time.time() + 400 * 86400
            patch.setattr("time.time", lambda: later)
            call_command("turbosmtp_prune", verbosity=0)
        assert not Message.objects.exists()
        assert not Event.objects.exists()
        assert not Unmatched.objects.exists()

    def test_erase(self, tracked: Any, sandbox: Sandbox, tmp_path: Any) -> None:
        [row] = send(new(to=["jane@x.org", "joe@x.org"], subject="Hello"))
        tell(
            build("OPENED", row, email="jane@x.org", subject="Hello"),
            build("OPENED", row, email="joe@x.org", subject="Hello"),
            build("BOUNCED", email="jane@x.org"),
            build("BOUNCED", email="joe@x.org"),
        )
        path = tmp_path / "jane.json"
        call_command("turbosmtp_erase", "jane@x.org", export=path, no_input=True)
        kept = Event.objects.order_by("address").values_list("address", "raw")
        assert [address for address, _ in kept] == ["joe@x.org"] * 2
        assert "Hello" not in str(list(kept))
        [exported] = json.loads(path.read_text())["messages"]
        assert [event["event_type"] for event in exported["events"]] == ["opened"]
