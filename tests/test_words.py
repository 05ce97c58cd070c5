"""Error messages name the mailer, host and credentials, and the next step."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage, get_connection

from django_turbosmtp._lib.versions import HAS_MAILERS, get_mailer
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.conf.keys import KEYS
from django_turbosmtp.exceptions import (
    AuthenticationError,
    ConnectionFailed,
    OutcomeUnknown,
)
from django_turbosmtp.sandbox import Sandbox
from tests.conftest import BACKEND
from tests.messages import new

WRONG_LOGIN = {"consumer_key": "a-wrong-key", "consumer_secret": "hunter2-secret"}


def give_the_mailer_its_login(project: Any) -> Any:
    project.MAILERS = {"news": {"BACKEND": BACKEND, "OPTIONS": WRONG_LOGIN}}
    return get_mailer("news")


def give_turbosmtp_its_login(project: Any) -> Any:
    project.TURBOSMTP |= {key.upper(): value for key, value in WRONG_LOGIN.items()}
    return get_connection() if not HAS_MAILERS else get_mailer("default")


def give_arguments(project: Any) -> Any:
    return EmailBackend(**WRONG_LOGIN)


def pass_auth_user(project: Any) -> Any:
    return EmailBackend(username="a-wrong-key", password="hunter2-secret")


SOURCES = {
    give_turbosmtp_its_login: "from TURBOSMTP",
    give_arguments: "from the backend's arguments",
    pass_auth_user: "from the arguments auth_user and auth_password",
}
if HAS_MAILERS:
    SOURCES[give_the_mailer_its_login] = "from MAILERS['news']['OPTIONS']"


@pytest.mark.parametrize("api_version", [2])
@pytest.mark.parametrize("give", SOURCES)
def test_wrong_credentials(give: Any, project: Any, sandbox: Sandbox) -> None:
    connection = give(project)
    with pytest.raises(AuthenticationError) as caught:
        connection.send_messages([new()])
    text = str(caught.value)
    host = sandbox.send_url(2).split("/")[2]
    assert host in text
    assert f"CONSUMER_KEY and CONSUMER_SECRET ({SOURCES[give]})" in text
    alias = getattr(connection, "alias", None)
    assert ("mailer" in text) == (alias is not None)
    if alias:
        assert f"mailer {alias!r}" in text


@pytest.mark.parametrize("api_version", [1])
def test_wrong_credentials_of_v1(project: Any, sandbox: Sandbox) -> None:
    project.TURBOSMTP |= {"AUTHUSER": "other@example.com"}
    with pytest.raises(AuthenticationError, match=r"AUTHUSER and AUTHPASS \(from TUR"):
        EmailBackend().send_messages([new()])


def test_no_connection_names_the_mailer(project: Any) -> None:
    project.TURBOSMTP |= {"SEND_URL": "http://127.0.0.1:9/api/v2", "MAX_RETRIES": 0}
    with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:9 \(Conn"):
        EmailBackend().send_messages([new()])
    if HAS_MAILERS:
        with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:9, mailer 'default'"):
            get_mailer("default").send_messages([new()])


@pytest.mark.parametrize("fault", ["500", "lost_answer"])
def test_an_unknown_outcome_explains_what_to_do(
    fault: str, project: Any, sandbox: Sandbox, api_version: int
) -> None:
    sandbox.add_fault(fault)
    message = new()
    message.reference_id = "order-17"
    with pytest.raises(OutcomeUnknown) as caught:
        EmailBackend().send_messages([message])
    text = str(caught.value)
    assert caught.value.reference_id == "order-17"
    assert text.count("Before you send it again, search") == 1
    # API v1 has no field for the reference id.
    sought = "its recipients" if api_version == 1 else "the reference id order-17"
    assert text.endswith(f"search turboSMTP's dashboard for {sought}.")


def test_the_error_names_an_id_to_search_for(project: Any, sandbox: Sandbox) -> None:
    sandbox.add_fault("500")
    message = new()
    with pytest.raises(OutcomeUnknown) as caught:
        EmailBackend().send_messages([message])
    assert caught.value.reference_id == message.turbosmtp_status.reference_id


def test_a_retry_is_logged(
    project: Any, sandbox: Sandbox, caplog: Any, short_waits: None
) -> None:
    caplog.set_level(logging.INFO, "django_turbosmtp")
    sandbox.add_fault("429", times=2)
    EmailBackend().send_messages([new()])
    (record,) = caplog.records
    assert "on attempt 3, after: turboSMTP answered 429" in record.getMessage()


@pytest.mark.parametrize("key", [*KEYS, "PASSWORD"])
@pytest.mark.parametrize(
    "value",
    [
        "hunter2-secret",
        "https://hunter2@example.com/api",
        "https://example.com/api?key=hunter2",
        "http://example.com/hunter2-secret",
        ["hunter2-secret"],
        ("hunter2-secret", 2),
        {"redirect": "hunter2-secret"},
        b"hunter2-secret",
    ],
)
def test_a_secret_in_a_wrong_setting_is_not_shown(
    key: str, value: Any, project: Any, api_version: int
) -> None:
    project.TURBOSMTP |= {key: value}
    shown = run_checks(tags=["turbosmtp"], include_deployment_checks=True)
    shown += run_checks(tags=["turbosmtp"], databases=["default"])
    assert "hunter2" not in str([(m.msg, m.hint) for m in shown])
    try:
        shown_by_backend = repr(EmailBackend().settings)
    except ImproperlyConfigured as error:
        shown_by_backend = str(error)
    assert "hunter2" not in shown_by_backend


@pytest.mark.parametrize("option", ["timeout", "consumer_key"])
def test_options_are_not_mentioned_without_mailers(option: str, project: Any) -> None:
    """OPTIONS exist only in MAILERS."""
    with pytest.raises(ImproperlyConfigured) as caught:
        EmailBackend(**{option: -1 if option == "timeout" else "half"})
    assert "OPTIONS" not in str(caught.value)
    assert option in str(caught.value)


def test_each_error_names_its_own_message(project: Any, sandbox: Sandbox) -> None:
    """Each error of a batch has the reference id of its message."""
    sandbox.add_fault("500", times=None)
    messages: list[EmailMessage] = [new(), new(), new()]
    with pytest.raises(OutcomeUnknown) as caught:
        EmailBackend(max_connections=1).send_messages(messages)
    assert [error.reference_id for _, error in caught.value.failures] == [  # type: ignore[attr-defined]
        message.turbosmtp_status.reference_id for message in messages
    ]
