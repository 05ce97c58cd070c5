"""No secret is in a frame, at any line. Run by tests/test_secrets.py."""

from __future__ import annotations

import gc
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from django_turbosmtp._lib.secrets import Secret
from django_turbosmtp.api.shared import close_shared_sessions
from django_turbosmtp.backends import EmailBackend
from tests.messages import new
from tests.serving import exposed, hang_up, log_in, say


class Stop(BaseException):
    """An exception that no code catches, such as a time limit of gevent."""


# If a library is stopped while it closes a connection, it remains open.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", ["v2", "v1", "login of v2", "login of v1", "proxy"])
def test_not_in_frames_at_any_line(
    way: str, server: Any, settings: Any, proxy: Any
) -> None:
    """Raise an exception at one line after another, including lines of libraries."""
    if way == "proxy":
        server.RequestHandlerClass.do_CONNECT = hang_up
        proxy(f"http://user:hunter2-proxy@127.0.0.1:{server.server_port}")
        settings.TURBOSMTP |= {"LOG": False}
    else:
        url = f"http://127.0.0.1:{server.server_port}"
        settings.TURBOSMTP |= {"SEND_URL": url, "API_URL": url}
    settings.TURBOSMTP |= {
        "API_VERSION": 1 if "v1" in way else 2,
        "AUTHUSER": "u@x.org",
        "AUTHPASS": "hunter2-password",
        "MAX_RETRIES": 0,
    }
    server.answer = say(200, {"message": "OK", "mid": 1, "auth": "k"})

    def act() -> None:
        # Not in the main thread, whose requests are made by another thread.
        close_shared_sessions()
        if "login" in way:
            # Before the client's first line, its caller must hide the password.
            log_in(Secret("hunter2-password"))
        else:
            EmailBackend().send_messages([new()])

    stop_at_line(act, 0)  # Import and cache everything first.
    total, _ = stop_at_line(act, 0)
    assert total > 900
    caught = [stop_at_line(act, number)[1] for number in range(1, total, total // 150)]
    stopped = [error for error in caught if isinstance(error, Stop)]
    assert len(stopped) > 100
    for error in stopped:
        assert "hunter2" not in exposed(error)
    del caught, stopped, error
    gc.collect()


def stop_at_line(
    act: Callable[[], None], number: int
) -> tuple[int, BaseException | None]:
    """Run in a thread and raise at a line; return the number of lines, and the error.

    Lines of `threading` and `logging` are skipped: a tracer can raise between the end
    of a ``with`` block and the release of its lock, which would then stay locked.
    """
    passed = 0
    caught: list[BaseException] = []

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal passed
        if frame.f_code.co_filename in {threading.__file__, logging.__file__}:
            return None
        passed += event == "line"
        if passed == number and event == "line":
            raise Stop
        return trace

    def run() -> None:
        sys.settrace(trace)
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - shown to the test
            sys.settrace(None)
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return passed, caught[0] if caught else None
