"""Show django-turbosmtp at work on this machine: no account, no network mail.

    python3 example_project/demo.py            a form and an inbox, until Ctrl-C
    python3 example_project/demo.py --check    send, compare every byte, and end

The sandbox, ``python -m django_turbosmtp.sandbox``, stands in for turboSMTP. A virtual
environment is made in ``.demo/`` and used again the next time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from demo_kit.browser import fetch, send_form
from demo_kit.check import check_delivery
from demo_kit.environment import (
    STATE,
    admin_password,
    child_environment,
    choose_port,
    prepare_venv,
)
from demo_kit.log import build_admin_url, find_rows
from demo_kit.messages import MESSAGE
from demo_kit.processes import SIGNALS, Child, Failed, Stopped, say
from demo_kit.services import start_sandbox, start_site


@dataclass(frozen=True)
class Demo:
    """What runs: two processes, their addresses, the admin's login, the database."""

    processes: tuple[Child, Child]
    sandbox: str
    site: str
    login: str
    database: Path


def show(ports: tuple[int, int]) -> int:
    """Send a message, say where to look, and run until Ctrl-C."""
    STATE.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        demo = start(stack, ports=ports, folder=STATE)
        send_form(demo.site, "/send/", MESSAGE | {"with_files": "on"})
        newest = json.loads(fetch(f"{demo.sandbox}/sandbox/messages/latest"))
        [row] = find_rows(demo.database, newest["mid"])
        say(describe(demo, newest, build_admin_url(demo.site, row)))
        while True:
            time.sleep(0.3)
            for process in demo.processes:
                if process.ended():
                    raise Failed(f"{process.name} ended:\n{process.output()}")


def describe(demo: Demo, newest: dict, admin_url: str) -> str:
    """Return what the demo says of the message that arrived, and where to look."""
    files = [f"{file['name']} ({file['size']} bytes)" for file in newest["attachments"]]
    return f"""
A message was sent through the example project, and this arrived:

  Subject      {newest["subject"]}
  To           {", ".join(address for _, address in newest["recipients"])}
  Message id   {newest["mid"]}
  Files        {", ".join(files)}

Where to look:

  Inbox        {demo.sandbox}
  This message {demo.sandbox}/messages/{newest["mid"]}
  Its log row  {admin_url}
  Send more    {demo.site}
  Admin        {demo.site}/admin/   ({demo.login})
  Logs         {STATE / "site.log"}

Nothing leaves this machine. Ctrl-C ends it."""


def check() -> int:
    """Send, compare every byte on a database of its own, and return the exit code."""
    with contextlib.ExitStack() as stack:
        # Where a process still holds a file as the folder goes, the folder stays.
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(
                prefix="turbosmtp-demo-", ignore_cleanup_errors=True
            )
        )
        demo = start(stack, ports=(0, 0), folder=Path(folder))
        good = check_delivery(demo.sandbox, demo.site, demo.database)
        for process in demo.processes if not good else ():
            say(f"--- {process.name} ---\n{process.output()}")
    say("All checks passed." if good else "Some checks FAILED.")
    return 0 if good else 1


def start(stack: contextlib.ExitStack, *, ports: tuple[int, int], folder: Path) -> Demo:
    """Start the sandbox and the example project on the database in ``folder``."""
    python, env = prepare_venv(), child_environment()
    site_port = choose_port(ports[0], "the example project")
    sandbox, sandbox_url = start_sandbox(
        stack,
        python,
        port=choose_port(ports[1], "the sandbox"),
        logs=folder,
        env=env,
        webhook=f"http://sandbox:webhook@127.0.0.1:{site_port}/turbosmtp/webhook/",
    )
    database = folder / "db.sqlite3"
    user, password = (
        os.environ.get("DEMO_ADMIN_USER", "admin"),
        admin_password(database),
    )
    env |= {
        # The demo is the same whatever a .env file says.
        "ENV_FILE": "",
        "DATABASE_URL": f"sqlite:///{urllib.parse.quote(database.as_posix())}",
        "SANDBOX_URL": sandbox_url,
        "DEMO_ADMIN_USER": user,
        "DEMO_ADMIN_PASSWORD": password,
    }
    site, site_url = start_site(stack, python, port=site_port, logs=folder, env=env)
    login = f"user {user}, password {password}"
    return Demo((sandbox, site), sandbox_url, site_url, login, database)


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, run, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--check", action="store_true", help="send, compare every byte, and end")
    add("--port", type=int, default=8000, help="of the example project (%(default)s)")
    add("--sandbox-port", type=int, default=8025, help="of the inbox (%(default)s)")
    options = parser.parse_args(arguments)
    SIGNALS.install()
    try:
        return check() if options.check else show((options.port, options.sandbox_port))
    except Failed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except Stopped:
        say("\nStopped.")
        # Unattended, an interruption is no success.
        return 1 if options.check else 0
