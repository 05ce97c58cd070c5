"""Measures memory, CPU, imports and threads of one message."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from bench import FROM, HEADERS, OURS, TEXT, TO, emails, read_peak, reset_peak

if TYPE_CHECKING:
    from bench import Bench, Figures


def attachments(bench: Bench) -> Figures:
    """Send a message with three large attachments: memory, CPU and arrived bytes."""
    from django.core.mail import EmailMessage, get_connection

    bench.django(OURS if bench.way == "dumps" else bench.way)
    contents = [os.urandom(bench.megabytes * 10**6) for _ in range(3)]
    email = EmailMessage("Three files", TEXT, FROM, [TO])
    for number, content in enumerate(contents):
        email.attach(f"file-{number}.bin", content, "application/octet-stream")

    if bench.way == "dumps":
        import requests

        own = requests.Session()

        def send(message: Any) -> None:
            parts = [
                {"name": name, "type": kind, "content": base64.b64encode(data).decode()}
                for name, data, kind in message.attachments
            ]
            fields = {"from": FROM, "to": TO, "subject": "x", "content": TEXT}
            body = json.dumps({**fields, "attachments": parts}).encode()
            headers = {**HEADERS, "Content-Type": "application/json"}
            own.post(
                f"{bench.url}/mail/send", data=body, headers=headers
            ).raise_for_status()

    else:

        def send(message: Any) -> None:
            get_connection().send_messages([message])

    small = EmailMessage("Small", TEXT, FROM, [TO])
    small.attach("small.bin", b"small", "application/octet-stream")
    send(small)
    verify = int(bool(bench.refuse))
    bench.reset(latency=bench.latency, verify=verify, refuse=bench.refuse)
    if bench.trace:
        import tracemalloc

        tracemalloc.start()
        send(email)
        growth = tracemalloc.get_traced_memory()[1]
        cpu = None
    else:
        before = reset_peak()
        cpu = time.process_time()
        send(email)
        cpu = time.process_time() - cpu
        growth = read_peak() - before
    stats = bench.stats()
    if stats["messages"] != 1:
        raise RuntimeError(f"One message sent, {stats} arrived")
    hashes = [hashlib.sha256(content).hexdigest() for content in contents]
    payload = sum(map(len, contents))
    return {
        # Tracing is slow, so the seconds are meaningless.
        **({} if cpu is None else {"cpu_ms": 1000 * cpu}),
        "growth": growth / payload,
        "growth_mb": growth / 10**6,
        "requests": stats["requests"],
        "complete": int(stats["attachments"] == hashes) if verify else None,
    }


def imports(bench: Bench) -> Figures:
    """Measure the milliseconds of imports in a new process with configured settings."""
    start = time.perf_counter()
    for name in ("django", "requests", "django.core.mail"):
        importlib.import_module(name)
    from django.conf import settings

    settings.configure()
    base = time.perf_counter()
    if bench.way:
        importlib.import_module(bench.way.rpartition(".")[0])
    end = time.perf_counter()
    return {"ms": 1000 * (end - start), "added_ms": 1000 * (end - base)}


def threads(bench: Bench) -> Figures:
    """Count the threads that a send of ``messages`` messages starts."""
    from django.core.mail import get_connection

    bench.django(OURS)
    ready = emails(bench.messages)
    get_connection().send_messages(emails(1))
    started: list[str] = []
    known = threading.local()

    def note(*_: object) -> None:
        # current_thread() would create a second object for a thread that is ending.
        if not hasattr(known, "noted"):
            known.noted = True
            started.append("one")

    # This hook is called in every thread that the threading module starts.
    threading.setprofile(note)
    bench.reset(latency=bench.latency)
    get_connection().send_messages(ready)
    threading.setprofile(None)
    return {"threads": len(started)}
