"""Processes that end with the demo, however it ends."""

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

#: Wait this many seconds for a server to answer, and for a process to end.
READY_SECONDS = 60
STOP_SECONDS = 5


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
        """Return whether the process is gone."""
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


def say(text: str) -> None:
    """Print at once, in whatever characters the terminal has."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)
