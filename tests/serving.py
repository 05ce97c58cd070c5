"""Servers on loopback whose answers a test sets."""

from __future__ import annotations

import json
import pickle
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from django_turbosmtp.api.client import Client
from django_turbosmtp.api.shared import close_shared_sessions, share_session
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.conf.settings import load
from tests.messages import new

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def say(status: int, data: Any, **headers: str) -> Answer:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()

    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    told = text if len(text) < 40 else text[:40] + b"..."
    answer.case = f"{status} {told.decode(errors='replace')} {headers or ''}".strip()  # type: ignore[attr-defined]
    return answer


ACCEPT = say(200, {"message": "OK", "mid": 4321})
REFUSE = say(400, {"message": "error", "errors": ["not today"]})
NO_CREDIT = say(400, {"message": "error", "errors": ["nocredit"]})


def hang_up(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    handler.close_connection = True


def send(server: Any, answer: Answer | None = None) -> Any:
    server.answer = answer or server.answer
    message = new()
    EmailBackend().send_messages([message])
    return message.turbosmtp_status


def log_in(password: str = "hunter2-password") -> Any:
    settings = load()
    session = share_session(settings.api_url, pool_size=1)
    return Client(session, settings, None).login("me@example.com", password)


def _show(value: Any) -> str:
    try:
        return repr(value)
    except AttributeError:
        return "an object that is not built yet"


def exposed(error: BaseException) -> str:
    """Return the text that an error reporter would show, without frames of tests."""
    shown = [repr(error), str(vars(error)), repr(pickle.dumps(error))]
    chain: BaseException | None = error
    while chain is not None:
        for frame, _ in traceback.walk_tb(chain.__traceback__):
            if Path(frame.f_code.co_filename).parent != Path(__file__).parent:
                shown += map(_show, frame.f_locals.values())
        shown.append(repr(chain))
        chain = chain.__cause__ or chain.__context__
    return "\n".join(shown)


Serve = Callable[[socket.socket], None]


@contextmanager
def serving(serve: Serve) -> Iterator[Any]:
    """Serve each connection of a free port in a separate thread; yield the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    over = threading.Event()
    threads: list[threading.Thread] = []

    def serve_one(connection: socket.socket) -> None:
        with connection, suppress(OSError):  # The client has disconnected.
            serve(connection)

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(5)
            threads.append(threading.Thread(target=serve_one, args=(connection,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        close_shared_sessions()
        over.set()
        accepting.join()
        for thread in threads:
            thread.join()
        listener.close()
