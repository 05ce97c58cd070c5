"""The webhook: which requests it accepts, and how it refuses the others."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from django.test import Client

from django_turbosmtp.models import (
    Event,
)
from tests.log.posting import (
    SECRET,
    URL,
    build,
    build_login,
    post,
    tell,
)

pytestmark = pytest.mark.django_db


class TestWhoGetsIn:
    @pytest.mark.parametrize("secret", [None, [], ""])
    def test_without_a_secret_it_is_closed(self, secret: Any, tracked: Any) -> None:
        if secret == "":
            del tracked.TURBOSMTP["WEBHOOK_SECRET"]
        else:
            tracked.TURBOSMTP |= {"WEBHOOK_SECRET": secret}
        for login in ("", build_login(), build_login(":")):
            assert post(build("OPENED"), login).status_code == 403
        assert Event.objects.count() == 0

    @pytest.mark.parametrize(
        ("login", "reason"),
        [
            ("", "There are no credentials"),
            (build_login("hunter2:wrong"), "are wrong"),
            (build_login("hunter2:password "), "are wrong"),
            (build_login("hunter2"), "are wrong"),
            (build_login(""), "are wrong"),
            (build_login(scheme="Bearer"), "not HTTP Basic"),
            ("Basic", "are wrong"),
            ("Basic !!!", "cannot be read"),
            ("Basic \u00e9", "cannot be read"),
            ("hunter2:password", "not HTTP Basic"),
        ],
    )
    def test_wrong_credentials_are_refused(
        self, login: str, reason: str, tracked: Any, caplog: Any
    ) -> None:
        answer = post(build("OPENED"), login)
        assert answer.status_code == 401
        assert answer["WWW-Authenticate"].startswith("Basic")
        assert Event.objects.count() == 0
        assert reason in caplog.text
        assert "hunter2" not in caplog.text + answer.text
        assert "aHVudGVyMg" not in caplog.text  # Base64

    @pytest.mark.parametrize("pair", [SECRET, "new:secret", "with:colons:in:it"])
    def test_several_while_rotating(self, pair: str, tracked: Any) -> None:
        secrets = ["new:secret", SECRET, "with:colons:in:it"]
        tracked.TURBOSMTP |= {"WEBHOOK_SECRET": secrets}
        assert post(build("OPENED"), build_login(pair)).status_code == 200
        assert post(build("OPENED"), build_login("old:one")).status_code == 401

    def test_new_credentials_are_logged_without_their_value(
        self, tracked: Any, caplog: Any
    ) -> None:
        caplog.set_level(logging.DEBUG, "django_turbosmtp.tracking")
        tell(build("OPENED"))
        assert "the right credentials" in caplog.text
        assert "hunter2" not in caplog.text

    @pytest.mark.parametrize("method", ["get", "head"])
    @pytest.mark.parametrize(
        ("login", "status"),
        [(build_login(), 200), (build_login("hunter2:wrong"), 401), (None, 401)],
    )
    def test_get_needs_the_same_credentials(
        self, login: str | None, status: int, method: str, tracked: Any
    ) -> None:
        headers = {"Authorization": login} if login else {}
        answer = getattr(Client(), method)(URL, headers=headers)
        assert answer.status_code == status
        assert ("WWW-Authenticate" in answer) == (status == 401)
        if method == "get" and status == 200:
            assert answer.text == "This is the event webhook. turboSMTP posts here.\n"
        del tracked.TURBOSMTP["WEBHOOK_SECRET"]
        assert getattr(Client(), method)(URL, headers=headers).status_code == 403

    @pytest.mark.parametrize("url", [URL, URL.rstrip("/")])
    def test_the_last_slash_does_not_matter(self, url: str, tracked: Any) -> None:
        tracked.MIDDLEWARE = [
            "django.middleware.common.CommonMiddleware",
            *tracked.MIDDLEWARE,
        ]
        answer = Client().post(
            url,
            json.dumps(build("OPENED")),
            content_type="application/json",
            headers={"Authorization": build_login()},
        )
        assert answer.status_code == 200
        assert Event.objects.count() == 1

    @pytest.mark.parametrize("method", ["put", "patch", "delete", "options"])
    def test_other_methods_are_refused(self, method: str, tracked: Any) -> None:
        answer = getattr(Client(), method)(
            URL, json.dumps(build("OPENED")), headers={"Authorization": build_login()}
        )
        assert answer.status_code == 405
        assert answer["Allow"] == "GET, HEAD, POST"
        assert Event.objects.count() == 0

    def test_middleware_that_wants_a_login_lets_it_through(self, tracked: Any) -> None:
        tracked.MIDDLEWARE = [
            *tracked.MIDDLEWARE,
            "django.contrib.auth.middleware.LoginRequiredMiddleware",
        ]
        tell(build("OPENED"))
        assert Event.objects.count() == 1
