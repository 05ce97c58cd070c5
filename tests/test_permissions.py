"""Permissions of every URL of the app, found in the URL resolver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import NoReverseMatch, get_resolver, path, reverse
from django.urls.resolvers import URLPattern, URLResolver

from django_turbosmtp.admin import MessageAdmin
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.models import Message, Suppression
from django_turbosmtp.sandbox import Sandbox
from tests.log.test_files import PDF, stored  # noqa: F401 - a fixture
from tests.messages import new

pytestmark = pytest.mark.django_db

LIST = "/admin/turbosmtp/message/"

#: The allowed pages of each user. All others are forbidden; no URL may be missing.
USERS = {
    "anonymous": None,
    "no permission": (),
    "view": ("view_message",),
    "body alone": ("view_message_body",),
    "resend alone": ("resend_message",),
    "view and body": ("view_message", "view_message_body"),
    "view and resend": ("view_message", "resend_message"),
    "view and cancel": ("view_message", "cancel_message"),
    "full": ("view_message", "view_message_body", "resend_message", "cancel_message"),
}
#: The permissions that each page needs; None if no user has access.
PAGES = {
    "changelist": ("view_message",),
    "change": ("view_message",),
    "history": ("view_message",),
    "add": None,
    "delete": None,
    "dashboard": ("view_message",),
    "person": ("view_message",),
    "person_export": ("view_message", "view_message_body"),
    "export": ("view_message",),
    "preview": ("view_message", "view_message_body"),
    "attachment": ("view_message", "view_message_body"),
    "eml": ("view_message", "view_message_body"),
    "resend": ("view_message", "resend_message"),
    "resend_many": ("view_message", "resend_message"),
    "cancel": ("view_message", "cancel_message"),
    "test": ("view_message", "resend_message"),
}


#: The permissions for the pages of suppressed addresses.
SUPPRESSIONS = {
    "changelist": "view_suppression",
    "add": "add_suppression",
    "change": "view_suppression",
    "history": "view_suppression",
    "delete": "delete_suppression",
}


def walk(patterns: Any) -> Iterator[URLPattern]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from walk(pattern.url_patterns)
        else:
            yield pattern


def list_urls() -> dict[str, URLPattern]:
    """Return the URL patterns of this app, by the ends of their names."""
    found = {}
    for pattern in walk(get_resolver().url_patterns):
        view: Any = pattern.callback
        owner = getattr(view, "model_admin", None) or getattr(
            getattr(view, "__wrapped__", view), "__self__", None
        )
        module = type(owner).__module__ if owner else view.__module__
        named = str(pattern.name or "").startswith("turbosmtp_")
        if named or module.startswith("django_turbosmtp"):
            found[str(pattern.name).removeprefix("turbosmtp_message_")] = pattern
    return found


def build_url(name: str, row: Message) -> str:
    url = f"admin:turbosmtp_message_{name}"
    for arguments in ([], [row.pk], [row.pk, 0]):
        try:
            return reverse(url, args=arguments)
        except NoReverseMatch:
            continue
    pytest.fail(f"{name} takes arguments that this test does not know")


def finish(answer: Any) -> None:
    """Read a streamed answer completely, and close its file."""
    if answer.streaming:
        list(answer.streaming_content)
        # Not close(), which would also close the database connection of the test.
        for close in answer._resource_closers:
            close()


@pytest.fixture
def row(stored: Path, sandbox: Sandbox) -> Message:  # noqa: F811
    """Return a message that was refused, so that it can be sent again."""
    sandbox.add_fault("nocredit", times=1)
    html = ("<p>Secret</p>", "text/html")
    message = new(subject="Order", alternatives=[html], attachments=[PDF])
    EmailBackend(fail_silently=True).send_messages([message])
    return Message.objects.get()


def test_every_url_is_listed(user: Any) -> None:
    found = list_urls()
    # Django's redirect from an older form of the URL.
    assert str(found.pop("None").pattern) == "<path:object_id>/"
    # For turboSMTP, with its own password: see tests/log/test_webhook_access.py.
    webhooks = {
        f"webhook{place}{slash}"
        for place in ("", "_at_root")
        for slash in ("", "_without_slash")
    }
    suppressions = {f"turbosmtp_suppression_{name}" for name in SUPPRESSIONS}
    assert set(found) == set(PAGES) | webhooks | suppressions
    assert user().get(f"{LIST}1/")["Location"] == f"{LIST}1/change/"


@pytest.mark.parametrize("kind", USERS)
@pytest.mark.parametrize("page", PAGES)
def test_access_to_each_page(
    row: Message, user: Any, sandbox: Sandbox, page: str, kind: str
) -> None:
    needed, owned = PAGES[page], USERS[kind]
    client = Client() if owned is None else user(*owned)
    url = build_url(page, row)
    allowed = needed is not None and set(needed) <= set(owned or ())
    for method in ("get", "head", "post", "put", "delete"):
        data: dict[str, Any] = {
            "test": {"to": "a@example.org", "mailer": "default"},
            "resend": {"to": 0, "decision": 0},
            "resend_many": {"id": row.pk},
        }.get(page, {})
        answer = getattr(client, method)(url, data)
        finish(answer)
        if owned is None:
            assert answer.status_code == 302
            assert "/admin/login/" in answer["Location"]
        elif not allowed:
            assert answer.status_code == 403, method
        elif method in {"get", "head"}:
            # The message is not queued, so there is no confirmation page.
            assert answer.status_code == (302 if page == "cancel" else 200), method
    sends = page in {"resend", "resend_many", "test"} and allowed
    assert len(sandbox.messages) == sends
    assert Message.objects.count() == 1 + sends


@pytest.mark.parametrize("page", SUPPRESSIONS)
@pytest.mark.parametrize(
    "owned", [None, "view_message", *sorted(set(SUPPRESSIONS.values()))]
)
def test_access_to_suppressed_addresses(
    row: Message, user: Any, page: str, owned: str | None
) -> None:
    suppression = Suppression.objects.create(address="jane@x.org")
    arguments = [suppression.pk] if page in {"change", "history", "delete"} else []
    url = reverse(f"admin:turbosmtp_suppression_{page}", args=arguments)
    client = Client() if owned is None else user(owned)
    answer = client.get(url)
    if owned is None:
        assert "/admin/login/" in answer["Location"]
    else:
        assert answer.status_code == (200 if owned == SUPPRESSIONS[page] else 403)
    # Nothing is changed without the permission, or by GET.
    client.post(url, {"address": "joe@x.org", "reason": "manual"})
    added = owned == "add_suppression" and page == "add"
    assert Suppression.objects.count() == 1 + added - (
        owned == "delete_suppression" and page == "delete"
    )


@pytest.mark.parametrize("page", ["change", "preview", "eml", "resend", "attachment"])
def test_missing_objects_are_404(row: Message, user: Any, page: str) -> None:
    url = build_url(page, row)
    Message.objects.all().delete()
    assert user(*USERS["full"]).get(url).status_code == 404  # type: ignore[misc]
    assert user().get(url).status_code == 403
    assert Client().get(url).status_code == 302


@pytest.mark.parametrize("key", ["nonsense", "1", "..", "%00", "_"])
def test_an_invalid_key(admin_client: Client, key: str) -> None:
    assert admin_client.get(f"{LIST}{key}/change/").status_code == 404
    assert admin_client.get(f"{LIST}{key}/preview/").status_code in {302, 404}


class OwnAdmin(MessageAdmin):
    """Customizations of a site: fewer messages, an additional column and field."""

    list_display = (*MessageAdmin.list_display, "from_email")
    fieldsets = (("Ours", {"fields": ["subject", ("tags", "shouted")]}),)

    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).exclude(subject="Hidden")

    @admin.display(description="shouted")
    def shouted(self, message: Message) -> str:
        return message.subject.upper()


class NoAdmin(MessageAdmin):
    """Shows no messages to some users."""

    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).none()


site = admin.AdminSite("backoffice")
site.register(Message, OwnAdmin)
empty_site = admin.AdminSite("empty")
empty_site.register(Message, NoAdmin)
urlpatterns = [
    path("admin/", admin.site.urls),
    path("office/", site.urls),
    path("empty/", empty_site.urls),
]


@pytest.mark.urls("tests.test_permissions")
def test_a_site_s_own_admin(row: Message, admin_client: Client) -> None:
    base = "/office/turbosmtp/message/"
    for path_ in ("", "dashboard/", "person/?address=to@example.org", "test/"):
        html = admin_client.get(base + path_).content.decode()
        assert "/admin/turbosmtp" not in html
        assert f'href="{base}' in html
    html = admin_client.get(f"{base}{row.pk}/change/").content.decode()
    assert "/admin/turbosmtp" not in html
    assert "ORDER" in html
    assert f"{base}{row.pk}/preview/" in html
    answer = admin_client.post(f"{base}{row.pk}/resend/", {"to": 0, "decision": 0})
    assert answer["Location"].startswith(base)
    assert "shop@example.com" in admin_client.get(base).content.decode()


@pytest.mark.urls("tests.test_permissions")
def test_messages_outside_the_queryset_are_not_shown(
    row: Message, admin_client: Client
) -> None:
    Message.objects.update(subject="Hidden")
    base = "/office/turbosmtp/message/"
    for page in ("change", "preview", "eml", "resend", "attachments/0"):
        ending = "change" if page == "change" else page
        assert admin_client.get(f"{base}{row.pk}/{ending}/").status_code == 404
        assert admin_client.post(f"{base}{row.pk}/{ending}/").status_code == 404
    for page in ("", "export/", "person/?address=to@example.org"):
        answer: Any = admin_client.get(base + page)
        text = b"".join(answer) if answer.streaming else answer.content
        assert b"Hidden" not in text
    [table, *_] = admin_client.get(f"{base}dashboard/").context["tables"]
    assert table["sum"]["total"] == 0


@pytest.mark.urls("tests.test_permissions")
@pytest.mark.parametrize(
    "page",
    [
        "",
        "?q=Order",
        "?q=to@example.org",
        "?tag=x&attention=yes&group=failed&period=day&p=1",
        "export/",
        "person/?address=to@example.org",
        "dashboard/",
    ],
)
def test_an_empty_queryset(row: Message, admin_client: Client, page: str) -> None:
    answer: Any = admin_client.get(f"/empty/turbosmtp/message/{page}")
    assert answer.status_code == 200
    text = b"".join(answer) if answer.streaming else answer.content
    assert b">Order<" not in text
    assert str(row.pk).encode() not in text


def test_a_page_in_another_language(
    row: Message, admin_client: Client, settings: Any
) -> None:
    settings.LANGUAGE_CODE = "de"
    for page, needed in PAGES.items():
        if needed is not None:
            # Only a queued message has this page.
            if page == "cancel":
                Message.objects.update(status="queued", outcome="queued")
            answer = admin_client.get(build_url(page, row))
            finish(answer)
            assert answer.status_code == 200


def test_without_time_zones(row: Message, admin_client: Client, settings: Any) -> None:
    settings.USE_TZ = False
    for page, needed in PAGES.items():
        if needed is not None:
            if page == "cancel":
                Message.objects.update(status="queued", outcome="queued")
            answer = admin_client.get(build_url(page, row))
            finish(answer)
            assert answer.status_code == 200


def test_users_have_different_permissions() -> None:
    """The permissions listed here are those of the models."""
    named = {name for names in USERS.values() for name in names or ()}
    model = apps.get_model("turbosmtp", "Message")
    assert named == {"view_message", *(name for name, _ in model._meta.permissions)}
    assert User.objects.count() == 0
