"""Child processes, which are stopped when the demo ends for any reason."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "example_project"
WINDOWS = os.name == "nt"

#: Wait this many seconds until a server answers, and until a process ends.
READY_SECONDS = 60
STOP_SECONDS = 5


class Failed(Exception):  # noqa: N818 - says it better than DemoError
    """The demo cannot continue. The text has the reason and advice."""


class Stopped(BaseException):
    """A signal to stop. A BaseException, so that ``except Exception`` ignores it."""


class Signals:
    """Raises `Stopped` on Ctrl-C and SIGTERM, except while they are held."""

    def __init__(self) -> None:
        self._held = 0
        self._came = False

    def install(self) -> None:
        """Handle the signals that stop the demo."""
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._handle)

    def _handle(self, *_: object) -> None:
        self._came = True
        if not self._held:
            raise Stopped

    @contextlib.contextmanager
    def held(self):
        """Delay signals until the end of the block."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._came and not self._held:
            raise Stopped


SIGNALS = Signals()


class Child:
    """A child process. Its output is written to a file."""

    def __init__(self, name, arguments, *, log, env):
        self.name = name
        self.log = log
        # Its own group, so that Ctrl-C in a terminal does not stop it before us, and
        # its children (those of pip) are stopped with it.
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
        """Return whether the process has ended."""
        return self.process.poll() is not None

    def output(self) -> str:
        """Return the last lines of its output."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.rstrip().splitlines()[-25:])

    def stop(self) -> None:
        """Stop it with SIGTERM, then SIGKILL. May be called after it has ended."""
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
            # The number of the group is that of the process, which is valid until the
            # process is waited for: ended() would have returned True.
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
        # No signal between the start and the ``try`` that stops it.
        with SIGNALS.held():
            process = Child(name, arguments, log=log, env=env)
            stack.callback(_stop, process)
        yield process


def _stop(process: Child) -> None:
    with contextlib.suppress(Stopped), SIGNALS.held():
        process.stop()


def run(name, arguments, *, log, env, seconds):
    """Run a process until it ends, and raise `Failed` if it fails."""
    with child(name, arguments, log=log, env=env) as process:
        try:
            code = process.process.wait(seconds)
        except subprocess.TimeoutExpired:
            text = f"{name} was not ready after {seconds} seconds."
            raise Failed(f"{text}\n{process.output()}") from None
        if code:
            raise Failed(f"{name} failed (exit code {code}):\n{process.output()}")


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
        # Another server answered on the port, so this one could not start.
        raise Failed(f"{process.name} ended by itself:\n{process.output()}")


def say(text: str) -> None:
    """Print at once, with the characters that the terminal supports."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)
