#!/usr/bin/env python3
"""Show django-turbosmtp at work on this machine: no account, no network mail.

    python3 example_project/demo.py            a form and an inbox, until Ctrl-C
    python3 example_project/demo.py --check    send, compare every byte, and end

Needs Python 3.11 or later and nothing else; a virtual environment of its own is
made in ``.demo/`` and used again the next time.
"""

from __future__ import annotations

import argparse
import contextlib
import email
import email.policy
import hashlib
import html
import html.parser
import http.cookiejar
import importlib.util
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

PROJECT = Path(__file__).resolve().parent
ROOT = PROJECT.parent
STATE = ROOT / ".demo"
WINDOWS = os.name == "nt"

# Seconds that each step may take; pip may have to fetch over a slow line.
VENV_SECONDS = 180
PIP_SECONDS = 600
MIGRATE_SECONDS = 120
READY_SECONDS = 60
HTTP_SECONDS = 30
STOP_SECONDS = 5

#: Variables that settings.py, or Python itself, would read from this shell.
OWN_VARIABLES = re.compile(r"(DJANGO_|TURBOSMTP_|SANDBOX_URL|DATABASE_URL|PYTHON)")

MESSAGE = {
    "to": "you@example.com",
    "subject": "Your parcel: café & crème ✓",
    # What mail programs like to damage: a lone full stop, "From ", tabs, spaces at
    # the end of a line, a very long line, characters beyond ASCII.
    "text": "Hello,\n\n.\nFrom our shop: 50 % off, “quoted” & <tagged>, 'single'.\n"
    "\ttab, and spaces at the end   \n" + "long " * 300 + "\n日本語 🚚\n",
}
PLAIN = {
    "to": "you@example.com",
    "subject": "Plain text by send_mail()",
    "text": "One line, and another:\n=3D is not an equals sign.\n",
}
SENDER = "Example Shop <shop@example.com>"
ATTACHMENT_NAME = "Prices (café).pdf"


class Failed(Exception):  # noqa: N818 - says it better than DemoError
    """The demo cannot go on; the text says why, and what to do."""


class Stopped(BaseException):
    """A signal asked for the end. Nothing that catches errors catches it."""


class Signals:
    """Turns Ctrl-C and SIGTERM into `Stopped`, but not while they are held."""

    def __init__(self) -> None:
        self._held = 0
        self._came = False

    def install(self) -> None:
        """Take over the signals that mean the end."""
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._handle)

    def _handle(self, *_: object) -> None:
        self._came = True
        if not self._held:
            raise Stopped

    @contextlib.contextmanager
    def held(self):
        """Let no signal in between; one that came is raised at the end."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._came and not self._held:
            raise Stopped


SIGNALS = Signals()


class Child:
    """A process of ours, ended by its own handle; its output goes to a file."""

    def __init__(self, name, arguments, *, log, env):
        self.name = name
        self.log = log
        # Its own group: Ctrl-C in a terminal would reach it before us, and what it
        # starts itself (pip does) ends with it.
        group = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
            if WINDOWS
            else {"start_new_session": True}
        )
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=PROJECT,
                **group,
            )

    def ended(self) -> bool:
        """Tell whether the process is gone."""
        return self.process.poll() is not None

    def output(self) -> str:
        """Return the last lines it wrote."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.rstrip().splitlines()[-25:])

    def stop(self) -> None:
        """End it: politely, then not; harmless when it is gone."""
        for end in (self._terminate, self._kill):
            if self.ended():
                return
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)

    def _terminate(self) -> None:
        if WINDOWS:
            self.process.terminate()
        else:
            # The group's number is the process's, which is ours until it is waited
            # for; it has not been, or ended() had said so.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)

    def _kill(self) -> None:
        if WINDOWS:
            self.process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


@contextlib.contextmanager
def child(name, arguments, *, log, env):
    """Run a process for as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        # No signal between the start and the promise to end it.
        with SIGNALS.held():
            process = Child(name, arguments, log=log, env=env)
            stack.callback(_stop, process)
        yield process


def _stop(process: Child) -> None:
    with contextlib.suppress(Stopped), SIGNALS.held():
        process.stop()


def run(name, arguments, *, log, env, seconds):
    """Run a process to its end, and raise `Failed` if that is not a good one."""
    with child(name, arguments, log=log, env=env) as process:
        try:
            code = process.process.wait(seconds)
        except subprocess.TimeoutExpired:
            text = f"{name} was not ready after {seconds} seconds."
            raise Failed(f"{text}\n{process.output()}") from None
        if code:
            raise Failed(f"{name} failed (exit code {code}):\n{process.output()}")


# --- The virtual environment ---


def venv_python(folder: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if WINDOWS else "bin/python")


def fingerprint() -> str:
    """Return what changes when the environment has to be made anew."""
    parts = [
        sys.version,
        sys.base_prefix,
        # An editable installation points to the folder it was made from.
        str(ROOT),
        (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def prepare_venv() -> Path:
    """Return the interpreter that has the package and its example extra."""
    folder, stamp = STATE / "venv", STATE / "venv.stamp"
    python, wanted = venv_python(folder), fingerprint()
    if python.exists() and stamp.is_file() and stamp.read_text() == wanted:
        return python
    if importlib.util.find_spec("ensurepip") is None:
        raise Failed(
            "This Python cannot make virtual environments with pip in them. On Debian"
            " and Ubuntu: sudo apt install python3-venv"
        )
    say("Preparing a virtual environment in .demo/ (once; this takes a minute) ...")
    STATE.mkdir(exist_ok=True)
    stamp.unlink(missing_ok=True)
    env = child_environment()
    run(
        "Making the virtual environment",
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        log=STATE / "venv.log",
        env=env,
        seconds=VENV_SECONDS,
    )
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    try:
        run(
            "pip",
            [*pip, "install", "--quiet", "-e", f"{ROOT}[example]"],
            log=STATE / "pip.log",
            env=env,
            seconds=PIP_SECONDS,
        )
    except Failed as error:
        raise Failed(
            f"Django and the other requirements could not be installed. {error}\n"
            "The first start needs a way to a package index (PyPI, or what pip's own"
            " configuration names). Then start the demo again."
        ) from None
    stamp.write_text(wanted)
    return python


def child_environment(**variables: str) -> dict[str, str]:
    """Return this shell's environment without what would change the demo."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not OWN_VARIABLES.match(name) and name != "DEFAULT_FROM_EMAIL"
    }
    # A proxy knows nothing of this machine's own ports.
    bypass = ",".join(filter(None, [os.environ.get("no_proxy"), "127.0.0.1,localhost"]))
    env |= {"NO_PROXY": bypass, "no_proxy": bypass, "PYTHONUNBUFFERED": "1"}
    return env | variables


# --- Ports and processes ---


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this port now."""
    with socket.socket() as probe:
        if not WINDOWS:
            # As servers do: connections that have ended do not block the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def choose_port(wanted: int, what: str) -> int:
    """Return ``wanted``, or a free port where it is taken or 0."""
    if wanted and is_free(wanted):
        return wanted
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if wanted:
        say(f"Port {wanted} is taken; {what} takes {port}.")
    return port


def wait_until(ready, process: Child) -> None:
    """Wait for ``ready()`` to be true, or raise `Failed`."""
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        if process.ended():
            raise Failed(f"{process.name} ended by itself:\n{process.output()}")
        if time.monotonic() > deadline:
            text = f"{process.name} was not ready after {READY_SECONDS} seconds."
            raise Failed(f"{text}\n{process.output()}")
        time.sleep(0.05)
    if process.ended():
        # Somebody else's server answered on the port that ours could not have.
        raise Failed(f"{process.name} ended by itself:\n{process.output()}")


def answers(url: str) -> bool:
    """Tell whether a server answers a page here."""
    try:
        fetch(url)
    except OSError:
        return False
    return True


def start_sandbox(stack, python, *, port, logs, env):
    """Start the sandbox, and return its address."""
    port_file = logs / "sandbox.port"
    port_file.unlink(missing_ok=True)
    sandbox = stack.enter_context(
        child(
            "The sandbox",
            [
                *(str(python), "-m", "django_turbosmtp.sandbox"),
                *("--port", str(port), "--port-file", str(port_file)),
            ],
            log=logs / "sandbox.log",
            env=env,
        )
    )
    wait_until(port_file.exists, sandbox)
    url = f"http://127.0.0.1:{port_file.read_text()}"
    wait_until(lambda: answers(f"{url}/sandbox/messages"), sandbox)
    return sandbox, url


def start_site(stack, python, *, port, logs, env):
    """Migrate and start the example project, and return its address."""
    manage = [str(python), str(PROJECT / "manage.py")]
    for name, command in (
        ("Making the database", ["migrate", "--verbosity", "0"]),
        ("Making the admin user", ["demo_admin"]),
    ):
        run(
            name,
            manage + command,
            log=logs / "migrate.log",
            env=env,
            seconds=MIGRATE_SECONDS,
        )
    site = stack.enter_context(
        child(
            "The example project",
            [*manage, "runserver", "--noreload", f"127.0.0.1:{port}"],
            log=logs / "site.log",
            env=env,
        )
    )
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: answers(f"{url}/"), site)
    return site, url


# --- A browser, as far as one is needed ---

# Without the proxies of this shell: all of it stays on this machine.
_NO_PROXY = urllib.request.ProxyHandler({})


def fetch(url: str) -> bytes:
    """Return what a URL of this machine answers."""
    opener = urllib.request.build_opener(_NO_PROXY)
    with opener.open(url, timeout=HTTP_SECONDS) as answer:
        return answer.read()


class _FormToken(html.parser.HTMLParser):
    token = ""

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "input" and values.get("name") == "csrfmiddlewaretoken":
            self.token = values.get("value") or ""


def send_form(site: str, path: str, fields: dict[str, str]) -> str:
    """Open the page, fill in its form, send it, and return the page that follows."""
    cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    opener = urllib.request.build_opener(_NO_PROXY, cookies)
    with opener.open(f"{site}/", timeout=HTTP_SECONDS) as answer:
        reader = _FormToken()
        reader.feed(answer.read().decode())
    # Browsers end the lines of a text area with CRLF.
    data = {name: value.replace("\n", "\r\n") for name, value in fields.items()}
    data["csrfmiddlewaretoken"] = reader.token
    request = urllib.request.Request(
        f"{site}{path}",
        data=urllib.parse.urlencode(data).encode(),
        headers={"Referer": f"{site}/", "Origin": site},
    )
    try:
        with opener.open(request, timeout=HTTP_SECONDS) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            page = error.read().decode("utf-8", "replace")
        raise Failed(
            f"The example project answered {error.code}: {alert_of(page)}"
        ) from None


def alert_of(page: str) -> str:
    """Return what the page says went wrong."""
    found = re.search(r'role="alert">(.*?)</p>', page, re.DOTALL)
    return html.unescape(found[1]) if found else "see its log"


# --- The comparison ---


def parse(raw: bytes):
    """Return a message as Python's own parser reads it."""
    return email.message_from_bytes(raw, policy=email.policy.default)


def expected_html(text: str) -> str:
    """Return the HTML part the example project's template makes of ``text``."""
    template = PROJECT / "example" / "templates" / "example" / "mail.html"
    source = template.read_text(encoding="utf-8")
    source = re.sub(r"{% (if picture_id|endif) %}", "", source)
    source = source.replace("{{ picture_id }}", "parcel")
    return source.replace("{{ text }}", html.escape(text))


def expected_message() -> dict:
    """Return what has to arrive, byte for byte."""
    files = PROJECT / "example" / "files"
    return {
        "subject": MESSAGE["subject"],
        "from": SENDER,
        "to": MESSAGE["to"],
        "text": MESSAGE["text"].encode(),
        "html": expected_html(MESSAGE["text"]).encode(),
        "picture": ("parcel.png", (files / "parcel.png").read_bytes()),
        "attachment": (ATTACHMENT_NAME, (files / "prices.pdf").read_bytes()),
    }


def compare(raw: bytes, expected: dict) -> list[tuple[str, bool, str]]:
    """Return each check of a message that arrived: name, result, what was found."""
    message = parse(raw)
    leaves = [part for part in message.walk() if not part.is_multipart()]
    texts = [p for p in leaves if p.get_content_type() == "text/plain"]
    pages = [p for p in leaves if p.get_content_type() == "text/html"]
    inline = [p for p in leaves if p["Content-ID"]]
    attached = [p for p in leaves if p.get_content_disposition() == "attachment"]
    checks = []

    def check(name, found, wanted):
        checks.append((name, found == wanted, "" if found == wanted else repr(found)))

    def header(name):
        return [str(value) for value in message.get_all(name) or []]

    def content(parts):
        return [part.get_payload(decode=True) for part in parts]

    def files(parts):
        return [(part.get_filename(), part.get_payload(decode=True)) for part in parts]

    check("the subject", header("Subject"), [expected["subject"]])
    check("the sender", header("From"), [expected["from"]])
    check("the recipient", header("To"), [expected["to"]])
    check("no copies to anyone else", header("Cc") + header("Bcc"), [])
    check("the text", content(texts), [expected["text"]])
    if "html" not in expected:
        check("nothing beside the text", len(leaves), 1)
        return checks
    # The reference may be renamed on the way, if the picture is renamed with it.
    cids = [part["Content-ID"].strip().strip("<>") for part in inline]
    page = (content(pages) or [b""])[0]
    references = re.findall(rb'"cid:([^"]*)"', page)
    resolved = [reference.decode() in cids for reference in references]
    check("the HTML shows one picture, and it is there", resolved, [True])
    written = [re.sub(rb'"cid:[^"]*"', b'"cid:parcel"', p) for p in content(pages)]
    check("the HTML", written, [expected["html"]])
    check("the picture, its name and bytes", files(inline), [expected["picture"]])
    check(
        "the attachment, its name and bytes", files(attached), [expected["attachment"]]
    )
    check("no other parts", len(leaves), 4)
    return checks


def check_delivery(sandbox: str, site: str) -> bool:
    """Send both messages of the example, print each check, and tell whether all held.

    Everything is read from what the sandbox got, not from what was meant.
    """
    plain = {"subject": PLAIN["subject"], "from": SENDER, "to": PLAIN["to"]}
    plain["text"] = PLAIN["text"].encode()
    runs = (
        ("EmailMultiAlternatives", "/send/", MESSAGE, expected_message()),
        ("send_mail()", "/send-plain/", PLAIN, plain),
    )
    good = True
    for number, (name, path, fields, expected) in enumerate(runs, start=1):
        say(f"{name}:")
        page = send_form(site, path, fields | {"with_files": "on"})
        listed = json.loads(fetch(f"{sandbox}/sandbox/messages"))
        total = listed["total_accepted"]
        checks = [("exactly one message was accepted", total == number, str(total))]
        if listed["results"]:
            newest = listed["results"][0]
            raw = fetch(f"{sandbox}/sandbox/messages/{newest['mid']}/raw")
            checks += compare(raw, expected)
            envelope = newest["recipients"]
            sent_to = [["to", fields["to"]]]
            checks.append(("the envelope", envelope == sent_to, repr(envelope)))
            if path == "/send/":
                told = newest["mid"] in page
                checks.append(("the page tells its message id", told, newest["mid"]))
        for label, held, found in checks:
            detail = "" if held else f"; found: {found[:300]}"
            say(f"  {'ok    ' if held else 'FAILED'}  {label}{detail}")
        good = good and len(checks) > 1 and all(held for _, held, _ in checks)
    return good


# --- The two ways to run ---


def admin_password(database: Path) -> str:
    """Return the demo admin's password: the environment's, or this database's own."""
    if given := os.environ.get("DEMO_ADMIN_PASSWORD"):
        return given
    kept = database.with_name("admin-password")
    if database.exists() and kept.is_file():
        return kept.read_text().strip()
    password = secrets.token_urlsafe(9)
    kept.unlink(missing_ok=True)
    # Readable for this user alone from its first byte on.
    handle = os.open(kept, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(password)
    return password


def start(stack, *, ports, folder):
    """Start everything on ``folder``'s database; return processes and addresses."""
    python = prepare_venv()
    database = folder / "db.sqlite3"
    env = child_environment()
    sandbox, sandbox_url = start_sandbox(
        stack,
        python,
        port=choose_port(ports[1], "the sandbox"),
        logs=folder,
        env=env,
    )
    user = os.environ.get("DEMO_ADMIN_USER", "admin")
    password = admin_password(database)
    site, site_url = start_site(
        stack,
        python,
        port=choose_port(ports[0], "the example project"),
        logs=folder,
        env=env
        | {
            # The demo is the same whatever a .env file says.
            "ENV_FILE": "",
            "DATABASE_URL": f"sqlite:///{urllib.parse.quote(database.as_posix())}",
            "SANDBOX_URL": sandbox_url,
            "DEMO_ADMIN_USER": user,
            "DEMO_ADMIN_PASSWORD": password,
        },
    )
    login = f"user {user}, password {password}"
    return (sandbox, site), sandbox_url, site_url, login


def check() -> int:
    """Run unattended on a database of its own; return the exit code."""
    with contextlib.ExitStack() as stack:
        # Where a process still holds a file as the folder goes, the folder stays.
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(
                prefix="turbosmtp-demo-", ignore_cleanup_errors=True
            )
        )
        processes, sandbox, site, _ = start(stack, ports=(0, 0), folder=Path(folder))
        good = check_delivery(sandbox, site)
        for process in processes if not good else ():
            say(f"--- {process.name} ---\n{process.output()}")
    say("All checks passed." if good else "Some checks FAILED.")
    return 0 if good else 1


def show(ports: tuple[int, int]) -> int:
    """Run until Ctrl-C, and return the exit code."""
    STATE.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        processes, sandbox, site, login = start(stack, ports=ports, folder=STATE)
        send_form(site, "/send/", MESSAGE | {"with_files": "on"})
        newest = json.loads(fetch(f"{sandbox}/sandbox/messages/latest"))
        files = ", ".join(
            f"{file['name']} ({file['size']} bytes)" for file in newest["attachments"]
        )
        say(
            f"""
A message was sent through the example project, and this arrived:

  Subject      {newest["subject"]}
  To           {", ".join(address for _, address in newest["recipients"])}
  Message id   {newest["mid"]}
  Files        {files}

Where to look:

  Inbox        {sandbox}
  This message {sandbox}/messages/{newest["mid"]}
  Send more    {site}
  Admin        {site}/admin/   ({login})
  Logs         {STATE / "site.log"}

Nothing leaves this machine. Ctrl-C ends it."""
        )
        while True:
            time.sleep(0.3)
            for process in processes:
                if process.ended():
                    raise Failed(f"{process.name} ended:\n{process.output()}")


def say(text: str) -> None:
    """Print at once, in whatever characters the terminal has."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, run, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="send, compare every byte, and end"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="of the example project (%(default)s)"
    )
    parser.add_argument(
        "--sandbox-port", type=int, default=8025, help="of the inbox (%(default)s)"
    )
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


if __name__ == "__main__":
    # Whoever starts it with an older one should not get a traceback.
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit("The demo needs Python 3.11 or later; this is " + sys.version)
    sys.exit(main())
