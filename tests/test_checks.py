"""System checks for wrong settings, each with a stable id."""

from __future__ import annotations

import logging
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError

import django_turbosmtp
from django_turbosmtp._lib.versions import HAS_MAILERS
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.conf.keys import KEYS
from django_turbosmtp.conf.settings import Settings, load
from tests.conftest import BACKEND

GOOD = {"CONSUMER_KEY": "a-key", "CONSUMER_SECRET": "hunter2-secret"}

# For each id: settings that cause it, and words of its text.
WRONG: dict[str, tuple[Any, str]] = {
    "E001": (["x"], "list, not a dict"),
    "E002": ({**GOOD, "TIME_OUT": 3}, "Did you mean 'TIMEOUT'"),
    "E003": ({}, "'CONSUMER_KEY' and no 'CONSUMER_SECRET'"),
    "E003 v1": ({"API_VERSION": 1}, "'AUTHUSER'"),
    "E004": ({"CONSUMER_KEY": "a"}, "'CONSUMER_SECRET'"),
    "E010": ({**GOOD, "CONSUMER_KEY": 5}, "int, not a string"),
    "E010 empty": ({**GOOD, "CONSUMER_KEY": ""}, "is empty"),
    "E011": ({**GOOD, "CONSUMER_SECRET": "hunter2-secret\n"}, "white space"),
    "E011 quotes": ({**GOOD, "CONSUMER_SECRET": '"hunter2"'}, "quotation marks"),
    "E011 comment": (
        {**GOOD, "CONSUMER_SECRET": "hunter2 # live"},
        "perhaps a comment",
    ),
    "E012": ({**GOOD, "AUTHUSER": "a\nb"}, "white space"),
    "E013": ({**GOOD, "AUTHPASS": ""}, "empty"),
    "E013 bytes": ({**GOOD, "AUTHPASS": "hunter2\udcff"}, "not valid Unicode"),
    "E014": ({**GOOD, "API_VERSION": "2"}, "'2'; allowed: 2, 1"),
    "E014 list": ({**GOOD, "API_VERSION": [2]}, "allowed: 2, 1"),
    "E014 boolean": ({**GOOD, "API_VERSION": True}, "True"),
    "E015": ({**GOOD, "REGION": "us"}, "'global', 'eu'"),
    "E015 v1": (
        {"API_VERSION": 1, "AUTHUSER": "a", "AUTHPASS": "b", "REGION": "eu"},
        "no European host",
    ),
    "E016": ({**GOOD, "SEND_URL": "http://mail.example.com/api"}, "https"),
    "E016 host": ({**GOOD, "SEND_URL": "https:///api"}, "names a host"),
    "E016 login": ({**GOOD, "SEND_URL": "https://u:hunter2@x.com"}, "password"),
    "E016 path": ({**GOOD, "SEND_URL": "https://x.com/api/mail/send"}, "Remove that"),
    "E016 brackets": ({**GOOD, "SEND_URL": "http://[::1"}, "not a URL"),
    "E016 port": ({**GOOD, "SEND_URL": "https://x.com:99999/"}, "not a URL"),
    "E016 space": ({**GOOD, "SEND_URL": "https://x .com/"}, "names a host"),
    "E016 query": ({**GOOD, "SEND_URL": "https://x.com/api?a=b"}, "'?'"),
    "E017": ({**GOOD, "API_URL": 5}, "int, not a string"),
    "E018": ({**GOOD, "TIMEOUT": 0}, "positive"),
    "E018 three": ({**GOOD, "TIMEOUT": (1, 2, 3)}, "two of them"),
    "E018 none": ({**GOOD, "TIMEOUT": None}, "None"),
    "E019": ({**GOOD, "MAX_CONNECTIONS": 0}, "at least 1"),
    "E020": ({**GOOD, "MAX_RETRIES": -1}, "at least 0"),
    "E021": ({**GOOD, "SEND_DEFAULTS": {"tag": []}}, "unknown key 'tag'"),
    "E021 type": ({**GOOD, "SEND_DEFAULTS": {"tags": "x"}}, "str as 'tags'"),
    "E022": ({**GOOD, "IGNORE_UNSUPPORTED_FEATURES": 1}, "True or False"),
    "E023": ({**GOOD, "RECIPIENT_GUARD": "example.com"}, "a list"),
    "E023 dict": ({**GOOD, "RECIPIENT_GUARD": {"to": "a@b.c"}}, "redirect"),
    "E023 two": (
        {**GOOD, "RECIPIENT_GUARD": {"redirect": "a@b.org, c@b.org"}},
        "2 addresses",
    ),
    "E024": ({**GOOD, "LOG": "yes"}, "True or False"),
    "E025": ({**GOOD, "LOG_BODY": None}, "True or False"),
    "E026": ({**GOOD, "LOG_ATTACHMENTS": 0}, "True or False"),
    "E027": ({**GOOD, "LOG_USING": 5}, "int, not an alias"),
    "E027 unknown": ({**GOOD, "LOG_USING": "elsewhere"}, "not an alias of DATABASES"),
    "E028": ({**GOOD, "RETENTION_DAYS": 0}, "at least 1"),
    "E029": ({**GOOD, "BODY_RETENTION_DAYS": "30"}, "whole number"),
    "E030": ({**GOOD, "SUPPRESS": None}, "True or False"),
    "E031": ({**GOOD, "WEBHOOK_SECRET": "hunter2"}, "user:password"),
    "E032": ({**GOOD, "QUEUE": "rq"}, "'rq'; allowed: False, True, 'tasks', 'celery'"),
    "E032 log": ({**GOOD, "QUEUE": True, "LOG": False}, "LOG'] is False"),
    "E036": ({**GOOD, "QUEUE": True, "RATE": "100"}, "per period"),
    "E036 queue": ({**GOOD, "RATE": "100/m"}, "without TURBOSMTP['QUEUE']"),
    "E033": ({**GOOD, "LOG_REDACT": 5}, "int, not a function"),
    "E033 path": ({**GOOD, "LOG_REDACT": "no.such"}, "cannot be imported"),
    "E033 module": ({**GOOD, "LOG_REDACT": "os.sep"}, "not a function"),
}


def test_one_mailer_cannot_have_its_log_in_another_database(sending: Any) -> None:
    """The webhook, the admin and the commands would not find it (turbosmtp.E035)."""
    sending.TURBOSMTP = GOOD
    with pytest.raises(ImproperlyConfigured, match=r"log_using.*turbosmtp\.E035"):
        EmailBackend(log_using="default")
    if HAS_MAILERS:
        options = {"log_using": "default"}
        sending.MAILERS = {"default": {"BACKEND": BACKEND, "OPTIONS": options}}
        assert "OPTIONS['log_using'] is set" in found()["E035"]


urlpatterns: list[Any] = []


@pytest.fixture(autouse=True)
def without_webhook(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.test_checks"


@pytest.fixture
def sending(settings: Any) -> Any:
    """Settings that use the backend. No mail is sent in these tests."""
    if HAS_MAILERS:
        settings.MAILERS = {"default": {"BACKEND": BACKEND}}
    else:
        settings.EMAIL_BACKEND = BACKEND
    settings.SERVER_EMAIL = "server@example.com"
    return settings


def found(**kwargs: Any) -> dict[str, str]:
    messages = run_checks(tags=["turbosmtp"], **kwargs)
    return {
        str(m.id).removeprefix("turbosmtp."): f"{m.msg} {m.hint or ''}"
        for m in messages
    }


def levels(**kwargs: Any) -> set[tuple[str, str]]:
    return {
        (str(m.id).removeprefix("turbosmtp."), logging.getLevelName(m.level))
        for m in run_checks(tags=["turbosmtp"], **kwargs)
    }


@pytest.mark.parametrize("version", [1, 2])
def test_missing_credentials_stop_only_a_deployment(sending: Any, version: int) -> None:
    """CI has no credentials, but must be able to migrate and test."""
    sending.TURBOSMTP = {"API_VERSION": version, "CONSUMER_KEY": None}
    assert ("E003", "WARNING") in levels()
    assert "ERROR" not in {level for _, level in levels()}
    assert ("E003", "ERROR") in levels(include_deployment_checks=True)
    # Only ours, because Django's checks query the databases.
    call_command("check", tags=["turbosmtp"])
    with pytest.raises(SystemCheckError, match="E003"):
        call_command("check", tags=["turbosmtp"], deploy=True)


@pytest.mark.parametrize("label", WRONG)
def test_wrong_settings(label: str, sending: Any) -> None:
    settings, words = WRONG[label]
    check_id = label.split()[0]
    sending.TURBOSMTP = settings

    assert words in found()[check_id]
    assert "hunter2" not in str(found())
    with pytest.raises(ImproperlyConfigured, match=f"turbosmtp.{check_id}") as caught:
        EmailBackend(fail_silently=True)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_every_key_has_a_test() -> None:
    ids = {check.removeprefix("turbosmtp.") for check, _ in KEYS.values()}
    assert ids <= {label.split()[0] for label in WRONG}
    assert len(ids) == len(KEYS)


def test_every_id_has_a_test() -> None:
    package = Path(django_turbosmtp.__file__).parent
    names = ("conf/keys.py", "conf/problems.py", "conf/settings.py", "checks.py")
    source = "".join((package / name).read_text() for name in names)
    ids = set(re.findall(r'"turbosmtp\.([EW]\d{3})"', source))
    here = Path(__file__).read_text()
    assert ids
    assert [check for check in sorted(ids) if check not in here] == []


def test_valid_settings_have_no_problems(sending: Any) -> None:
    sending.TURBOSMTP = GOOD
    assert found() == {}
    assert found(include_deployment_checks=True) == {}


@pytest.mark.parametrize(
    "defaults",
    [
        {"esp_extra": {"foo": 1}},
        {"headers": {"Subject": "x"}},
        {"headers": {"X": "a\nb"}},
    ],
)
def test_invalid_send_defaults(defaults: Any, sending: Any) -> None:
    sending.TURBOSMTP = {**GOOD, "SEND_DEFAULTS": defaults}
    assert found().keys() == {"E021"}


def test_several_problems_at_once(sending: Any) -> None:
    sending.TURBOSMTP = {"TIME_OUT": 1, "REGION": "us", "CONSUMER_KEY": "x"}
    assert found().keys() == {"E002", "E015", "E004"}


@pytest.mark.django_db(databases=["default", "second"])
def test_wired_into_manage_py_check(sending: Any) -> None:
    sending.TURBOSMTP = {"REGION": "us"}
    with pytest.raises(SystemCheckError, match=r"turbosmtp\.E015"):
        call_command("check", stdout=StringIO(), stderr=StringIO())


def test_only_senders_need_credentials(settings: Any) -> None:
    settings.TURBOSMTP = {"REGION": "eu"}
    assert found() == {}
    settings.TURBOSMTP = {"REGION": "us"}
    assert found().keys() == {"E015"}


def test_retired_api(sending: Any) -> None:
    sending.TURBOSMTP = {"API_VERSION": 1, "AUTHUSER": "a@b.org", "AUTHPASS": "x y\n"}
    assert found().keys() == {"W001"}


@pytest.mark.parametrize("address", ["webmaster@localhost", "webmaster", "a@b@c"])
@pytest.mark.parametrize("name", ["DEFAULT_FROM_EMAIL", "SERVER_EMAIL"])
def test_sender(name: str, address: str, sending: Any) -> None:
    sending.TURBOSMTP = GOOD
    setattr(sending, name, address)
    sending.MANAGERS = ["manager@example.com"]
    assert name in found()["W002"]


def test_server_email_is_checked_if_there_are_admins(sending: Any) -> None:
    sending.TURBOSMTP = GOOD
    sending.SERVER_EMAIL = "root@localhost"
    assert found() == {}


def test_deployment(sending: Any) -> None:
    sending.TURBOSMTP = {
        **GOOD,
        "SEND_URL": "http://127.0.0.1:8025/api/v2",
        "RECIPIENT_GUARD": ["example.com"],
    }
    assert found() == {}
    assert found(include_deployment_checks=True).keys() == {"W003", "W004"}


def test_deployment_without_our_backend(settings: Any) -> None:
    assert found() == {}
    assert found(include_deployment_checks=True).keys() == {"W005"}


@pytest.mark.parametrize("secret", [None, [], ...])
def test_a_webhook_without_a_secret(sending: Any, secret: Any) -> None:
    sending.TURBOSMTP = GOOD if secret is ... else {**GOOD, "WEBHOOK_SECRET": secret}
    assert found() == {}
    sending.ROOT_URLCONF = "tests.urls"
    assert "/turbosmtp/webhook/" in found()["E034"]
    assert levels() == {("E034", "WARNING")}
    assert ("E034", "ERROR") in levels(include_deployment_checks=True)
    sending.TURBOSMTP = {**GOOD, "WEBHOOK_SECRET": "hunter2:password"}
    assert found() == {}


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("TIME_OUT", True),
        ("api_version2", True),
        ("OPTIONS", True),
        ("0f3a" * 8, False),
        ("pasted@example.com1", False),
        ("A" * 40, False),
        ("hunter", False),
        ("correct-horse-battery-staple", False),
        ("CorrectHorse", False),
        ("sk_live_abcdef", False),
        ("consumer_secret_hunter", False),
        ("CONSUMER_KEY_xyz", False),
        ("pass word", False),
        ("ключ", False),
        ("API_KEY", True),
        ("CONSUMER_KYE", True),
        (5, False),
    ],
)
def test_a_credential_in_place_of_a_key_is_not_shown(
    sending: Any, key: Any, shown: bool
) -> None:
    sending.TURBOSMTP = {**GOOD, key: "value-of-it"}
    assert (repr(key) in found()["E002"]) == shown
    assert "value-of-it" not in found()["E002"]
    if not HAS_MAILERS:
        with pytest.raises(ImproperlyConfigured) as caught:
            EmailBackend(**{str(key): "value-of-it"})
        assert (str(key) in str(caught.value)) == shown


def test_no_mailer_uses_the_backend(settings: Any) -> None:
    """No setting names a backend, for example after half of the README's steps."""
    if HAS_MAILERS:
        settings.MAILERS = {}
    else:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    assert found().keys() == {"W005"}
    assert "django_turbosmtp.backends.EmailBackend" in found()["W005"]
    assert ("MAILERS" in found()["W005"]) == HAS_MAILERS
    if HAS_MAILERS:
        # The setting of startproject is not a deliberate choice.
        path = "django.core.mail.backends.console.EmailBackend"
        settings.MAILERS = {"default": {"BACKEND": path}}
        assert found().keys() == {"W005"}
        settings.MAILERS = {"default": {"BACKEND": path.replace("console", "dummy")}}
        assert found() == {}
    assert found(include_deployment_checks=True).keys() == {"W005"}


@pytest.mark.parametrize("path", ["", "/"])
def test_a_send_url_without_a_path(sending: Any, path: str) -> None:
    sending.TURBOSMTP = {**GOOD, "SEND_URL": f"http://127.0.0.1:8025{path}"}
    assert "end with /api/v2" in found()["W009"]
    sending.TURBOSMTP = {**GOOD, "SEND_URL": "http://127.0.0.1:8025/api/v2"}
    assert found() == {}


if not HAS_MAILERS:

    def test_mailers_are_ignored_before_django_6_1(sending: Any) -> None:
        sending.TURBOSMTP = GOOD
        sending.MAILERS = {"default": {"BACKEND": BACKEND}}
        assert "EMAIL_BACKEND" in found()["W008"]


if HAS_MAILERS:

    def test_keys_beside_options(sending: Any) -> None:
        sending.TURBOSMTP = GOOD
        sending.MAILERS = {
            "default": {"BACKEND": BACKEND, "CONSUMER_KEY": "hunter2"},
            "news": {"BACKEND": BACKEND, "hunter2": 1},
            "smtp": {
                "BACKEND": "django.core.mail.backends.dummy.EmailBackend",
                "TIMEOUT": 1,
            },
        }
        assert found().keys() == {"W007"}
        texts = [f"{m.msg} {m.hint}" for m in run_checks(tags=["turbosmtp"])]
        assert len(texts) == 2
        assert "'CONSUMER_KEY'. Move it to OPTIONS, as 'consumer_key'." in texts[0]
        assert "MAILERS['news']" in texts[1]
        assert "hunter2" not in "".join(texts)

    def test_options_of_each_mailer(sending: Any) -> None:
        sending.TURBOSMTP = GOOD
        sending.MAILERS = {
            "default": {"BACKEND": BACKEND},
            "news": {"BACKEND": BACKEND, "OPTIONS": {"regoin": "eu", "timeout": -1}},
            "half": {"BACKEND": BACKEND, "OPTIONS": {"consumer_key": "other"}},
            "smtp": {"BACKEND": "django.core.mail.backends.dummy.EmailBackend"},
            "gone": {"BACKEND": "no.such.Backend"},
        }
        assert found().keys() == {"E002", "E018", "E004"}
        assert "MAILERS['news']" in found()["E002"]
        assert "'region'" in found()["E002"]
        assert "OPTIONS['timeout']" in found()["E018"]
        assert "MAILERS['half']" in found()["E004"]


class TestLoad:
    def test_defaults(self, settings: Any) -> None:
        settings.TURBOSMTP = GOOD
        loaded = load()
        assert loaded.send_url == "https://api.turbo-smtp.com/api/v2"
        assert loaded.api_url == "https://pro.api.serversmtp.com/api/v2"
        assert loaded.timeout == (5.0, 30.0)
        assert (loaded.max_connections, loaded.max_retries) == (8, 2)
        assert (loaded.retention_days, loaded.body_retention_days) == (365, 30)

    def test_hosts(self, settings: Any) -> None:
        settings.TURBOSMTP = {**GOOD, "REGION": "eu"}
        assert load().send_url == "https://api.eu.turbo-smtp.com/api/v2"
        settings.TURBOSMTP = {"API_VERSION": 1, "AUTHUSER": "a", "AUTHPASS": "b"}
        assert load().send_url == "https://api.turbo-smtp.com/api"
        assert load().api_url == "https://dashboard.serversmtp.com/api"

    def test_options_override_the_setting(self, settings: Any) -> None:
        settings.TURBOSMTP = {**GOOD, "TIMEOUT": 3, "RETENTION_DAYS": 5}
        loaded = load({"timeout": [1, 2], "retention_days": None})
        assert loaded.timeout == (1.0, 2.0)
        assert loaded.retention_days is None

    def test_a_key_is_not_combined_with_the_secret_of_another_account(
        self, settings: Any
    ) -> None:
        settings.TURBOSMTP = GOOD
        with pytest.raises(
            ImproperlyConfigured, match="'consumer_key' and no 'consumer_secret'"
        ):
            load({"consumer_key": "of another account"})

    def test_repr_shows_no_secret(self, settings: Any) -> None:
        settings.TURBOSMTP = {
            **GOOD,
            "AUTHUSER": "hunter2-user",
            "AUTHPASS": "hunter2",
            "WEBHOOK_SECRET": "u:hunter2",
        }
        loaded = load()
        assert "hunter2" not in repr(loaded) + repr(loaded.credentials())
        assert "hunter2" not in repr({"password": loaded.credentials().password})
        assert isinstance(loaded, Settings)


@pytest.mark.django_db
def test_tables_are_checked_in_the_requested_databases() -> None:
    # Tests of other warnings: W006 in tests/log/test_faults.py, W010 in
    # tests/log/test_silence.py, W011 and W012 in tests/log/test_queue_care.py.
    assert run_checks(tags=["database"], databases=["default"]) == []
    assert run_checks(tags=["database"]) == []


def test_a_project_without_urls(sending: Any) -> None:
    """A worker that only sends mail."""
    del sending.ROOT_URLCONF
    sending.TURBOSMTP = {**GOOD, "WEBHOOK_SECRET": "user:password"}
    assert found() == {}
