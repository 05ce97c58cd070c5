"""The demo's virtual environment, environment variables, and ports."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import secrets
import socket
import sys
from typing import TYPE_CHECKING

from demo_kit.processes import ROOT, WINDOWS, Failed, run, say

if TYPE_CHECKING:
    from pathlib import Path

STATE = ROOT / ".demo"

#: Time limits of the steps in seconds. pip may need a slow connection.
VENV_SECONDS = 180
PIP_SECONDS = 600

#: Variables of the shell that would change settings.py or Python.
OWN_VARIABLES = re.compile(
    r"(DJANGO_|TURBOSMTP_|SANDBOX_URL|DATABASE_URL|PYTHON|TASKS_|REDIS_URL|CELERY_)"
)


def venv_python(folder: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if WINDOWS else "bin/python")


def fingerprint() -> str:
    """Return a text that changes if the environment must be created again."""
    parts = [
        sys.version,
        sys.base_prefix,
        # An editable installation contains the path of its folder.
        str(ROOT),
        (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def prepare_venv() -> Path:
    """Return the interpreter of an environment with the package and its extra."""
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
        "Creating the virtual environment",
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
            "The first start needs access to a package index (PyPI, or the one in pip's"
            " configuration). Then start the demo again."
        ) from None
    stamp.write_text(wanted)
    return python


def child_environment(**variables: str) -> dict[str, str]:
    """Return the shell's environment without variables that would change the demo."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not OWN_VARIABLES.match(name) and name != "DEFAULT_FROM_EMAIL"
    }
    # A proxy cannot connect to the ports of this machine.
    bypass = ",".join(filter(None, [os.environ.get("no_proxy"), "127.0.0.1,localhost"]))
    env |= {"NO_PROXY": bypass, "no_proxy": bypass, "PYTHONUNBUFFERED": "1"}
    return env | variables


def is_free(port: int) -> bool:
    """Return whether a server could listen on this port now."""
    with socket.socket() as probe:
        if not WINDOWS:
            # Like servers, so that closed connections do not block the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def choose_port(wanted: int, what: str) -> int:
    """Return ``wanted``, or a free port if it is in use or 0."""
    if wanted and is_free(wanted):
        return wanted
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if wanted:
        say(f"Port {wanted} is in use; {what} uses {port} instead.")
    return port


def admin_password(database: Path) -> str:
    """Return the password of the demo's admin: from the environment, or generated."""
    if given := os.environ.get("DEMO_ADMIN_PASSWORD"):
        return given
    kept = database.with_name("admin-password")
    if database.exists() and kept.is_file():
        return kept.read_text().strip()
    password = secrets.token_urlsafe(9)
    kept.unlink(missing_ok=True)
    # From its creation on, only this user can read it.
    handle = os.open(kept, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(password)
    return password
