"""The sandbox's command line, which the management command uses, too."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django_turbosmtp.sandbox.inbox.control import mask_account
from django_turbosmtp.sandbox.server import CONSUMER_KEYS, USERS, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DESCRIPTION = "Run a simulated turboSMTP on this machine, with an inbox in the browser."
_SETTINGS = """\
Settings to paste:

    TURBOSMTP = {{
        "CONSUMER_KEY": {key},
        "CONSUMER_SECRET": {secret},
        "SEND_URL": "{url}/api/v2",
        "API_URL": "{url}/api/v2",
    }}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the options, for `python -m` and for manage.py."""
    [(key, secret)] = CONSUMER_KEYS.items()
    [(user, password)] = USERS.items()
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="a loopback address (%(default)s)")
    add("--port", type=int, default=8025, help="0 chooses a free one (%(default)s)")
    add("--consumer-key", default=key, help="accepted by API v2 (%(default)s)")
    add("--consumer-secret", default=secret, help="its secret (%(default)s)")
    add("--authuser", default=user, help="accepted by API v1 (%(default)s)")
    add("--authpass", default=password, help="its password (%(default)s)")
    add(
        "--account",
        type=_parse_account,
        action="append",
        default=[],
        metavar="KEY:SECRET",
        help="another account, for API v1 if KEY is an e-mail address; repeatable",
    )
    add(
        "--webhook",
        metavar="URL",
        help="post events to http://user:password@127.0.0.1:8000/turbosmtp/webhook/",
    )
    add(
        "--latency",
        type=_parse_seconds,
        default=0.0,
        metavar="SECONDS",
        help="added to every send (%(default)s)",
    )
    add(
        "--max-messages",
        type=_parse_count,
        default=500,
        metavar="N",
        help="keep this many messages, the latest ones (%(default)s)",
    )
    add("--quiet", action="store_true", help="do not print a line for each message")
    add("--port-file", type=Path, metavar="PATH", help="write the port to this file")


def run(options: dict[str, Any], write: Callable[[str], object] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit code."""
    write = write or _print
    consumer_keys = {options["consumer_key"]: options["consumer_secret"]}
    users = {options["authuser"]: options["authpass"]}
    for user, password in options["account"]:
        known = users if "@" in user else consumer_keys
        if known.setdefault(user, password) != password:
            shown = mask_account(user)
            return _fail(f"the account {shown!r} is given twice, with two secrets.")
    try:
        sandbox = Sandbox(
            options["host"],
            options["port"],
            consumer_keys=consumer_keys,
            users=users,
            latency=options["latency"],
            max_messages=options["max_messages"],
            webhook_url=options["webhook"],
            log=None if options["quiet"] else write,
        )
    except ValueError as error:
        return _fail(str(error))
    ended = threading.Event()
    # Install them before the port is reported, because a signal may follow at once.
    before = {
        number: signal.signal(number, lambda *_: ended.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        sandbox.start()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        return _fail(
            f"cannot listen on {options['host']} port {options['port']}: {reason}. "
            "Choose another with --port."
        )
    else:
        try:
            _announce(sandbox, options, write)
            ended.wait()
        finally:
            sandbox.stop()
        return 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m django_turbosmtp.sandbox`."""
    parser = argparse.ArgumentParser(
        prog="python -m django_turbosmtp.sandbox", description=DESCRIPTION
    )
    add_arguments(parser)
    return run(vars(parser.parse_args(arguments)))


def _announce(
    sandbox: Sandbox, options: dict[str, Any], write: Callable[[str], object]
) -> None:
    # Do not print a secret from the options: terminals may be recorded.
    standard = options["consumer_secret"] in CONSUMER_KEYS.values()
    secret = options["consumer_secret"] if standard else "..."
    write(f"turboSMTP sandbox: the inbox is at {sandbox.url}. Press Ctrl-C to stop.\n")
    write(
        _SETTINGS.format(
            key=json.dumps(options["consumer_key"]),
            secret=json.dumps(secret),
            url=sandbox.url,
        )
    )
    if options["webhook"]:
        write(f"Events go to {sandbox.webhook.shown_url}\n")
    if options["account"]:
        names = ", ".join(mask_account(user) for user, _ in options["account"])
        write(f"Additional accounts: {names}, each with its own secret.\n")
    if options["port_file"] is not None:
        port = sandbox.url.rpartition(":")[2]
        # Replace the file in one step, so that no process reads a part of the number.
        target: Path = options["port_file"]
        draft = target.with_name(target.name + ".new")
        draft.write_text(port, encoding="ascii")
        draft.replace(target)


def _parse_account(text: str) -> tuple[str, str]:
    user, _, password = text.partition(":")
    if not user or not password:
        # Do not show the value: it may be a secret.
        raise argparse.ArgumentTypeError("not KEY:SECRET, with a colon between them")
    return user, password


def _parse_seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < 3600:
        raise argparse.ArgumentTypeError("from 0 to 3600 seconds")
    return value


def _parse_count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _print(line: str) -> None:
    print(line, flush=True)


def _fail(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return 1
