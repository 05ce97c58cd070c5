"""Many events: queries, two processes at the same time, and a real server."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections

from django_turbosmtp.models import (
    Event,
    Message,
    Recipient,
)
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.signals import tracking
from tests.log.posting import (
    SECRET,
    URL,
    build,
    post,
    send,
    statuses,
    tell,
)
from tests.log.surroundings import assert_max_queries
from tests.messages import new

pytestmark = pytest.mark.django_db


def test_few_queries(tracked: Any, sandbox: Sandbox) -> None:
    rows = send(*(new(subject=str(number)) for number in range(40)))
    words = ["DELIVERED", "OPENED", "BOUNCED", "CLICKED"]
    events = [build(words[n % 4], row) for n, row in enumerate(rows)]
    with assert_max_queries(22):
        tell(*events)
    with assert_max_queries(9):
        tell(*events)
    with assert_max_queries(10):
        tell(build("COMPLAINED", rows[0]))


@pytest.mark.django_db(transaction=True)
def test_two_at_once(tracked: Any, sandbox: Sandbox) -> None:
    """The same and other events of the same messages, in different orders."""
    rows = send(
        *(new(to=[f"a{n}@x.org", f"b{n}@x.org"]) for n in range(6)),
        *(new(to=[f"c{n}@x.org"]) for n in range(6)),
    )
    told: list[Any] = []
    lock = threading.Lock()

    def receive(event: Any, **kwargs: Any) -> None:
        with lock:
            told.append(event.event_id)

    words = ["DELIVERED", "OPENED", "DEFERRED", "CLICKED", "PROCESSED"]
    events = [
        build(word, row, email=address)
        for row in rows
        for address in row.recipients.values_list("address", flat=True)  # type: ignore[attr-defined]
        for word in words
    ]
    answers: list[int] = []
    ready = threading.Barrier(4)

    def work(number: int) -> None:
        shuffled = random.Random(number).sample(events, len(events))
        ready.wait()
        try:
            for start in range(0, len(shuffled), 9):
                while True:
                    code = post(shuffled[start : start + 9]).status_code
                    answers.append(code)
                    # As turboSMTP does if an event could not be stored.
                    if code == 200:
                        break
        finally:
            connections.close_all()

    tracking.connect(receive)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        tracking.disconnect(receive)
    assert set(answers) == {200}
    assert Event.objects.count() == len(events)
    assert sorted(told) == sorted(event["id"] for event in events)
    assert set(Recipient.objects.values_list("status", flat=True)) == {"clicked"}
    assert set(Message.objects.values_list("status", flat=True)) == {"clicked"}


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002


@pytest.fixture
def site_port() -> Iterator[int]:
    """Serve the site in a thread, with its own database connections."""
    server = make_server("127.0.0.1", 0, WSGIHandler(), handler_class=Quiet)

    def serve() -> None:
        server.serve_forever(0.01)
        connections.close_all()

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("jane", "delivered"),
        ("open", "opened"),
        ("bounce", "bounced"),
        ("disorder", "opened"),
        ("spam", "complained"),
        ("silent", "sent"),
    ],
)
def test_events_of_the_sandbox_arrive(
    name: str, status: str, tracked: Any, site_port: int
) -> None:
    """From the send to the webhook, over HTTP in both directions."""
    url = f"http://{SECRET}@127.0.0.1:{site_port}{URL}"
    with Sandbox(webhook_url=url) as sandbox:
        tracked.TURBOSMTP |= {
            "SEND_URL": sandbox.send_url(),
            "API_VERSION": 2,
            "CONSUMER_KEY": "sandbox-key",
            "CONSUMER_SECRET": "sandbox-secret",
        }
        [row] = send(new(to=[f"{name}@example.org"]))
        assert sandbox.webhook.wait()
        assert {told.answer for told in sandbox.webhook.posted} <= {"200"}
    row.refresh_from_db()
    assert (row.status, statuses(row)) == (status, [status])
