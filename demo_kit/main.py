"""Show django-turbosmtp at work on this machine: no account, no network mail.

    python3 example_project/demo.py            a form and an inbox, until Ctrl-C
    python3 example_project/demo.py --check    send, compare every byte, and exit

The sandbox (``python -m django_turbosmtp.sandbox``) replaces turboSMTP. A virtual
environment is created in ``.demo/`` and reused.
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
from typing import TYPE_CHECKING

from demo_kit.browser import fetch, send_form
from demo_kit.check import check_delivery
from demo_kit.environment import (
    STATE,
    admin_password,
    child_environment,
    choose_port,
    prepare_venv,
)
from demo_kit.log import build_admin_url, count_statuses, find_rows
from demo_kit.messages import MESSAGE
from demo_kit.processes import SIGNALS, Child, Failed, Stopped, say, wait_until
from demo_kit.services import (
    prepare_database,
    start_sandbox,
    start_site,
    start_worker,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Demo:
    """The running demo: processes, URLs, the admin's login, the database.

    ``start_worker``: starts the worker of the queue.
    """

    processes: list[Child]
    sandbox: str
    site: str
    login: str
    database: Path
    start_worker: Callable[[], Child]


def show(ports: tuple[int, int]) -> int:
    """Send a message, print the URLs, and run until Ctrl-C."""
    STATE.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        demo = start(stack, ports=ports, folder=STATE, queue="tasks")
        newest = send_through_queue(demo)
        [row] = find_rows(demo.database, newest["mid"])
        say(describe(demo, newest, build_admin_url(demo.site, row)))
        while True:
            time.sleep(0.3)
            for process in demo.processes:
                if process.ended():
                    raise Failed(f"{process.name} ended:\n{process.output()}")


def send_through_queue(demo: Demo) -> dict:
    """Queue a message, show that it waits, start the worker; return the message."""
    send_form(demo.site, "/send/", MESSAGE | {"with_files": "on"})
    waiting = count_statuses(demo.database).get("queued", 0)
    say(f"Queued: {waiting} message. Starting a worker ...")
    worker = demo.start_worker()
    demo.processes.append(worker)

    def is_sent() -> bool:
        return not count_statuses(demo.database).keys() & {"queued", "sending"}

    wait_until(is_sent, worker)
    return json.loads(fetch(f"{demo.sandbox}/sandbox/messages/latest"))


def describe(demo: Demo, newest: dict, admin_url: str) -> str:
    """Return the text about the arrived message, with the URLs."""
    files = [f"{file['name']} ({file['size']} bytes)" for file in newest["attachments"]]
    return f"""
The worker sent it, and this arrived:

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
    """Send and compare with a new database, and return the exit code."""
    with contextlib.ExitStack() as stack:
        # The folder cannot be removed if a process still uses a file in it.
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(
                prefix="turbosmtp-demo-", ignore_cleanup_errors=True
            )
        )
        demo = start(stack, ports=(0, 0), folder=Path(folder))
        good = check_delivery(demo.sandbox, demo.site, demo.database)
        demo = start(stack, ports=(0, 0), folder=Path(folder), queue="tasks")
        good = check_queue(demo) and good
        for process in demo.processes if not good else ():
            say(f"--- {process.name} ---\n{process.output()}")
    say("All checks passed." if good else "Some checks FAILED.")
    return 0 if good else 1


def check_queue(demo: Demo) -> bool:
    """Send a message through the queue; return whether it arrived once."""
    say("The queue:")
    newest = send_through_queue(demo)
    listed = json.loads(fetch(f"{demo.sandbox}/sandbox/messages"))
    [row] = find_rows(demo.database, newest["mid"])
    checks = {
        "one message arrived": listed["total_accepted"] == 1,
        "the subject": newest["subject"] == MESSAGE["subject"],
        "the log's row: outcome": row["outcome"] == "accepted",
    }
    for label, held in checks.items():
        say(f"  {'ok    ' if held else 'FAILED'}  {label}")
    return all(checks.values())


def start(
    stack: contextlib.ExitStack,
    *,
    ports: tuple[int, int],
    folder: Path,
    queue: str = "",
) -> Demo:
    """Start the sandbox and the example project on the database in ``folder``.

    ``queue``: the task engine of the queue, "" for none.
    """
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
        # Read no .env file, which could change the demo.
        "ENV_FILE": "",
        "DATABASE_URL": f"sqlite:///{urllib.parse.quote(database.as_posix())}",
        "SANDBOX_URL": sandbox_url,
        "DEMO_ADMIN_USER": user,
        "DEMO_ADMIN_PASSWORD": password,
        "TURBOSMTP_QUEUE": queue,
    }
    prepare_database(python, logs=folder, env=env)
    site, site_url = start_site(stack, python, port=site_port, logs=folder, env=env)
    return Demo(
        processes=[sandbox, site],
        sandbox=sandbox_url,
        site=site_url,
        login=f"user {user}, password {password}",
        database=database,
        start_worker=lambda: start_worker(stack, python, logs=folder, env=env),
    )


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, run, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--check", action="store_true", help="send, compare every byte, and exit")
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
        # In CI, an interruption is a failure.
        return 1 if options.check else 0
