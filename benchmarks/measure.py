"""Runs one measurement in a separate process, and prints its figures as JSON.

``python measure.py NAME '{"http": PORT, "smtp": PORT, ...}'``. Run by ``run.py`` in the
virtual environment with the other packages. This module measures the rate of sending.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from bench import (
    FROM,
    HEADERS,
    HTML,
    OURS,
    TEXT,
    TO,
    WARM_UP,
    Bench,
    emails,
    in_threads,
)
from costs import attachments, imports, threads
from log import blind, logged, memory, pruning
from queueing import drain, enqueue, waiting, worker_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench import Figures


def batch(bench: Bench) -> Figures:
    """Send all messages, which are built before, with one send_messages()."""
    from django.core.mail import get_connection

    bench.django(bench.way)
    ready = {
        count: emails(count) for count in {bench.messages, min(WARM_UP, bench.messages)}
    }
    return bench.timed(lambda count: get_connection().send_messages(ready[count]))


def single(bench: Bench) -> Figures:
    """Call send_mail() repeatedly, in one or several threads."""
    from django.core.mail import send_mail

    bench.django(bench.way)

    def some(count: int) -> None:
        for number in range(count):
            send_mail(f"Order {number}", TEXT, FROM, [TO], html_message=HTML)

    def send(count: int) -> None:
        if bench.threads == 1:
            some(count)
            return
        shares = [count // bench.threads] * bench.threads
        shares[0] += count % bench.threads
        in_threads([lambda share=share: some(share) for share in shares])

    return bench.timed(send)


def fork(bench: Bench) -> Figures:
    """Send in the parent, a forked child, and the parent again: count connections."""
    from django.core.mail import send_mail

    bench.django(OURS)

    def send() -> None:
        for number in range(10):
            send_mail(f"Order {number}", TEXT, FROM, [TO], html_message=HTML)

    send()
    bench.reset(latency=bench.latency)
    send()
    in_parent = bench.stats()["connections"]
    pid = os.fork()
    if not pid:
        try:
            send()
        except BaseException:  # noqa: BLE001 - the child must end here in any case
            os._exit(1)
        os._exit(0)
    child_failed = os.waitpid(pid, 0)[1] != 0
    with_child = bench.stats()["connections"]
    send()
    stats = bench.stats()
    if child_failed or stats["messages"] != 30:
        raise RuntimeError(f"After a fork: {stats}, child failed: {child_failed}")
    return {
        "connections": stats["connections"],
        "of_child": with_child - in_parent,
        "of_parent_after": stats["connections"] - with_child,
    }


def _fields(number: int) -> dict[str, Any]:
    return {
        "from": FROM,
        "to": TO,
        "subject": f"Order {number}",
        "content": TEXT,
        "html_content": HTML,
    }


def session(bench: Bench) -> Figures:
    """Call requests.Session().post(json=...) in a loop, as a site might do itself."""
    import requests

    lock = threading.Lock()
    sessions = [requests.Session() for _ in range(bench.threads)]

    def send(count: int) -> None:
        numbers = iter(range(count))

        def work(own: requests.Session) -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                answer = own.post(
                    f"{bench.url}/mail/send",
                    json=_fields(number),
                    headers=HEADERS,
                    timeout=(5, 30),
                )
                answer.raise_for_status()
                if answer.json()["message"] != "OK":
                    raise RuntimeError(answer.text)

        if bench.threads == 1:
            work(sessions[0])
        else:
            in_threads([lambda own=own: work(own) for own in sessions])

    return bench.timed(send)


def prepared(bench: Bench) -> Figures:
    """Send one prepared request repeatedly, the minimum of work for requests."""
    import requests

    own = requests.Session()
    request = own.prepare_request(
        requests.Request(
            "POST", f"{bench.url}/mail/send", json=_fields(0), headers=HEADERS
        )
    )

    def send(count: int) -> None:
        for _ in range(count):
            own.send(request, timeout=(5, 30)).json()

    return bench.timed(send)


WORKS: dict[str, Callable[[Bench], Figures]] = {
    work.__name__: work
    for work in (
        *(batch, single, fork, session, prepared),
        *(attachments, imports, threads),
        *(logged, memory, blind, pruning),
        *(enqueue, drain, waiting, worker_memory),
    )
}

if __name__ == "__main__":
    print(json.dumps(WORKS[sys.argv[1]](Bench(json.loads(sys.argv[2])))))
