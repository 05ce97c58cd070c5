"""Runs a site in a process, and logs in to it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.browser.conftest import follow

SITE = Path(__file__).with_name("site.py")


@contextlib.contextmanager
def run_site(sandbox, folder, outside, content="each_kind"):
    """Run a site in a separate process, and yield its address."""
    sandbox.add_fault("500", match="lost@")
    sandbox.add_fault("nocredit", match="refused@", times=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    arguments = [str(folder / "db.sqlite3"), sandbox.send_url(), port, outside[0]]
    arguments.append(content)
    url = f"http://127.0.0.1:{port}"
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, SITE, *arguments], stdout=log, stderr=log, env=os.environ
        ) as process,
    ):
        try:
            deadline = time.monotonic() + 60
            while not answers(f"{url}/favicon.ico"):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


def log_in(page, site, path=""):
    page.goto(f"{site}/admin/turbosmtp/message/{path}")
    page.get_by_label("Username:").fill("admin")
    page.get_by_label("Password:").fill("password")
    follow(page, page.get_by_role("button", name="Log in").click)
