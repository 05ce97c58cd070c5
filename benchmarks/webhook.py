"""Measure how many events of the webhook are stored per second, by size of the log.

``python3 benchmarks/webhook.py`` fills a new database with messages, and posts events
to the view, in arrays of 100 and one by one. It posts the same events to a receiver for
django-anymail that looks up the message, stores the event and sets the status, as a
site would do itself. Both are measured in the same process and database. It needs this
package and its tests' packages: ``pip install -e '.[test]'``.

``--database``: a file for SQLite, or ``postgresql://user@host:port/name``, which must
exist and be empty.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = "turbosmtp:secret"
WORDS = ("PROCESSED", "DELIVERED", "OPENED", "CLICKED", "BOUNCED", "DEFERRED")
#: The number of events of one measurement, and the number of measurements.
EVENTS = {100: 5_000, 1: 500}
TIMES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--database", help="where, instead of a temporary file")
    parser.add_argument("--events", type=int, help="in arrays; a tenth one by one")
    options = parser.parse_args()
    if len(options.messages) > 1:
        if options.database:
            parser.error("--database allows only one number of --messages")
        for count in options.messages:
            command = [sys.executable, __file__, "--messages", str(count)]
            if options.events:
                command += ["--events", str(options.events)]
            subprocess.run(command, check=True)
        return
    if options.events:
        EVENTS.update({100: options.events, 1: max(1, options.events // 10)})
    with tempfile.TemporaryDirectory() as folder:
        measure(options.messages[0], options.database or f"{folder}/log.sqlite3")


def measure(count: int, database: str) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    import admin

    admin._configure(database)
    from django.conf import settings
    from django.core.handlers.base import BaseHandler
    from django.core.management import call_command
    from django.db import connection
    from django.test import RequestFactory
    from django.urls import include, path

    from django_turbosmtp.models import Message, Recipient

    settings.TURBOSMTP = {"WEBHOOK_SECRET": SECRET}
    settings.ANYMAIL = {"WEBHOOK_SECRET": SECRET}
    settings.MIDDLEWARE = []
    call_command("migrate", verbosity=0)
    if not Message.objects.exists():
        admin.fill(count)
    peer = build_peer()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    settings.ROOT_URLCONF = __name__
    globals()["urlpatterns"] = [
        path("turbosmtp/", include("django_turbosmtp.urls")),
        path("peer/", peer),
    ]
    handler = BaseHandler()
    handler.load_middleware()
    factory = RequestFactory()
    login = "Basic " + base64.b64encode(SECRET.encode()).decode()

    def post(address: str, body: bytes) -> None:
        request = factory.post(
            address, body, "application/json", HTTP_AUTHORIZATION=login
        )
        answer = handler.get_response(request)
        if answer.status_code != 200:
            raise RuntimeError(f"{address}: {answer.status_code} {answer.content!r}")

    known = list(
        Recipient.objects.exclude(mid="").order_by("pk").values_list("mid", "address")
    )
    numbers = random.Random(3)
    print(f"\n{Message.objects.count():,} messages, {connection.vendor}")
    for size, total in EVENTS.items():
        rates: dict[str, list[float]] = {"turbosmtp/webhook": [], "peer": []}
        for _ in range(TIMES):
            bodies = list(build_bodies(known, size, total, numbers))
            for name, found in rates.items():
                found.append(
                    time_posts(lambda b, n=name: post(f"/{n}/", b), bodies, total)
                )
        ours, theirs = (statistics.median(found) for found in rates.values())
        label = f"in arrays of {size}" if size > 1 else "one by one"
        print(
            f"  {label:18}{ours:>8,.0f}/s   by hand {theirs:>7,.0f}/s"
            f"   {ours / theirs:.1f} times"
        )
    print("  the largest bodies that the view accepts:")
    for label, body in build_largest_bodies(known, numbers):
        started = time.perf_counter()
        post("/turbosmtp/webhook/", body)
        seconds = time.perf_counter() - started
        print(f"    {label:34}{len(body):>10,} bytes  {seconds:.2f} s")


def time_posts(post: Callable[[bytes], None], bodies: list[bytes], total: int) -> float:
    started = time.perf_counter()
    for body in bodies:
        post(body)
    return total / (time.perf_counter() - started)


def build_bodies(
    known: list[Any], size: int, total: int, numbers: random.Random
) -> Iterator[bytes]:
    """Yield bodies of ``size`` events, of messages in all parts of the log."""
    now = int(time.time())
    for _ in range(total // size):
        events = []
        for _ in range(size):
            mid, address = numbers.choice(known)
            status = numbers.choice(WORDS)
            event = {
                "id": str(numbers.getrandbits(50)),
                "mid": mid,
                "status": status,
                "email": address,
                "subject": "Your order",
                "timestamp": now + numbers.randrange(1000),
                "reference_id": "order",
            }
            if status == "BOUNCED":
                event["reason"] = {"0": "550 5.1.1 no such user", "response": "550"}
            if status in {"OPENED", "CLICKED"}:
                event |= {"useragent": "Mozilla/5.0 (iPhone)", "ip": "192.0.2.1"}
            events.append(event)
        yield json.dumps(events).encode()


def build_largest_bodies(
    known: list[Any], numbers: random.Random
) -> Iterator[tuple[str, bytes]]:
    """Yield names and bodies that have the maximum number of parts or bytes."""
    from django_turbosmtp.tracking.events import MAX_EVENTS
    from django_turbosmtp.tracking.view import MAX_BODY_BYTES

    [body] = build_bodies(known, MAX_EVENTS, MAX_EVENTS, numbers)
    events = json.loads(body)
    # Pad each event with a field that the log only stores.
    room = (MAX_BODY_BYTES - len(body)) // MAX_EVENTS - len(', "x": ""')
    padded = json.dumps([event | {"x": "x" * room} for event in events]).encode()
    yield "events of messages in the log", padded
    for event in events:
        event |= {"status": "BOUNCED", "email": f"{numbers.getrandbits(60):x}@x.test"}
        event |= {"mid": str(numbers.getrandbits(60)), "reason": "550 5.1.1 unknown"}
    yield "bounces of unknown messages", json.dumps(events).encode()
    yield "parts that are not events", b"[" + b"[]," * (MAX_EVENTS - 1) + b"[]]"
    room = MAX_BODY_BYTES - 200
    for label, reason in {
        "one event, one long reason": "550 5.1.1 <" * (room // 11),
        "one event, one long word": "a" * room,
        "one event, a nested reason": [[[0] * 1000] * 100] * (room // 301_000),
    }.items():
        event = {"id": label, "mid": "1", "status": "BOUNCED", "reason": reason}
        yield label, json.dumps([event]).encode()
    yield "one deep array", b"[" * (MAX_BODY_BYTES // 2) + b"]" * (MAX_BODY_BYTES // 2)


def build_peer() -> Any:
    """Return a view like django-anymail's, with the receiver of a site."""
    from anymail.signals import AnymailTrackingEvent, tracking
    from anymail.webhooks.base import AnymailBaseWebhookView
    from django.db import connection, models, transaction

    from django_turbosmtp.models import Recipient

    class Sent(models.Model):
        message_id = models.CharField(max_length=40, db_index=True)
        recipient = models.CharField(max_length=320)
        status = models.CharField(max_length=16, default="sent")

        class Meta:
            app_label = "peer"

    class Told(models.Model):
        sent = models.ForeignKey(Sent, models.CASCADE, null=True)
        event_id = models.CharField(max_length=255, unique=True)
        event_type = models.CharField(max_length=16)
        timestamp = models.DateTimeField()
        raw = models.JSONField()

        class Meta:
            app_label = "peer"

    with connection.schema_editor() as editor:
        editor.create_model(Sent)
        editor.create_model(Told)
    rows = Recipient.objects.exclude(mid="").values_list("mid", "address")
    Sent.objects.bulk_create(
        [Sent(message_id=mid, recipient=address) for mid, address in rows.iterator()],
        batch_size=5_000,
    )
    ranks = {"sent": 0, "queued": 0, "deferred": 1, "delivered": 2, "bounced": 3}
    ranks |= {"opened": 4, "clicked": 5}

    def keep(sender: Any, event: Any, esp_name: str, **kwargs: Any) -> None:
        with transaction.atomic():
            sent = Sent.objects.filter(
                message_id=event.message_id, recipient=event.recipient
            ).first()
            _, created = Told.objects.get_or_create(
                event_id=event.event_id,
                defaults={
                    "sent": sent,
                    "event_type": event.event_type,
                    "timestamp": event.timestamp,
                    "raw": event.esp_event,
                },
            )
            if created and sent and ranks[event.event_type] > ranks[sent.status]:
                sent.status = event.event_type
                sent.save(update_fields=["status"])

    tracking.connect(keep, weak=False)

    class View(AnymailBaseWebhookView):
        esp_name = "peer"
        signal = tracking

        def parse_events(self, request: Any) -> list[Any]:
            from datetime import UTC, datetime

            from django_turbosmtp.tracking.events import EVENT_TYPES

            return [
                AnymailTrackingEvent(
                    event_type=EVENT_TYPES[raw["status"]],
                    timestamp=datetime.fromtimestamp(int(raw["timestamp"]), UTC),
                    event_id=raw["id"],
                    message_id=raw["mid"],
                    recipient=raw["email"],
                    esp_event=raw,
                )
                for raw in json.loads(request.body)
            ]

    return View.as_view()


if __name__ == "__main__":
    main()
