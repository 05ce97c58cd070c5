"""The backend, called through every supported API of Django."""

from __future__ import annotations

import warnings
from io import StringIO
from typing import Any

import pytest
from django.core import mail
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.test import override_settings

from django_turbosmtp._lib.versions import HAS_MAILERS, MODERN_MIME
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.exceptions import AuthenticationError, ConnectionFailed
from django_turbosmtp.sandbox import Sandbox
from tests.conftest import BACKEND, CREDENTIALS
from tests.messages import new


@pytest.mark.parametrize("api_version", [2, 1])
def test_send_mail(api_version: int, project: Any, sandbox: Sandbox) -> None:
    sent = mail.send_mail("Hé", "Text", None, ["a@b.org"], html_message="<p>Hé</p>")

    assert sent == 1
    (received,) = sandbox.messages
    assert received.api_version == api_version
    assert received.sender == "shop@example.com"
    assert received.fields["subject"] == "Hé"
    assert received.fields["html_content"] == "<p>Hé</p>"
    assert ("reference_id" in received.fields) == (api_version == 2)


def test_send_mass_mail(project: Any, sandbox: Sandbox) -> None:
    assert mail.send_mass_mail([("s", "b", None, ["a@b.org"])] * 3) == 3
    assert len(sandbox.messages) == 3


def test_mail_admins(project: Any, sandbox: Sandbox) -> None:
    admins = ["admin@example.org"]
    project.ADMINS = admins if MODERN_MIME else [("Admin", *admins)]
    project.SERVER_EMAIL = "server@example.com"
    mail.mail_admins("s", "b")
    assert sandbox.messages[0].recipients == [("to", "admin@example.org")]


def test_sendtestemail(project: Any, sandbox: Sandbox) -> None:
    call_command("sendtestemail", "a@example.org", stdout=StringIO())
    assert sandbox.messages[0].recipients == [("to", "a@example.org")]


def test_email_backend_setting(settings: Any, project: Any, sandbox: Sandbox) -> None:
    if HAS_MAILERS:
        del settings.MAILERS
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with override_settings(EMAIL_BACKEND=BACKEND):
            message = new()
            assert message.send() == 1
            mail.send_mail("s", "b", None, ["a@b.org"])
            settings.ROOT_URLCONF = "tests.test_checks"  # Without a webhook.
            assert run_checks(tags=["turbosmtp"]) == []
    # Django 6.1 warns about EMAIL_BACKEND; there are no warnings about our package.
    assert not [w for w in caught if "django_turbosmtp" in w.filename + str(w.message)]
    assert len(sandbox.messages) == 2


if not HAS_MAILERS:

    def test_auth_user_and_password_are_the_credentials(
        project: Any, sandbox: Sandbox
    ) -> None:
        key, secret = CREDENTIALS[2].values()
        project.TURBOSMTP |= {"CONSUMER_KEY": "other", "CONSUMER_SECRET": "other"}
        arguments = ("s", "b", None, ["a@b.org"])
        mail.send_mail(*arguments, auth_user=key, auth_password=secret)
        assert sandbox.messages[0].account == key

        with pytest.raises(AuthenticationError):
            mail.send_mail(*arguments)
        with pytest.raises(ImproperlyConfigured, match="E004"):
            mail.send_mail(*arguments, auth_user=key)

    def test_unknown_option_before_mailers(project: Any) -> None:
        with pytest.raises(ImproperlyConfigured, match="'time_out'.*'timeout'"):
            mail.get_connection(time_out=3)


if HAS_MAILERS:

    class TestMailers:
        def configure(self, settings: Any, **mailers: dict[str, Any]) -> None:
            settings.MAILERS = {
                name: {"BACKEND": BACKEND, "OPTIONS": options}
                for name, options in mailers.items()
            }

        def test_options_win_and_alias_is_known(self, project: Any) -> None:
            self.configure(project, default={}, news={"timeout": 7, "max_retries": 0})
            news = mail.mailers["news"]
            assert (news.alias, news.settings.timeout) == ("news", (7.0, 7.0))
            assert mail.mailers.default.settings.timeout == (2.0, 2.0)

        def test_several_accounts(self, project: Any, sandbox: Sandbox) -> None:
            key, secret = CREDENTIALS[2].values()
            pair = {"consumer_key": key, "consumer_secret": secret}
            self.configure(project, default={}, other=pair)
            project.TURBOSMTP |= {"CONSUMER_KEY": "wrong", "CONSUMER_SECRET": "wrong"}
            assert new().send(using="other") == 1
            with pytest.raises(AuthenticationError):
                new().send(using="default")
            assert [m.account for m in sandbox.messages] == [key]

        def test_unknown_option(self, project: Any) -> None:
            self.configure(project, default={"time_out": 3, "username": "x"})
            with pytest.raises(
                mail.InvalidMailer, match="default.*Unknown options"
            ) as e:
                mail.mailers["default"]
            assert "'time_out'" in str(e.value)
            assert "'username'" in str(e.value)

        def test_wrong_option(self, project: Any) -> None:
            self.configure(project, news={"region": "us"})
            with pytest.raises(
                mail.InvalidMailer, match=r"'news'.*OPTIONS\['region'\]"
            ):
                mail.mailers["news"]

        def test_fail_silently_is_ours(self, project: Any, sandbox: Sandbox) -> None:
            self.configure(project, default={"fail_silently": True})
            sandbox.add_fault("400")
            assert new().send(using="default") == 0

        def test_fail_silently_of_send_mail(
            self, project: Any, sandbox: Sandbox
        ) -> None:
            self.configure(project, default={})
            sandbox.add_fault("400")
            with pytest.deprecated_call():
                sent = mail.send_mail("s", "b", None, ["a@b.org"], fail_silently=True)
            assert sent == 0

        def test_auth_user_of_send_mail(self, project: Any, sandbox: Sandbox) -> None:
            self.configure(project, default={})
            key, secret = CREDENTIALS[2].values()
            project.TURBOSMTP |= {"CONSUMER_KEY": "wrong", "CONSUMER_SECRET": "wrong"}
            with pytest.deprecated_call():
                mail.send_mail(
                    "s", "b", None, ["a@b.org"], auth_user=key, auth_password=secret
                )
            assert sandbox.messages[0].account == key


def test_credentials_may_be_callables(project: Any, sandbox: Sandbox) -> None:
    key, secret = CREDENTIALS[2].values()
    calls = []

    def current_key() -> str:
        calls.append(1)
        return key

    backend = EmailBackend(consumer_key=current_key, consumer_secret=lambda: secret)
    assert calls == []
    backend.send_messages([new()])
    backend.send_messages([new(), new()])
    assert len(calls) == 2
    assert len(sandbox.messages) == 3


def test_callable_that_returns_none(project: Any, sandbox: Sandbox) -> None:
    backend = EmailBackend(
        fail_silently=True, consumer_key=lambda: None, consumer_secret=lambda: "x"
    )
    with pytest.raises(ImproperlyConfigured, match="CONSUMER_KEY.*callable"):
        backend.send_messages([new()])
    assert sandbox.requests == []


def test_empty_user_and_password_are_none(project: Any, sandbox: Sandbox) -> None:
    # Django's SMTP settings are empty by default, and its tests pass them.
    assert EmailBackend(username="", password="").send_messages([new()]) == 1


def test_open_and_close(project: Any, sandbox: Sandbox) -> None:
    backend = EmailBackend()
    assert backend.open() is True
    assert backend.open() is False
    backend.send_messages([new()])
    backend.send_messages([new()])
    backend.close()
    backend.close()
    assert backend.send_messages([new()]) == 1
    assert sandbox.connections == 1

    with EmailBackend() as connection:
        assert connection.send_messages([new()]) == 1
    assert connection.open() is True
    connection.close()


@pytest.mark.parametrize(
    "of", [list, tuple, iter, lambda m: (x for x in m), lambda m: dict.fromkeys(m)]
)
def test_any_iterable(of: Any, project: Any, sandbox: Sandbox) -> None:
    assert EmailBackend().send_messages(of([new(), new()])) == 2
    assert len(sandbox.messages) == 2


@pytest.mark.parametrize("nothing", [[], (), None, iter(())])
def test_no_messages(nothing: Any, project: Any, sandbox: Sandbox) -> None:
    assert EmailBackend().send_messages(nothing) == 0
    assert sandbox.requests == []


def test_settings_are_read_late(project: Any, sandbox: Sandbox, settings: Any) -> None:
    settings.TURBOSMTP = settings.TURBOSMTP | {"SEND_URL": "http://127.0.0.1:1/x"}
    with pytest.raises(ConnectionFailed):
        EmailBackend(max_retries=0).send_messages([new()])
    settings.TURBOSMTP = settings.TURBOSMTP | {"SEND_URL": sandbox.send_url(2) + "/"}
    assert EmailBackend().send_messages([new()]) == 1


class TestAttributes:
    def test_attributes_are_sent_and_in_the_status(
        self, project: Any, sandbox: Sandbox
    ) -> None:
        project.TURBOSMTP |= {
            "SEND_DEFAULTS": {
                "tags": ["shop"],
                "headers": {"x-from-default": "1", "X-Own": "no"},
                "metadata": {"site": 1},
            }
        }
        message = new(headers={"x-own": "yes"})
        message.tags = ["welcome", "2026"]
        message.metadata = {"user": 7}
        message.reference_id = "order-7"
        message.esp_extra = {"custom_headers": {"X-Extra": "e"}}

        message.send()

        (received,) = sandbox.messages
        assert received.reference_id == "order-7"
        assert received.campaign == "welcome"
        headers = received.fields["custom_headers"]
        assert headers == {"x-from-default": "1", "x-own": "yes", "X-Extra": "e"}
        assert b"user" not in received.raw
        status = message.turbosmtp_status
        assert status.reference_id == "order-7"
        assert status.message_id == received.mid
        assert status.recipients["to@example.org"].message_id == received.mid
        assert status.esp_response.json()["message"] == "OK"

    def test_a_repeated_reference_is_allowed(
        self, project: Any, sandbox: Sandbox
    ) -> None:
        for _ in range(2):
            message = new()
            message.reference_id = "order-7"
            message.send()
        assert [m.reference_id for m in sandbox.messages] == ["order-7", "order-7"]

    def test_campaign_of_esp_extra(self, project: Any, sandbox: Sandbox) -> None:
        message = new()
        message.tags = ["a"]
        message.esp_extra = {"X-campaign-ID": "spring"}
        message.send()
        assert sandbox.messages[0].campaign == "spring"

    def test_reply_to_of_the_message_has_priority(
        self, project: Any, sandbox: Sandbox
    ) -> None:
        defaults = {"headers": {"reply-to": "default@example.com"}}
        project.TURBOSMTP |= {"SEND_DEFAULTS": defaults}
        new().send()
        new(reply_to=["mine@example.com"]).send()
        message = new()
        message.esp_extra = {"custom_headers": {"reply-to": "extra@example.com"}}
        message.send()
        assert [m.message["Reply-To"] for m in sandbox.messages] == [
            "default@example.com",
            "mine@example.com",
            "extra@example.com",
        ]

    def test_default_headers_are_added_to_mime(
        self, project: Any, sandbox: Sandbox
    ) -> None:
        project.TURBOSMTP |= {"SEND_DEFAULTS": {"headers": {"X-Default": "1"}}}
        message = new(headers={"Date": "Fri, 09 Nov 2001 01:08:47 -0000"})
        message.send()
        assert sandbox.messages[0].message["X-Default"] == "1"
        assert message.extra_headers == {"Date": "Fri, 09 Nov 2001 01:08:47 -0000"}


class TestRecipientGuard:
    def guarded(self, guard: Any) -> EmailBackend:
        return EmailBackend(recipient_guard=guard)

    def test_allow_list(self, project: Any, sandbox: Sandbox) -> None:
        message = new(
            to=["a@example.org", "b@other.org"],
            cc=["c@EXAMPLE.org"],
            bcc=["d@other.org", "me@other.org"],
        )
        self.guarded(["example.org", "me@other.org"]).send_messages([message])

        (received,) = sandbox.messages
        assert [address for _, address in received.recipients] == [
            "a@example.org",
            "c@EXAMPLE.org",
            "me@other.org",
        ]
        assert b"b@other.org" not in received.raw
        states = {a: r.status for a, r in message.turbosmtp_status.recipients.items()}
        assert states["b@other.org"] == states["d@other.org"] == "rejected"
        assert message.to == ["a@example.org", "b@other.org"]

    @pytest.mark.parametrize("headers", [{}, {"Date": "x"}, {"To": "All <all@x.org>"}])
    def test_redirect(
        self, headers: dict[str, str], project: Any, sandbox: Sandbox
    ) -> None:
        message = new(to=["a@x.org"], cc=["b@x.org"], bcc=["c@x.org"], headers=headers)
        self.guarded({"redirect": "dev@example.com"}).send_messages([message])

        (received,) = sandbox.messages
        assert received.recipients == [("to", "dev@example.com")]
        assert b"x.org" not in received.raw
        assert "x.org" not in str(received.fields)

    def test_redirect_of_a_message_with_its_own_mime(
        self, project: Any, sandbox: Sandbox
    ) -> None:
        from tests.messages import MESSAGES

        self.guarded({"redirect": "dev@example.com"}).send_messages(
            [MESSAGES["signed"]()]
        )
        (received,) = sandbox.messages
        assert received.message["To"] == "dev@example.com"
        assert b"to@example.org" not in received.raw

    def test_non_ascii_domain(self, project: Any, sandbox: Sandbox) -> None:
        self.guarded(["münchen.de"]).send_messages([new(to=["a@münchen.de"])])
        assert len(sandbox.messages) == 1

    def test_all_recipients_left_out(self, project: Any, sandbox: Sandbox) -> None:
        message = new()
        assert self.guarded([]).send_messages([message]) == 0
        assert message.turbosmtp_status.outcome == "suppressed"
        assert message.turbosmtp_status.status == {"rejected"}
        assert sandbox.requests == []
