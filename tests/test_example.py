"""The example project and the helpers of its demo."""

import ast
import base64
import contextlib
import importlib
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import django
import environ
import pytest
from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import Client, override_settings
from django.utils.safestring import SafeString

import django_turbosmtp
from django_turbosmtp.conf.settings import load
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.signals import tracking

PROJECT = Path(__file__).resolve().parent.parent / "example_project"
SETTINGS = PROJECT / "example" / "settings.py"
ENV_EXAMPLE = PROJECT / ".env.example"
REAL = {"TURBOSMTP_CONSUMER_KEY": "key", "TURBOSMTP_CONSUMER_SECRET": "secret"}
MESSAGE = {"to": "you@example.com", "subject": "A parcel – ✓", "text": "One\r\n.\r\n"}


@pytest.fixture(autouse=True)
def _project_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(PROJECT.parent))
    monkeypatch.syspath_prepend(str(PROJECT))


@pytest.fixture
def check():
    return importlib.import_module("demo_kit.check")


@pytest.fixture
def environment():
    return importlib.import_module("demo_kit.environment")


@pytest.fixture
def processes():
    return importlib.import_module("demo_kit.processes")


@pytest.fixture
def settings_of(monkeypatch):
    """Return the settings that settings.py creates from only these variables."""

    def load(**variables):
        # read_env() writes to the environment, so use a copy of it.
        monkeypatch.setattr(environ.Env, "ENVIRON", {"ENV_FILE": ""} | variables)
        return runpy.run_path(str(SETTINGS))

    return load


# --- Settings ---


def test_by_default_mail_goes_to_the_sandbox(settings_of):
    found = settings_of()
    assert not found["SENDS_FOR_REAL"]
    assert found["DEBUG"]
    with override_settings(TURBOSMTP=found["TURBOSMTP"]):
        loaded = load()
    assert loaded.send_url == loaded.api_url == "http://127.0.0.1:8025/api/v2"


def test_only_real_credentials_send_real_mail(settings_of):
    found = settings_of(**REAL, TURBOSMTP_REGION="eu")
    assert found["SENDS_FOR_REAL"]
    with override_settings(TURBOSMTP=found["TURBOSMTP"]):
        loaded = load()
    assert loaded.send_url == "https://api.eu.turbo-smtp.com/api/v2"
    assert loaded.credentials().password == "secret"


def test_the_sandbox_has_priority_over_real_credentials(settings_of):
    found = settings_of(**REAL, SANDBOX_URL="http://127.0.0.1:9000/")
    assert not found["SENDS_FOR_REAL"]
    assert found["TURBOSMTP"]["SEND_URL"] == "http://127.0.0.1:9000/api/v2"
    assert "secret" not in found["TURBOSMTP"].values()


def test_a_key_without_its_secret_is_an_error(settings_of):
    with pytest.raises(ImproperlyConfigured, match="TURBOSMTP_CONSUMER_SECRET"):
        settings_of(TURBOSMTP_CONSUMER_KEY="key")


def test_without_debug_a_secret_key_is_needed(settings_of):
    with pytest.raises(ImproperlyConfigured, match="DJANGO_SECRET_KEY"):
        settings_of(DJANGO_DEBUG="off")


def test_the_guard_is_a_list(settings_of):
    found = settings_of(**REAL, TURBOSMTP_RECIPIENT_GUARD="you@example.com,example.org")
    guard = ["you@example.com", "example.org"]
    assert found["TURBOSMTP"]["RECIPIENT_GUARD"] == guard
    with override_settings(TURBOSMTP=found["TURBOSMTP"]):
        assert load().recipient_guard == guard


def test_either_mailers_or_the_backend_is_set(settings_of):
    found = settings_of()
    assert ("MAILERS" in found) == (django.VERSION >= (6, 1))
    assert ("EMAIL_BACKEND" in found) == (django.VERSION < (6, 1))


def test_every_variable_is_in_the_example_file():
    read = set(re.findall(r'env\.\w+\(\s*"(\w+)"', SETTINGS.read_text("utf-8")))
    shown = re.findall(r"^# ([A-Z_]+)=", ENV_EXAMPLE.read_text("utf-8"), re.MULTILINE)
    assert sorted(shown) == sorted(read)


def test_the_values_in_the_example_file_are_the_defaults(settings_of, tmp_path):
    text = ENV_EXAMPLE.read_text("utf-8")
    # Except variables whose shown value is an example, not the default.
    lines = re.findall(r"^# ([A-Z_]+=.+)$", text, re.MULTILINE)
    lines = [line for line in lines if not line.startswith("TURBOSMTP_RECIPIENT_GUARD")]
    file = tmp_path / "env"
    file.write_text("\n".join(lines))
    with_file, without = settings_of(ENV_FILE=str(file)), settings_of()
    assert len(lines) >= 5
    for name in ("TURBOSMTP", "DEFAULT_FROM_EMAIL", "DEBUG", "LOGGING"):
        assert with_file[name] == without[name]


def test_the_environment_overrides_the_file(settings_of, tmp_path):
    file = tmp_path / "env"
    file.write_text("TURBOSMTP_LOG_LEVEL=ERROR\nDEFAULT_FROM_EMAIL=a@example.org\n")
    found = settings_of(ENV_FILE=str(file), DEFAULT_FROM_EMAIL="b@example.org")
    assert found["DEFAULT_FROM_EMAIL"] == "b@example.org"
    assert found["LOGGING"]["loggers"]["django_turbosmtp"]["level"] == "ERROR"


@pytest.mark.parametrize("variables", [{}, REAL], ids=["sandbox", "real"])
def test_manage_check_finds_nothing(variables):
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TURBOSMTP_", "DJANGO_", "SANDBOX_", "DATABASE_"))
    }
    package = str(Path(django_turbosmtp.__file__).parent.parent)
    env |= {"ENV_FILE": "", "PYTHONPATH": package} | variables
    arguments = [sys.executable, "-W", "error", PROJECT / "manage.py", "check"]
    done = subprocess.run(
        [*arguments, "--fail-level", "WARNING"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


# --- The pages ---


class Browser:
    """A client with cookies that submits the form of the page."""

    def __init__(self):
        self.client = Client(enforce_csrf_checks=True)

    def page(self):
        return self.client.get("/")

    def post(self, path, **fields):
        html = self.page().content.decode()
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', html)[1]
        data = MESSAGE | fields | {"csrfmiddlewaretoken": token}
        return self.client.post(path, data, follow=True)


@pytest.fixture
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


@contextlib.contextmanager
def parcels():
    """Create the table of the example's model, and connect its receiver."""
    from example.models import Parcel
    from example.receivers import note_event

    with connection.schema_editor() as editor:
        editor.create_model(Parcel)
    tracking.connect(note_event)
    try:
        yield
    finally:
        tracking.disconnect(note_event)
        with connection.schema_editor() as editor:
            editor.delete_model(Parcel)


@contextlib.contextmanager
def kept_admin():
    """Restore the admin site.

    When INSTALLED_APPS changes, the admin discovers models again, and would list those
    of django-tasks-db in all later tests.
    """
    before = set(admin.site._registry)
    try:
        yield
    finally:
        for model in admin.site._registry.keys() - before:
            del admin.site._registry[model]


@pytest.fixture
def project(settings_of, monkeypatch, transactional_db):
    """Return a context manager that applies the example project's settings."""
    monkeypatch.syspath_prepend(str(PROJECT.parent))
    monkeypatch.syspath_prepend(str(PROJECT))

    @contextlib.contextmanager
    def in_force(**variables):
        found = settings_of(**variables)
        names = [n for n in found if n.isupper() and n not in {"DATABASES", "LOGGING"}]
        # Without DEBUG, Django allows the host of the test client only here.
        changes = {n: found[n] for n in names} | {"ALLOWED_HOSTS": ["testserver"]}
        # The URLs depend on the settings at import: is there a webhook?
        monkeypatch.delitem(sys.modules, "example.urls", raising=False)
        with kept_admin(), override_settings(**changes), parcels():
            yield Browser()

    return in_force


@pytest.fixture
def browser(project, sandbox):
    with project(SANDBOX_URL=sandbox.url) as browser:
        yield browser


def test_the_page_shows_the_server_and_has_no_inline_code(browser, sandbox):
    answer = browser.page()
    html = answer.content.decode()
    assert answer.status_code == 200
    assert f'href="{sandbox.url}"' in html
    assert 'href="/admin/"' in html
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:", html)


def test_a_message_with_files_arrives_and_its_id_is_shown(browser, sandbox, check):
    answer = browser.post("/send/", with_files="on")
    assert answer.redirect_chain == [("/", 302)]
    [received] = sandbox.messages
    html = answer.content.decode()
    assert "Outcome: accepted." in html
    assert f'href="{sandbox.url}/messages/{received.mid}"' in html
    expected = check.expected_message() | {
        "subject": MESSAGE["subject"],
        "text": b"One\n.\n",
        "html": check.expected_html("One\n.\n").encode(),
    }
    assert failed(check, received.raw, expected) == []


def test_without_files_there_is_text_and_html(browser, sandbox):
    browser.post("/send/")
    leaves = [p for p in sandbox.latest.message.walk() if not p.is_multipart()]
    types = [part.get_content_type() for part in leaves]
    assert types == ["text/plain", "text/html"]
    assert b"<img" not in sandbox.latest.raw


def test_send_mail_sends_only_text(browser, sandbox):
    answer = browser.post("/send-plain/", with_files="on")
    assert "send_mail() returned 1" in answer.content.decode()
    assert sandbox.latest.message.get_content_type() == "text/plain"
    assert sandbox.latest.message.get_payload(decode=True) == b"One\n.\n"


@pytest.mark.parametrize("path", ["/send/", "/send-plain/"])
def test_a_post_without_a_token_sends_nothing(browser, sandbox, path):
    answer = browser.client.post(path, MESSAGE)
    assert answer.status_code == 403
    assert sandbox.total_accepted == 0


@pytest.mark.parametrize("path", ["/send/", "/send-plain/"])
def test_sending_requires_a_post(browser, path):
    assert browser.client.get(path).status_code == 405


def test_a_wrong_address_is_reported_at_its_field(browser, sandbox):
    answer = browser.post("/send/", to="nobody")
    assert answer.status_code == 400
    html = answer.content.decode()
    assert 'role="alert"' in html
    assert 'id="id_to_error"' in html
    assert 'value="nobody"' in html
    assert sandbox.total_accepted == 0


@pytest.mark.parametrize("path", ["/send/", "/send-plain/"])
def test_an_error_is_explained_and_the_form_is_kept(browser, sandbox, path):
    sandbox.add_fault("nocredit")
    answer = browser.post(path)
    html = answer.content.decode()
    assert answer.status_code == 502
    assert re.search(r'role="alert">Not sent\. .*nocredit', html)
    assert f'value="{MESSAGE["subject"]}"' in html
    assert sandbox.total_accepted == 0


def test_a_message_that_cannot_be_sent_is_explained(browser, sandbox):
    answer = browser.post("/send/", subject="One\nBcc: all@example.com")
    assert answer.status_code == 400
    assert "cannot be sent as it is" in answer.content.decode()
    assert sandbox.requests == []


@pytest.mark.parametrize("path", ["/send/", "/send-plain/"])
def test_an_unknown_outcome_shows_no_form(browser, sandbox, path):
    sandbox.add_fault("lost_answer")
    answer = browser.post(path)
    html = answer.content.decode()
    assert answer.redirect_chain == [("/", 302)]
    assert "It is unknown whether turboSMTP accepted" in html
    assert MESSAGE["subject"] not in html
    assert sandbox.total_accepted == 1


def test_without_a_sandbox_the_page_explains_how_to_start_it(browser, sandbox):
    url = sandbox.url
    sandbox.stop()
    html = browser.post("/send/").content.decode()
    assert f"the sandbox does not answer at {url}" in html
    assert "manage.py turbosmtp_sandbox" in html


@pytest.mark.parametrize("method", ["get", "post"])
def test_with_a_real_account_only_staff_may_send(project, method):
    with project(**REAL) as browser:
        path = "/" if method == "get" else "/send/"
        client = Client()
        answer = getattr(client, method)(path, MESSAGE)
        assert answer.status_code == 302
        assert answer["Location"].startswith("/admin/login/")
    assert browser


def test_with_a_real_account_there_is_no_link_to_an_inbox(project):
    with project(**REAL):
        from example import views

        link = views._inbox_link("/")
    # A plain string would be marked as safe with the text it is added to.
    assert link == ""
    assert isinstance(link, SafeString)


def test_events_reach_the_parcel_of_their_message(browser, sandbox):
    """Found by the metadata of the message, through the log."""
    from example.models import Parcel

    answer = browser.post("/send/")
    assert answer.redirect_chain == [("/", 302)]
    [parcel] = Parcel.objects.all()
    [received] = sandbox.messages
    body = {"id": "1", "mid": received.mid, "status": "OPENED", "email": parcel.email}
    credentials = base64.b64encode(b"sandbox:webhook").decode()
    answer = Client().post(
        "/turbosmtp/webhook/",
        body,
        content_type="application/json",
        headers={"Authorization": f"Basic {credentials}"},
    )
    assert answer.status_code == 200
    parcel.refresh_from_db()
    assert parcel.news == "opened"


def test_the_example_s_own_tests_pass():
    result = subprocess.run(
        [sys.executable, "manage.py", "test"],
        cwd=PROJECT,
        env=os.environ | {"ENV_FILE": "", "DJANGO_SETTINGS_MODULE": "example.settings"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert "Ran 2 tests" in result.stderr


# --- The demo's helpers ---


DEMO = [PROJECT / "demo.py", *sorted((PROJECT.parent / "demo_kit").glob("*.py"))]
each_file = pytest.mark.parametrize("path", DEMO, ids=lambda path: path.name)


@each_file
def test_the_demo_needs_only_the_standard_library(path):
    tree = ast.parse(path.read_text("utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.partition(".")[0])
    assert names <= sys.stdlib_module_names | {"demo_kit"}


@each_file
def test_an_old_python_can_parse_the_demo(path):
    ast.parse(path.read_text("utf-8"), feature_version=(3, 8))


def test_an_old_python_is_refused_before_any_import():
    statements = ast.parse((PROJECT / "demo.py").read_text("utf-8")).body
    told = next(n for n, node in enumerate(statements) if isinstance(node, ast.If))
    ours = next(
        n
        for n, node in enumerate(statements)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("demo_kit")
    )
    assert told < ours


def test_a_port_in_use_is_replaced(environment, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = environment.choose_port(port, "the inbox")
        assert other != port
        assert (
            f"Port {port} is in use; the inbox uses {other} instead."
            in capsys.readouterr().out
        )
    assert environment.choose_port(port, "the inbox") == port
    assert environment.choose_port(0, "the inbox") > 0
    assert capsys.readouterr().out == ""


@pytest.fixture
def composed(project, check):
    """Return the bytes of the example's message, as built by Django."""
    with project():
        from example import mail

        fields = check.MESSAGE | {"with_files": True}
        mime = mail.compose(**fields).message()
    return mime.as_bytes()


def failed(check, raw, expected):
    return [name for name, held, _ in check.compare(raw, expected) if not held]


def test_the_comparison_succeeds_for_the_sent_message(check, composed):
    expected = check.expected_message()
    assert failed(check, composed, expected) == []


CHANGES = {
    "subject": (lambda value: value + " ", ["the subject"]),
    "from": (lambda value: value.replace("Shop", "shop"), ["the sender"]),
    "to": (lambda value: f"x{value}", ["the recipient"]),
    "text": (lambda value: value + b"\n", ["the text"]),
    "html": (lambda value: value.replace(b"Hello", b"hello"), ["the HTML"]),
    "picture": (
        lambda value: (value[0], value[1][:-1] + b"\0"),
        ["the picture, its name and bytes"],
    ),
    "attachment": (
        lambda value: (value[0].replace("é", "e"), value[1]),
        ["the attachment, its name and bytes"],
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_comparison_fails_for_one_byte(check, composed, name):
    expected = check.expected_message()
    change, wanted = CHANGES[name]
    expected[name] = change(expected[name])
    assert failed(check, composed, expected) == wanted


def test_the_comparison_fails_for_a_missing_picture(check, composed):
    raw = composed.replace(b"Content-ID: <parcel>", b"Content-ID: <parcel2>")
    assert raw != composed
    assert "the HTML refers to one picture, which is attached" in failed(
        check, raw, check.expected_message()
    )


def test_the_comparison_fails_for_an_additional_part_or_recipient(check, composed):
    message = check.parse(composed)
    message["Cc"] = "someone@example.com"
    message.attach(check.parse(b"Content-Type: image/gif\n\nGIF"))
    names = failed(check, message.as_bytes(), check.expected_message())
    assert names == ["no other recipients", "no other parts"]


def test_the_comparison_fails_for_an_empty_message(check):
    names = failed(check, b"\n", check.expected_message())
    assert len(names) >= 8


@pytest.mark.parametrize("accepted", [0, 2])
def test_the_check_fails_unless_exactly_one_was_accepted(
    check, monkeypatch, capsys, accepted
):
    listed = b'{"total_accepted": %d, "results": []}' % accepted
    monkeypatch.setattr(check, "send_form", lambda *args: "")
    monkeypatch.setattr(check, "fetch", lambda url: listed)
    assert not check.check_delivery("http://sandbox", "http://site", Path())
    assert "FAILED  exactly one message was accepted" in capsys.readouterr().out


# --- The demo's child processes ---

SLEEP = "import time; print('ready', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("code", [SLEEP, STUBBORN], ids=["polite", "stubborn"])
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_a_child_ends_with_its_block(processes, tmp_path, monkeypatch, code, error):
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.3)
    log = tmp_path / "log"
    arguments = [sys.executable, "-c", code]
    expected = pytest.raises(error) if error else contextlib.nullcontext()
    with expected, processes.child("It", arguments, log=log, env=None) as child:
        wait_for(lambda: "ready" in child.output())
        if error:
            raise error
    assert is_gone(child.process.pid)


@pytest.mark.skipif(os.name == "nt", reason="POSIX process groups")
def test_grandchildren_end_with_the_child(processes, tmp_path):
    code = (
        "import subprocess, sys, time;"
        f"p = subprocess.Popen([sys.executable, '-c', {SLEEP!r}]);"
        "print('pid', p.pid, flush=True); p.wait()"
    )
    log = tmp_path / "log"
    with processes.child(
        "It", [sys.executable, "-c", code], log=log, env=None
    ) as child:
        wait_for(lambda: re.search(r"pid \d+[\s\S]*ready", child.output()))
        grandchild = int(re.search(r"pid (\d+)", child.output())[1])
    # Its new parent reaps it, perhaps a moment later.
    wait_for(lambda: is_gone(grandchild) or "Z" in _state(grandchild))


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_a_failed_step_shows_its_output(processes, tmp_path):
    arguments = [sys.executable, "-c", "print('no such package'); raise SystemExit(3)"]
    with pytest.raises(processes.Failed, match="exit code 3.*\n.*no such package"):
        processes.run("pip", arguments, log=tmp_path / "log", env=None, seconds=30)


def test_a_step_has_a_time_limit(processes, tmp_path):
    arguments = [sys.executable, "-c", SLEEP]
    with pytest.raises(processes.Failed, match="was not ready after 0.2 seconds"):
        processes.run("It", arguments, log=tmp_path / "log", env=None, seconds=0.2)


def test_waiting_ends_when_the_child_does(processes, tmp_path):
    arguments = [sys.executable, "-c", "print('port taken')"]
    with processes.child("It", arguments, log=tmp_path / "log", env=None) as child:
        with pytest.raises(processes.Failed, match="ended by itself:\nport taken"):
            processes.wait_until(lambda: False, child)
        with pytest.raises(processes.Failed, match="ended by itself"):
            processes.wait_until(lambda: True, child)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_sigterm_ends_a_block_and_is_deferred_while_held(processes):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    signals = processes.Signals()
    signals.install()
    steps = []

    def critical():
        with signals.held():
            signal.raise_signal(signal.SIGTERM)
            steps.append("held")
        steps.append("never")

    try:
        with pytest.raises(processes.Stopped):
            critical()
        with pytest.raises(processes.Stopped):
            signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert steps == ["held"]


def test_the_environment_is_recreated_after_a_change(
    environment, tmp_path, monkeypatch
):
    (tmp_path / "pyproject.toml").write_text("one")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    first = environment.fingerprint()
    assert environment.fingerprint() == first
    (tmp_path / "pyproject.toml").write_text("two")
    assert environment.fingerprint() != first


def test_children_receive_no_real_credentials(environment, monkeypatch):
    for name in [*REAL, "SANDBOX_URL", "DATABASE_URL", "DJANGO_DEBUG", "PYTHONPATH"]:
        monkeypatch.setenv(name, "from the shell")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example.com")
    env = environment.child_environment(ENV_FILE="")
    assert "from the shell" not in env.values()
    assert env["HTTP_PROXY"] == "http://proxy.example.com"
    assert "127.0.0.1" in env["NO_PROXY"]
    assert env["ENV_FILE"] == ""


def test_the_admin_password_belongs_to_its_database(environment, tmp_path, monkeypatch):
    monkeypatch.delenv("DEMO_ADMIN_PASSWORD", raising=False)
    database = tmp_path / "db.sqlite3"
    first = environment.admin_password(database)
    database.touch()
    assert environment.admin_password(database) == first
    if os.name != "nt":
        assert (tmp_path / "admin-password").stat().st_mode & 0o077 == 0
    database.unlink()
    assert environment.admin_password(database) != first
    monkeypatch.setenv("DEMO_ADMIN_PASSWORD", "mine")
    assert environment.admin_password(database) == "mine"
