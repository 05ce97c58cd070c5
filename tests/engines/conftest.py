"""Fixtures: workers as processes, a sandbox that counts, and their shared database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from django_turbosmtp._lib.versions import HAS_MAILERS
from django_turbosmtp.sandbox import Sandbox
from tests.conftest import BACKEND
from tests.engines import settings as engine

_ROOT = Path(__file__).parents[2]

COMMANDS = {
    "tasks_db": ["-m", "django", "db_worker", "--interval", "0.1", "--no-reload"],
    "tasks_rq": [
        *("-m", "django", "rqworker", engine.NAME, "--with-scheduler"),
        *("--job-class", "django_tasks_rq.Job"),
    ],
    "celery": [
        *("-m", "celery", "-A", "tests.engines.app", "worker", "--loglevel", "WARNING"),
        *("--concurrency", "2", "--without-mingle", "--without-gossip"),
    ],
}


@pytest.fixture
def project(sandbox: Sandbox, settings: Any) -> Any:
    """The settings of the engine, with the sandbox of the tests."""
    url = sandbox.send_url(2)
    settings.TURBOSMTP = {**settings.TURBOSMTP, "SEND_URL": url, "API_URL": url}
    # Test runners replace the backends of the settings.
    if HAS_MAILERS:
        settings.MAILERS = {"default": {"BACKEND": BACKEND}}
    else:
        settings.EMAIL_BACKEND = BACKEND
    return settings


@pytest.fixture(autouse=True)
def _empty_broker(transactional_db: None) -> Iterator[None]:
    """Remove all tasks before and after a test."""
    _clear()
    yield
    _clear()


def _clear() -> None:
    if engine.ENGINE == "tasks_rq":
        import django_rq

        django_rq.get_queue(engine.NAME).empty()
    elif engine.ENGINE.startswith("celery"):
        from tests.engines.app import app

        with suppress(Exception):
            app.control.purge()


@pytest.fixture
def start_worker(
    project: Any, sandbox: Sandbox, tmp_path: Path
) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Start a worker in a separate process group; all are killed at the end."""
    workers: list[subprocess.Popen[bytes]] = []
    origin = sandbox.send_url(2).removesuffix("/api/v2")
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.engines.settings",
        "TEST_DATABASE_OF_WORKER": str(connection.settings_dict["NAME"]),
        "TEST_SANDBOX": origin,
        "PYTHONPATH": str(_ROOT),
    }
    command = COMMANDS["celery" if "celery" in engine.ENGINE else engine.ENGINE]

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / f"worker{len(workers)}.log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, *command],
                cwd=_ROOT,
                env={**os.environ, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        kill(worker)
    for number in range(len(workers)):
        print((tmp_path / f"worker{number}.log").read_text(errors="replace")[-3000:])


def kill(worker: subprocess.Popen[bytes]) -> None:
    """Kill a worker and its children with SIGKILL."""
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait(10)


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            pytest.fail("The condition has not come true in time.")
        time.sleep(0.02)
