"""Tests that the documents match the code."""

import argparse
import ast
import dataclasses
import logging
import logging.config
import os
import re
import sys
import tomllib
import types
import unittest
from pathlib import Path

import django
import pytest
from django.db import connections
from django.test import Client, override_settings
from django.urls import path as route
from docutils import nodes
from docutils.core import publish_doctree, publish_string
from docutils.writers import get_writer_class

import django_turbosmtp
from django_turbosmtp import exceptions
from django_turbosmtp.conf.keys import KEYS
from django_turbosmtp.conf.settings import SEND_HOSTS, Settings, load
from django_turbosmtp.payload.wire import UNSUPPORTED_ATTRIBUTES
from django_turbosmtp.sandbox import Sandbox, cli
from django_turbosmtp.testing import fixtures

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(django_turbosmtp.__file__).parent
README = ROOT / "README.rst"
SETTINGS = ROOT / "docs" / "settings.rst"
DOCS = ROOT / "docs"
#: Pages that only include another file.
HOLDERS = {"index", "changelog", "licence"}
DOCUMENTS = [
    README,
    ROOT / "CHANGELOG.rst",
    *sorted(path for path in DOCS.glob("*.rst") if path.stem not in HOLDERS),
]
SENDING, ACCOUNTS, OUTCOMES = (
    DOCS / f"{name}.rst" for name in ("sending", "accounts", "outcomes")
)
BACKEND = "django_turbosmtp.backends.EmailBackend"
DJANGO_61 = django.VERSION >= (6, 1)
MAIL = (
    {"MAILERS": {"default": {"BACKEND": BACKEND}}}
    if DJANGO_61
    else {"EMAIL_BACKEND": BACKEND}
)

# As on PyPI: without included files and raw HTML.
STRICT = {
    "halt_level": 2,
    "report_level": 2,
    "raw_enabled": False,
    "file_insertion_enabled": False,
    "syntax_highlight": "short",
}

every_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)

CHECKED = ("conf/keys.py", "conf/problems.py", "conf/settings.py", "checks.py")


def doctree(path):
    return publish_doctree(path.read_text("utf-8"), settings_overrides=STRICT)


def python_blocks(path):
    return [
        block.astext()
        for block in doctree(path).findall(nodes.literal_block)
        if "python" in block["classes"]
    ]


def rows_of(path, *, header):
    """Return the body rows of the tables whose first heading is ``header``."""
    rows = []
    for table in doctree(path).findall(nodes.table):
        head = next(table.findall(nodes.thead))
        if next(head.findall(nodes.entry)).astext() == header:
            body = next(table.findall(nodes.tbody))
            rows += [
                [entry.astext() for entry in row.findall(nodes.entry)]
                for row in body.findall(nodes.row)
            ]
    return rows


@every_document
def test_renders_without_a_warning(path):
    writer = get_writer_class("html5")()
    html = publish_string(
        path.read_text("utf-8"), writer=writer, settings_overrides=STRICT
    )
    assert b'class="system-message' not in html


def test_all_loggers_are_listed() -> None:
    said = (DOCS / "logging.rst").read_text("utf-8")
    named = {
        name
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r'get_logger\("([\w.]+)"\)', path.read_text("utf-8"))
    }
    assert len(named) > 4
    assert sorted(name for name in named if f"``{name}``" not in said) == []


@every_document
def test_lines_fit(path):
    long = [line for line in path.read_text("utf-8").splitlines() if len(line) > 88]
    assert not long


@every_document
def test_links_into_the_repository_exist(path):
    for reference in doctree(path).findall(nodes.reference):
        target, _, anchor = reference.get("refuri", "").partition("#")
        if target and not target.startswith(("http", "mailto:")):
            file = path.parent / target
            assert file.is_file(), target
            assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def anchors(path):
    sections = doctree(path).findall(nodes.section)
    return {name for section in sections for name in section["ids"]}


def test_links_on_pypi_lead_to_the_documentation():
    """The changes that hatch-fancy-pypi-readme makes for the wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    hook = project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = README.read_text("utf-8")
    for change in hook["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    site = "https://django-turbosmtp.readthedocs.io/en/stable/"
    found = re.findall(r"`__|<([^<>\s]+)>`_", text)
    links = [link for link in found if link]
    assert len(links) > 15
    for link in links:
        assert link.startswith(site), link
        page, _, anchor = link.removeprefix(site).partition("#")
        file = DOCS / page.replace(".html", ".rst")
        assert file.is_file(), link
        assert not anchor or anchor in anchors(file), link


def test_every_page_is_in_the_contents_of_the_site():
    contents = (DOCS / "index.rst").read_text("utf-8").split()
    pages = {path.stem for path in DOCS.glob("*.rst")} - {"index"}
    assert pages <= set(contents)
    linked = set(re.findall(r"docs/(\w+)\.rst", README.read_text("utf-8")))
    assert pages - HOLDERS == linked


@every_document
def test_python_snippets_compile(path):
    for block in python_blocks(path):
        ast.parse(block)


@pytest.mark.parametrize(
    "command",
    [
        "python3 example_project/demo.py",
        (
            "python3 -m venv .venv && .venv/bin/pip install -e '.[test]'"
            " && .venv/bin/pytest"
        ),
    ],
)
def test_readme_has_both_commands_on_separate_lines(command):
    lines = README.read_text("utf-8").splitlines()
    assert f"    {command}" in lines
    assert lines.index(f"    {command}") < lines.index("Install")


def test_settings_table_has_every_key_with_its_default():
    table = {
        row[0]: ast.literal_eval(row[1]) for row in rows_of(SETTINGS, header="Key")
    }
    defaults = {}
    for field in dataclasses.fields(Settings):
        made = field.default_factory is not dataclasses.MISSING
        value = field.default_factory() if made else field.default
        defaults[field.name.upper()] = value
    assert table == {key: defaults[key] for key in KEYS}
    assert list(table) == list(KEYS)


def test_every_check_is_listed_once():
    pattern = r"turbosmtp\.[EW]\d{3}"
    code = "".join((PACKAGE / name).read_text("utf-8") for name in CHECKED)
    listed = [row[0] for row in rows_of(SETTINGS, header="Id")]
    assert sorted(listed) == sorted(set(re.findall(pattern, code)))


@pytest.mark.parametrize("key", KEYS)
def test_the_row_of_a_check_names_its_key(key):
    texts = dict(rows_of(SETTINGS, header="Id"))
    assert texts[KEYS[key][0]].startswith(key)


def test_the_tree_of_errors_is_complete():
    def family(cls):
        return {cls.__name__}.union(*map(family, cls.__subclasses__()))

    names = {
        name for name in family(exceptions.TurboSMTPError) if hasattr(exceptions, name)
    }
    tree = next(
        block.astext()
        for block in doctree(OUTCOMES).findall(nodes.literal_block)
        if block.astext().startswith("TurboSMTPError")
    )
    assert names <= set(re.findall(r"\w+", tree))


def test_every_attribute_without_a_field_is_named():
    text = (ROOT / "docs" / "translation.rst").read_text("utf-8")
    assert [name for name in UNSUPPORTED_ATTRIBUTES if f"``{name}``" not in text] == []


def test_the_sandbox_s_options_exist():
    parser = argparse.ArgumentParser(prog="sandbox", add_help=False)
    cli.add_arguments(parser)
    text = (ROOT / "docs" / "sandbox.rst").read_text("utf-8")
    named = set(re.findall(r"--[a-z][a-z-]+", text))
    known = set(re.findall(r"--[a-z-]+", parser.format_help()))
    assert named
    assert named <= known


# --- Settings snippets, loaded by a backend ---


def settings_snippets():
    for path in DOCUMENTS:
        for number, block in enumerate(python_blocks(path)):
            if re.search(r"^(TURBOSMTP|MAILERS|EMAIL_BACKEND)\b", block, re.MULTILINE):
                yield pytest.param(block, id=f"{path.name}-{number}")


@pytest.mark.parametrize("block", list(settings_snippets()))
def test_settings_snippets_load(block, monkeypatch):
    for name in re.findall(r'environ\["(\w+)"\]', block):
        monkeypatch.setenv(name, "value-from-the-environment")
    names = {"os": os, "TURBOSMTP": {"CONSUMER_KEY": "k", "CONSUMER_SECRET": "s"}}
    names["INSTALLED_APPS"] = []
    exec(block, names)
    for alias, database in names.get("DATABASES", {}).items():
        if alias not in connections:
            monkeypatch.setitem(connections.databases, alias, database)
    mailers = names.get("MAILERS", {"default": {"BACKEND": BACKEND}})
    # The backend of another package passes messages to ours.
    passed_on = [value for name, value in names.items() if name.endswith("_BACKEND")]
    assert BACKEND in (passed_on or [BACKEND])
    with override_settings(TURBOSMTP=names["TURBOSMTP"]):
        for alias, mailer in mailers.items():
            assert mailer["BACKEND"] == BACKEND
            options = dict(mailer.get("OPTIONS", {}))
            options.pop(
                "fail_silently", None
            )  # Those of Django, and those of the backend.
            loaded = load(options, alias=alias)
            assert loaded.credentials().user


def test_settings_snippets_exist():
    assert len(list(settings_snippets())) >= 6


# --- Snippets that are run with the sandbox ---


def find_block(path, text):
    [block] = [block for block in python_blocks(path) if text in block]
    return block


def sandbox_settings(sandbox):
    return {
        "CONSUMER_KEY": "sandbox-key",
        "CONSUMER_SECRET": "sandbox-secret",
        "SEND_URL": sandbox.send_url(),
    }


def test_the_message_is_sent_and_its_status_is_as_described():
    status = find_block(SENDING, "message.turbosmtp_status")
    with Sandbox() as sandbox:
        with override_settings(TURBOSMTP=sandbox_settings(sandbox), **MAIL):
            names = {}
            exec(find_block(SENDING, "message.tags"), names)
            exec(status, names)
        received = sandbox.latest
    assert received.reference_id == "order-4711"
    assert received.campaign == "orders"
    assert received.message["X-Order"] == "4711"
    assert "4711" not in received.fields["content"]
    found = names["status"]
    assert found.outcome == "accepted"
    assert found.message_id == received.mid
    assert found.status == {"sent"}
    # Each line of the snippet reads an attribute that exists.
    for line in re.findall(r"^status\..*?(?=  #|$)", status, re.MULTILINE):
        eval(line.strip(), names)


def test_the_second_account_sends(monkeypatch):
    with Sandbox() as sandbox:
        # The credentials of the site are wrong for the sandbox.
        settings = sandbox_settings(sandbox) | {"CONSUMER_KEY": "another"}
        if DJANGO_61:
            monkeypatch.setenv("NEWSLETTER_KEY", "sandbox-key")
            monkeypatch.setenv("NEWSLETTER_SECRET", "sandbox-secret")
            names = {"os": os}
            exec(find_block(ACCOUNTS, '"newsletter"'), names)
            mail = {"MAILERS": names["MAILERS"]}
            block = "from django.core.mail import send_mail\n"
            block += "send_mail('S', 'T', None, ['a@example.com'], using='newsletter')"
        else:
            mail = MAIL
            block = find_block(ACCOUNTS, "get_connection(")
            for name in ("key", "secret"):
                given = f'consumer_{name}="sandbox-{name}"'
                block = block.replace(f'consumer_{name}="..."', given)
        with override_settings(TURBOSMTP=settings, **mail):
            exec(block, {})
        assert sandbox.total_accepted == 1


@pytest.mark.parametrize("key", [None, "mine"])
def test_the_readme_s_settings_work_in_any_shell(monkeypatch, key):
    for name in ("TURBOSMTP_CONSUMER_KEY", "TURBOSMTP_CONSUMER_SECRET"):
        monkeypatch.delenv(name, raising=False)
        if key:
            monkeypatch.setenv(name, key)
    names = {}
    exec(find_block(README, "INSTALLED_APPS"), names)
    settings = names["TURBOSMTP"]
    with override_settings(TURBOSMTP=settings):
        loaded = load()
    assert loaded.credentials().user == (key or "sandbox-key")
    if key:
        assert loaded.send_url == SEND_HOSTS[2, "global"]
    else:
        with Sandbox() as sandbox:
            wanted = re.sub(r":\d+", ":8025", sandbox.send_url())
        assert loaded.send_url == wanted


def test_the_snippets_about_tests_are_tests_that_pass(turbosmtp_outbox):
    """Run with the test runner's backend, as a reader's tests are."""
    path, names = ROOT / "docs" / "testing.rst", {"__name__": "tests"}
    exec(find_block(path, "class OrderTests"), names)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(names["OrderTests"]).run(result)
    assert (result.testsRun, result.failures, result.errors) == (2, [], [])
    exec(find_block(path, "(turbosmtp_outbox)"), names)
    names["test_the_customer_gets_a_message"](turbosmtp_outbox)
    exec(find_block(path, "def test_order_mail"), names)
    names["test_order_mail"]()
    assert find_block(path, "pytest_plugins").split('"')[1] == fixtures.__name__


@pytest.fixture
def error_mails(monkeypatch, settings):
    """A site with one failing view, which mails the error to its admin."""

    def fail(request):
        raise LookupError("the view failed")

    urls = types.ModuleType("failing_urls")
    urls.urlpatterns = [route("", fail)]
    shop = types.ModuleType("shop.mail")
    exec(find_block(DOCS / "logging.rst", "class ErrorMailBackend"), vars(shop))
    monkeypatch.setitem(sys.modules, "failing_urls", urls)
    monkeypatch.setitem(sys.modules, "shop", types.ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.mail", shop)
    monkeypatch.setattr(logging.getLogger("django"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("django.request"), "propagate", True)
    names = {}
    exec(find_block(DOCS / "logging.rst", '"mail_admins"'), names)
    if not DJANGO_61:
        handler = names["LOGGING"]["handlers"]["mail_admins"]
        assert handler.pop("using") == "errors"
        handler["email_backend"] = "shop.mail.ErrorMailBackend"
        del names["MAILERS"]
    settings.DEBUG = False
    settings.ROOT_URLCONF = "failing_urls"
    settings.SERVER_EMAIL = "server@example.com"
    settings.ADMINS = ["a@b.org" if django.VERSION >= (6,) else ("A", "a@b.org")]
    settings.MIDDLEWARE = []
    for name, value in (MAIL | names).items():
        if name in {"MAILERS", "EMAIL_BACKEND"}:
            setattr(settings, name, value)
    return names["LOGGING"]


def test_a_failing_error_mail_is_silent_and_quick(error_mails, settings):
    with Sandbox() as sandbox:
        settings.TURBOSMTP = sandbox_settings(sandbox)
        logging.config.dictConfig(error_mails)
        sandbox.add_fault("429", times=1)
        client = Client(raise_request_exception=False)
        assert client.get("/").status_code == 500
        assert (len(sandbox.requests), sandbox.messages) == (1, [])
        assert client.get("/").status_code == 500
        assert "the view failed" in sandbox.latest.fields["content"]


if DJANGO_61:

    def test_without_a_separate_mailer_the_error_is_raised(error_mails, settings):
        """The situation that docs/logging.rst warns about."""
        del error_mails["handlers"]["mail_admins"]["using"]
        with Sandbox() as sandbox:
            settings.TURBOSMTP = sandbox_settings(sandbox) | {"MAX_RETRIES": 0}
            logging.config.dictConfig(error_mails)
            sandbox.add_fault("429", times=1)
            with pytest.raises(exceptions.RateLimited):
                Client(raise_request_exception=False).get("/")


@pytest.mark.parametrize("subject", ["DRAFT of a mail", "A mail"])
def test_the_receivers_work(subject):
    from django.core.mail import EmailMessage

    from django_turbosmtp.signals import post_send, pre_send

    names = {}
    exec(find_block(SENDING, "@receiver(pre_send)"), names)
    try:
        with Sandbox() as sandbox:
            with override_settings(TURBOSMTP=sandbox_settings(sandbox), **MAIL):
                message = EmailMessage(subject, "Text", to=["you@example.com"])
                message.send()
            wanted = 0 if "DRAFT" in subject else 1
            assert sandbox.total_accepted == wanted
    finally:
        pre_send.disconnect(names["check_text"])
        post_send.disconnect(names["count"])
    outcome = message.turbosmtp_status.outcome
    assert outcome == ("cancelled" if "DRAFT" in subject else "accepted")
