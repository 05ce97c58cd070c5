"""Every hard message arrives through the queue exactly as without it."""

from __future__ import annotations

from typing import Any

import pytest

from django_turbosmtp.models import Message
from django_turbosmtp.sandbox import Sandbox
from tests.log.queueing import DUMMY, send, work_off
from tests.messages import MESSAGES
from tests.reading import read

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_arrive_as_written(name: str, logged: Any, sandbox: Sandbox) -> None:
    logged.TURBOSMTP = {**logged.TURBOSMTP, "QUEUE": True}
    logged.TASKS = DUMMY
    message = MESSAGES[name]()
    send(message)
    work_off()
    through_queue = list(sandbox.messages)
    sandbox.clear()
    send(message, queue=False)
    directly = sandbox.messages
    assert [m.recipients for m in through_queue] == [m.recipients for m in directly]
    for one, other in zip(through_queue, directly, strict=True):
        assert read(one.raw) == read(other.raw)
    statuses = Message.objects.values_list("status", flat=True)
    assert set(statuses) == {"sent"}
