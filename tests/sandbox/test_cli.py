"""The command line, as processes."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from django_turbosmtp.sandbox import cli
from tests.sandbox.conftest import V2

ROOT = Path(__file__).parents[2]
MODULE = ["-m", "django_turbosmtp.sandbox"]
COMMAND = ["-m", "django", "turbosmtp_sandbox"]
# Enough to find the command, without a database or a project.
SETTINGS = "SECRET_KEY = 'x'\nINSTALLED_APPS = ['django_turbosmtp']\n"


@contextlib.contextmanager
def running(tmp_path, module, *options):
    (tmp_path / "cli_settings.py").write_text(SETTINGS)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    if module == COMMAND:
        environment["DJANGO_SETTINGS_MODULE"] = "cli_settings"
    port_file = tmp_path / "port"
    process = subprocess.Popen(
        [
            *(sys.executable, "-W", "error", "-X", "dev", *module),
            *("--port", "0", "--port-file", str(port_file), *options),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    try:
        deadline = time.monotonic() + 20
        while not port_file.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                pytest.fail(f"did not start: {process.communicate()}")
            time.sleep(0.02)
        yield process, int(port_file.read_text())
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def send(port, headers=V2, **fields):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = json.dumps({"from": "a@x.com", "to": "b@x.com", "subject": "hi"} | fields)
    connection.request(
        "POST",
        "/api/v2/mail/send",
        body,
        {"Content-Type": "application/json", **headers},
    )
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("module", [MODULE, COMMAND], ids=["module", "command"])
def test_serves_until_it_is_stopped(tmp_path, module, number):
    with running(tmp_path, module) as (process, port):
        assert send(port) == 200
        assert send(port, to="nobody") == 400
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")
    url = f"http://127.0.0.1:{port}"
    assert f"the inbox is at {url}. " in out
    assert f'"SEND_URL": "{url}/api/v2"' in out
    assert '"CONSUMER_KEY": "sandbox-key"' in out
    assert " 200 'hi' to 'b@x.com'" in out
    assert " 400 'hi' to 'nobody': " in out
    assert "email not valid" in out


def test_options(tmp_path):
    options = ["--consumer-key", "k", "--consumer-secret", "own-secret", "--quiet"]
    with running(tmp_path, MODULE, *options, "--latency", "0.2") as (process, port):
        start = time.monotonic()
        pair = {"consumerKey": "k", "consumerSecret": "own-secret"}
        assert send(port, pair) == 200
        assert time.monotonic() - start >= 0.2
        assert send(port) == 401
        process.terminate()
        out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")
    assert "own-secret" not in out
    assert "'hi'" not in out


def test_several_accounts(tmp_path):
    options = ["--account", "news-key:news:secret", "--account", "me@x.com:hunter2"]
    with running(tmp_path, MODULE, *options) as (process, port):
        assert send(port) == 200
        news = {"consumerKey": "news-key", "consumerSecret": "news:secret"}
        assert send(port, news) == 200
        assert send(port, news | {"consumerSecret": "sandbox-secret"}) == 401
        process.terminate()
        out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")
    assert "Additional accounts: news…, me@x.com, each with its own secret." in out
    assert "hunter2" not in out
    assert "news:secret" not in out


def test_the_settings_can_be_pasted(tmp_path):
    with running(tmp_path, MODULE) as (process, port):
        process.terminate()
        out, _ = process.communicate(timeout=10)
    code = "\n".join(line[4:] for line in out.splitlines() if line.startswith("    "))
    pasted = {}
    exec(code, pasted)
    assert pasted["TURBOSMTP"]["SEND_URL"] == f"http://127.0.0.1:{port}/api/v2"


def test_reports_that_the_port_is_in_use(sandbox, capsys):
    port = sandbox.url.rpartition(":")[2]
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["--port", port]) == 1
    assert signal.getsignal(signal.SIGTERM) is before
    err = capsys.readouterr().err
    assert err.startswith(f"cannot listen on 127.0.0.1 port {port}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--host", "0.0.0.0"], 1, "binds loopback only"),
        (["--port", "70000"], 1, "cannot listen"),
        (["--latency", "-1"], 2, "from 0 to 3600"),
        (["--max-messages", "0"], 2, "at least 1"),
        (["--account", "no-colon"], 2, "KEY:SECRET, with a colon"),
        (["--account", "key:"], 2, "KEY:SECRET, with a colon"),
        (["--account", "sandbox-key:other"], 1, "given twice"),
    ],
)
def test_bad_options(arguments, code, text):
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        try:
            found = cli.main(arguments)
        except SystemExit as exit_:
            found = exit_.code
    assert found == code
    assert text in err.getvalue()
    assert "Traceback" not in err.getvalue()
