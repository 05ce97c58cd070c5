"""Suppressed addresses: added by events, looked up before a send, deleted."""

from __future__ import annotations

import asyncio
import io
import itertools
import re
import time
from io import StringIO
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.exceptions import RecipientsRefused
from django_turbosmtp.models import HashedAddress, Message, Recipient, Suppression
from django_turbosmtp.sandbox import Sandbox
from tests.log.posting import SECRET, build, tell
from tests.messages import new
from tests.worlds import connection

pytestmark = pytest.mark.django_db

ADMIN = "/admin/turbosmtp/suppression/"


@pytest.fixture
def suppressing(logged: Any, settings: Any) -> Any:
    settings.TURBOSMTP |= {"WEBHOOK_SECRET": SECRET}
    return settings


def suppress(*addresses: str, reason: str = "bounced") -> None:
    for address in addresses:
        Suppression.objects.create(address=address, reason=reason)


def change_secret_key(settings: Any) -> None:
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a secret key that nobody has used before, fifty letters"


def send(*messages: Any, **options: Any) -> int:
    return EmailBackend(**options).send_messages(messages or [new()])


class TestSending:
    def test_one_of_several_is_left_out(
        self, suppressing: Any, sandbox: Sandbox
    ) -> None:
        suppress("gone@example.org", reason="unsubscribed")
        message = new(to=["a@example.org", "Gone <Gone@Example.org>"], cc=["c@x.org"])
        assert send(message) == 1
        assert sandbox.latest.recipients == [  # type: ignore[union-attr]
            ("to", "a@example.org"),
            ("cc", "c@x.org"),
        ]
        assert "gone" not in str(sandbox.latest.message["To"]).lower()  # type: ignore[union-attr]
        status = message.turbosmtp_status
        assert status.outcome == "accepted"
        assert status.recipients["a@example.org"].status == "sent"
        assert status.recipients["Gone@Example.org"].status == "rejected"
        # The caller's lists are unchanged.
        assert message.to == ["a@example.org", "Gone <Gone@Example.org>"]
        rows = Recipient.objects.order_by("address").values_list(
            "address", "status", "why"
        )
        assert list(rows) == [
            ("a@example.org", "sent", ""),
            ("c@x.org", "sent", ""),
            ("gone@example.org", "rejected", "unsubscribed"),
        ]

    def test_all_recipients_left_out(self, suppressing: Any, sandbox: Sandbox) -> None:
        suppress("a@x.org", "b@x.org", reason="complained")
        message = new(to=["a@x.org"], bcc=["b@x.org"])
        with pytest.raises(RecipientsRefused, match="complained") as caught:
            send(message)
        assert caught.value.recipients == ("a@x.org", "b@x.org")
        assert not caught.value.retryable
        assert sandbox.requests == []
        status = message.turbosmtp_status
        assert (status.outcome, status.status) == ("suppressed", {"rejected"})
        assert isinstance(status.error, RecipientsRefused)
        row = Message.objects.get()
        assert (row.status, row.outcome) == ("rejected", "suppressed")
        assert row.error_class == "RecipientsRefused"

    def test_other_messages_of_a_batch_are_sent(
        self, suppressing: Any, sandbox: Sandbox
    ) -> None:
        suppress("b@x.org")
        messages = [new(to=[f"{name}@x.org"]) for name in "abc"]
        with pytest.raises(RecipientsRefused) as caught:
            send(*messages)
        assert caught.value.sent_count == 2
        assert [message for message, _ in caught.value.failures] == [messages[1]]
        assert send(*messages, fail_silently=True) == 2

    def test_ignore_suppressions(self, suppressing: Any, sandbox: Sandbox) -> None:
        suppress("a@x.org")
        message = new(to=["a@x.org"])
        message.ignore_suppressions = True
        assert send(message) == 1

    @pytest.mark.parametrize("off", [{"SUPPRESS": False}])
    def test_switched_off(self, off: Any, suppressing: Any, sandbox: Sandbox) -> None:
        suppressing.TURBOSMTP |= off
        suppress("a@x.org")
        assert send(new(to=["a@x.org"])) == 1

    def test_as_mime(self, suppressing: Any, sandbox: Sandbox) -> None:
        suppress("gone@x.org")
        date = {"Date": "Fri, 09 Nov 2001 01:08:47 -0000"}
        send(new(to=["a@x.org", "gone@x.org"], headers=date))
        received = sandbox.latest
        assert received is not None
        assert "mime_raw" in received.fields
        assert b"gone@x.org" not in received.raw

    def test_signed_mail_keeps_its_headers(
        self, suppressing: Any, sandbox: Sandbox
    ) -> None:
        class Signed(EmailMessage):
            def message(self, *args: Any, **kwargs: Any) -> Any:
                built = super().message(*args, **kwargs)
                built["X-Signature"] = "of To, too"
                return built

        suppress("gone@x.org")
        to = ["a@x.org", "gone@x.org"]
        assert send(Signed("s", "b", "shop@example.com", to)) == 1
        received = sandbox.latest
        assert received is not None
        assert received.recipients == [("to", "a@x.org")]
        assert str(received.message["To"]) == "a@x.org, gone@x.org"

    def test_with_the_guard(
        self, suppressing: Any, sandbox: Sandbox, caplog: Any
    ) -> None:
        suppress("gone@x.org")
        guard = ["x.org"]
        message = new(to=["a@x.org", "gone@x.org", "b@elsewhere.org"])
        send(message, recipient_guard=guard)
        whys = Recipient.objects.order_by("address").values_list("address", "why")
        assert dict(whys) == {
            "a@x.org": "",
            "gone@x.org": "bounced",
            "b@elsewhere.org": "guard",
        }
        # Each reason is mentioned once.
        said = [r.getMessage().partition(": ")[2] for r in caplog.records]
        assert said == [
            "RECIPIENT_GUARD left out 1 recipient(s).",
            "The list of suppressed addresses left out 1 recipient(s).",
        ]

    def test_one_look_up_for_all_messages(
        self, suppressing: Any, sandbox: Sandbox
    ) -> None:
        suppressing.TURBOSMTP |= {"LOG": False}
        messages = [new(to=[f"p{n}@x.org", f"q{n}@x.org"]) for n in range(100)]
        with CaptureQueriesContext(connection) as captured:
            assert send(*messages) == 100
        asked = [q for q in captured if "turbosmtp_suppression" in (q["sql"] or "")]
        assert len(asked) == 1


@pytest.mark.django_db(transaction=True)
def test_in_an_event_loop(suppressing: Any, sandbox: Sandbox, caplog: Any) -> None:
    suppress("a@x.org")

    async def act() -> int:
        return send(new(to=["a@x.org", "b@x.org"]))

    assert asyncio.run(act()) == 1
    assert sandbox.latest.recipients == [("to", "b@x.org")]  # type: ignore[union-attr]
    assert "could not be read" not in caplog.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("inside", [True, False])
def test_mail_is_sent_if_the_look_up_fails(
    inside: bool,
    suppressing: Any,
    sandbox: Sandbox,
    caplog: Any,
    admin_client: Client,
) -> None:
    suppress("a@x.org")

    def fail(execute: Any, sql: str, *arguments: Any) -> Any:
        if "turbosmtp_suppression" in sql:
            sql = "SELECT nonsense FROM nowhere"
            return execute(sql, (), *arguments[1:])
        return execute(sql, *arguments)

    with connection.execute_wrapper(fail):
        if inside:
            with transaction.atomic():
                assert send(new(to=["a@x.org"])) == 1
        else:
            assert send(new(to=["a@x.org"])) == 1
    assert "so the mail is sent to all of its recipients" in caplog.text
    assert "a@x.org" not in caplog.text
    row = Message.objects.get()
    assert (row.status, row.is_unchecked) == ("sent", True)
    page = admin_client.get(f"/admin/turbosmtp/message/{row.pk}/change/")
    assert "The suppressed addresses could not be read" in page.text


class TestEvents:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"status": "BOUNCED", "reason": "550 5.1.1 no such user"}, "bounced"),
            ({"status": "BOUNCED", "reason": "452 4.2.2 full"}, None),
            ({"status": "BOUNCED", "reason": "no"}, None),
            ({"status": "SPAM"}, "complained"),
            ({"status": "REPORT"}, "complained"),
            ({"status": "UNSUBSCRIBED"}, "unsubscribed"),
            ({"status": "DROPPED", "reason": "complaining recipient"}, "complained"),
            ({"status": "DROPPED", "reason": "bouncing recipient"}, "bounced"),
            ({"status": "DROPPED", "reason": "unsubscribed"}, "unsubscribed"),
            ({"status": "DROPPED", "reason": "no idea"}, None),
            ({"status": "DROPPED", "reason": "552 5.2.2 mailbox full"}, None),
            ({"status": "DROPPED", "reason": "it looks like spam"}, None),
            ({"status": "BOUNCED", "reason": "550 5.7.1 complaints, spam"}, None),
            ({"status": "DELIVERED"}, None),
            ({"status": "SPAM", "email": "nonsense"}, None),
        ],
    )
    def test_events_suppress_addresses(
        self, changes: Any, reason: str | None, suppressing: Any, sandbox: Sandbox
    ) -> None:
        tell(build(**{"email": "Jane@X.org", **changes}))
        found = Suppression.objects.values_list("address", "reason", "source")
        expected = [("jane@x.org", reason, "webhook")] if reason else []
        assert list(found) == expected
        if reason:
            with pytest.raises(RecipientsRefused):
                send(new(to=["jane@x.org"]))

    def test_an_older_event_does_not_suppress_again(self, suppressing: Any) -> None:
        event = build("SPAM", email="jane@x.org")
        tell(event)
        Suppression.objects.all().delete()
        tell(event)
        assert not Suppression.objects.exists()
        # A late event, from before the suppression was deleted.
        tell(build("SPAM", email="jane@x.org", timestamp=time.time() - 60))
        assert not Suppression.objects.exists()
        tell(build("SPAM", email="jane@x.org", timestamp=time.time() + 1))
        assert Suppression.objects.count() == 1

    @pytest.mark.parametrize("way", ["command", "row", "rows", "admin", "action"])
    def test_each_way_of_lifting_is_remembered(
        self, way: str, suppressing: Any, admin_client: Client
    ) -> None:
        suppress("jane@x.org")
        row = Suppression.objects.get()
        if way == "command":
            call_command("turbosmtp_suppressions", "remove", "jane@x.org")
        elif way == "row":
            row.delete()
        elif way == "rows":
            Suppression.objects.filter(address="jane@x.org").delete()
        elif way == "admin":
            admin_client.post(f"{ADMIN}{row.pk}/delete/", {"post": "yes"})
        else:
            data = {"action": "delete_selected", "_selected_action": [row.pk]}
            admin_client.post(ADMIN, data | {"post": "yes"})
        assert not Suppression.objects.exists()
        tell(build("SPAM", email="jane@x.org", timestamp=time.time() - 5))
        assert not Suppression.objects.exists()
        # The address itself is not stored.
        assert "jane" not in str(list(HashedAddress.objects.values()))

    @pytest.mark.parametrize("together", [True, False])
    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_the_strongest_reason_stays(
        self, order: tuple[int, ...], together: bool, suppressing: Any
    ) -> None:
        events = [
            build("BOUNCED", email="jane@x.org", reason="550 5.1.1 no such user"),
            build("UNSUBSCRIBED", email="jane@x.org"),
            build("SPAM", email="jane@x.org"),
        ]
        chosen = [events[number] for number in order]
        if together:
            tell(*chosen)
        else:
            for event in chosen:
                tell(event)
        row = Suppression.objects.get()
        assert row.reason == "complained"
        assert row.since.timestamp() == events[2]["timestamp"]

    def test_a_manual_suppression_is_kept(self, suppressing: Any) -> None:
        Suppression.objects.create(address="jane@x.org", note="called us")
        tell(build("BOUNCED", email="jane@x.org", reason="550 5.1.1 no such user"))
        row = Suppression.objects.get()
        assert (row.reason, row.note) == ("manual", "called us")
        tell(build("SPAM", email="jane@x.org"))
        row.refresh_from_db()
        assert (row.reason, row.note) == ("complained", "called us")


class TestAdmin:
    def test_add_find_and_lift(
        self, suppressing: Any, sandbox: Sandbox, user: Any
    ) -> None:
        rights = ("add_suppression", "view_suppression", "delete_suppression")
        client = user(*rights)
        data = {"address": "Jane@B\u00fccher.Example", "reason": "manual", "note": "x"}
        assert client.post(f"{ADMIN}add/", data).status_code == 302
        row = Suppression.objects.get()
        assert row.address == "jane@xn--bcher-kva.example"
        assert row.source
        with pytest.raises(RecipientsRefused):
            send(new(to=["jane@b\u00fccher.example"]))
        text = client.get(ADMIN, {"q": row.address.upper()}).text
        assert row.address in text
        assert row.address not in client.get(ADMIN, {"q": "jane"}).text
        # The same address in another spelling.
        again = client.post(f"{ADMIN}add/", data | {"address": row.address.upper()})
        assert "already exists" in again.text
        bad = client.post(f"{ADMIN}add/", data | {"address": "nobody"})
        assert re.search("Enter a valid email address", bad.text)
        assert (
            client.post(f"{ADMIN}{row.pk}/delete/", {"post": "yes"}).status_code == 302
        )
        assert not Suppression.objects.exists()

    def test_suppressions_cannot_be_changed(
        self, suppressing: Any, admin_client: Client
    ) -> None:
        suppress("jane@x.org")
        row = Suppression.objects.get()
        data = {"address": "joe@x.org", "reason": "manual"}
        answer = admin_client.post(f"{ADMIN}{row.pk}/change/", data)
        assert answer.status_code == 403
        assert Suppression.objects.get().address == "jane@x.org"

    def test_the_page_shows_why_a_recipient_was_left_out(
        self, suppressing: Any, sandbox: Sandbox, admin_client: Client
    ) -> None:
        suppress("gone@x.org", reason="complained")
        send(new(to=["a@x.org", "gone@x.org"]))
        row = Message.objects.get()
        url = f"/admin/turbosmtp/message/{row.pk}/change/"
        assert "they reported a message as spam" in admin_client.get(url).text
        person = "/admin/turbosmtp/message/person/"
        text = admin_client.get(person, {"address": "gone@x.org"}).text
        assert "they reported a message as spam" in text


def test_an_erased_person_stays_suppressed(suppressing: Any, sandbox: Sandbox) -> None:
    suppress("jane@x.org", reason="complained")
    Suppression.objects.update(note="Jane called")
    call_command("turbosmtp_erase", "Jane@X.org", no_input=True)
    row = Suppression.objects.get()
    assert "jane" not in f"{row.address} {row.note} {row.source}".lower()
    with pytest.raises(RecipientsRefused, match="complained"):
        send(new(to=["jane@x.org"]))
    assert send(new(to=["joe@x.org"])) == 1


def test_an_erased_person_is_known_after_a_new_secret_key(
    suppressing: Any, sandbox: Sandbox
) -> None:
    suppress("jane@x.org", reason="complained")
    call_command("turbosmtp_erase", "jane@x.org", no_input=True)
    change_secret_key(suppressing)
    with pytest.raises(RecipientsRefused, match="complained"):
        send(new(to=["jane@x.org"]))


@pytest.mark.parametrize("key", ["same", "new"])
@pytest.mark.parametrize("way", ["command", "admin"])
def test_an_erased_person_can_be_allowed_again(
    way: str, key: str, suppressing: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    suppress("jane@x.org", reason="complained")
    call_command("turbosmtp_erase", "jane@x.org", no_input=True)
    if key == "new":
        change_secret_key(suppressing)
    if way == "command":
        output = StringIO()
        call_command("turbosmtp_suppressions", "remove", "Jane@X.org", stdout=output)
        assert output.getvalue().startswith("1 of 1 ")
    else:
        row = Suppression.objects.get()
        found = admin_client.get(ADMIN, {"q": "jane@x.org"})
        assert f"{ADMIN}{row.pk}/change/" in found.text
        assert "(erased) " in found.text
        assert row.address not in found.text
        admin_client.post(f"{ADMIN}{row.pk}/delete/", {"post": "yes"})
    assert not Suppression.objects.exists()
    assert send(new(to=["jane@x.org"])) == 1


def test_hashes_are_rewritten_under_the_new_key(
    suppressing: Any, sandbox: Sandbox
) -> None:
    suppress("jane@x.org", reason="complained")
    call_command("turbosmtp_erase", "jane@x.org", no_input=True)
    change_secret_key(suppressing)
    for _ in range(2):
        with pytest.raises(RecipientsRefused):
            send(new(to=["jane@x.org"]))
        # Later, the old key is removed.
        suppressing.SECRET_KEY_FALLBACKS = []


def test_a_hash_that_cannot_be_rewritten_still_suppresses(
    suppressing: Any, sandbox: Sandbox, caplog: Any
) -> None:
    suppress("jane@x.org", reason="complained")
    call_command("turbosmtp_erase", "jane@x.org", no_input=True)
    change_secret_key(suppressing)

    def refuse(execute: Any, sql: str, *arguments: Any) -> Any:
        if sql.startswith("UPDATE"):
            raise OperationalError("read only")
        return execute(sql, *arguments)

    with connection.execute_wrapper(refuse), pytest.raises(RecipientsRefused):
        send(new(to=["jane@x.org"]))
    assert sandbox.requests == []
    assert "could not be renewed" in caplog.text
    assert "could not be read" not in caplog.text


def test_without_a_secret_key(suppressing: Any, sandbox: Sandbox) -> None:
    suppress("jane@x.org")
    suppressing.SECRET_KEY = ""
    suppressing.SECRET_KEY_FALLBACKS = []
    suppressing.TURBOSMTP |= {"LOG": False}
    with pytest.raises(RecipientsRefused):
        send(new(to=["jane@x.org"]))
    Suppression.objects.all().delete()
    assert send(new(to=["jane@x.org"])) == 1


def test_sending_again_checks_suppressions(
    suppressing: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    sandbox.add_fault("nocredit", times=1)
    send(new(to=["jane@x.org"]), fail_silently=True)
    row = Message.objects.get()
    suppress("jane@x.org")
    url = f"/admin/turbosmtp/message/{row.pk}/resend/"
    form = {"decision": 0, "to": 0}
    answer = admin_client.post(url, form, follow=True)
    assert "jane@x.org: This address is suppressed" in answer.text
    assert sandbox.messages == []
    assert Message.objects.count() == 1


class TestCommand:
    def run(self, *arguments: str) -> str:
        out = StringIO()
        call_command("turbosmtp_suppressions", *arguments, stdout=out)
        return out.getvalue()

    def test_add_list_and_remove(self) -> None:
        out = self.run("add", "Jane@X.org", "joe@x.org", "--note", "called us")
        assert "2 were added; 0 were already listed." in out
        assert "0 were added; 1 were already listed." in self.run("add", "JANE@x.org")
        assert "jane@x.org\tmanual\t" in self.run("list")
        assert self.run("list", "--reason", "bounced") == ""
        assert "1 of 2 were removed" in self.run("remove", "jane@X.org", "no@x.org")
        assert Suppression.objects.get().note == "called us"

    def test_export_and_import(self, tmp_path: Any) -> None:
        suppress("a@x.org", reason="complained")
        suppress("b@x.org")
        Suppression.objects.update(note='a "quote", and\na line')
        columns = ("address", "reason", "since", "note")
        before = set(Suppression.objects.values_list(*columns))
        path = tmp_path / "list.csv"
        self.run("export", str(path))
        assert self.run("export", "-").startswith("address,reason,source,since,note")
        with pytest.raises(CommandError, match="cannot be written"):
            self.run("export", str(path))
        Suppression.objects.all().delete()
        assert "2 were added" in self.run("import", str(path))
        assert before == set(Suppression.objects.values_list(*columns))

    @pytest.mark.parametrize(
        "text",
        [
            "a@x.org\nb@x.org\n",
            "\n a@x.org \n\nB@x.org",
            "Email,Name\na@x.org,A\nb@x.org,B",
        ],
    )
    def test_import_of_addresses_alone(self, text: str, tmp_path: Any) -> None:
        path = tmp_path / "list.txt"
        path.write_text(text)
        assert "2 were added" in self.run("import", str(path), "--reason", "bounced")
        rows = Suppression.objects.order_by("address").values_list("address", "reason")
        assert list(rows) == [("a@x.org", "bounced"), ("b@x.org", "bounced")]

    def test_invalid_input_suppresses_no_address(self, tmp_path: Any) -> None:
        path = tmp_path / "list.csv"
        path.write_text(
            "address,since\na@x.org,\nnobody,\nb@x.org,yesterday\nc@x.org,\n"
        )
        with pytest.raises(CommandError, match="2 could not be read") as caught:
            self.run("import", str(path))
        assert "'nobody'" in str(caught.value)
        assert "yesterday" in str(caught.value)
        found = set(Suppression.objects.values_list("address", flat=True))
        assert found == {"a@x.org", "c@x.org"}

    @pytest.mark.parametrize(
        "text",
        [
            "\ufeffaddress,reason\na@x.org,COMPLAINED\nb@x.org,Bounced\n",
            "address;reason\na@x.org;complained\nb@x.org;bounced\n",
            "address\treason\na@x.org\tcomplained\nb@x.org\tbounced\n",
            # Amazon SES, Mailgun, SendGrid, SparkPost, turboSMTP.
            (
                "EmailAddress,Reason,LastUpdateTime\n"
                "a@x.org,COMPLAINT,2026-01-02T03:04:05Z\nb@x.org,BOUNCE,\n"
            ),
            (
                "address,code,error,created_at,type\n"
                'a@x.org,,,"Fri, 21 Oct 2011 11:02:55 UTC",complaints\n'
                "b@x.org,550,no such user,,bounces\n"
            ),
            (
                "email,created,reason,status\na@x.org,1700000000,x,Spam Report\n"
                "b@x.org,1700000000,550 5.1.1 No such user,5.1.1\n"
            ),
            (
                "recipient,type,description\na@x.org,spam_complaint,\n"
                "b@x.org,Hard Bounce,550\n"
            ),
            (
                "Status;Subject;From;To;Date;Reason\n"
                "spam;Hi;s@x.com;a@x.org;2026-01-02 03:04:05;reported\n"
                "bounce;Hi;s@x.com;b@x.org;2026-01-02 03:04:05;550 unknown\n"
            ),
        ],
    )
    def test_import_from_other_services(
        self, text: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "list.csv"
        path.write_text(text, "utf-8")
        assert "2 were added" in self.run("import", str(path))
        rows = Suppression.objects.order_by("address")
        expected = [("a@x.org", "complained"), ("b@x.org", "bounced")]
        assert list(rows.values_list("address", "reason")) == expected
        Suppression.objects.all().delete()
        # The same from standard input.
        stdin = io.TextIOWrapper(io.BytesIO(path.read_bytes()), "latin-1")
        monkeypatch.setattr("sys.stdin", stdin)
        assert "2 were added" in self.run("import", "-")

    def test_bad_lines_are_reported_and_others_imported(self, tmp_path: Any) -> None:
        lines = [f"p{number}@x.org".encode() for number in range(3_000)]
        lines[10] = b"nobody"
        lines[20] = b'"p20@x.org'
        lines[30] = b"\xff\xfe@x.org"
        lines[40] = b"a\0b@x.org"
        lines[2_999] = b'"'
        path = tmp_path / "list.txt"
        path.write_bytes(b"\n".join(lines))
        with pytest.raises(CommandError, match="3 could not be read") as caught:
            self.run("import", str(path))
        numbers = [int(n) for n in re.findall(r"Line (\d+):", str(caught.value))]
        # An unclosed quotation mark is ignored: it does not include the lines below.
        assert numbers == [11, 31, 41]
        assert Suppression.objects.count() == 2_996

    def test_an_export_has_no_formulas(self, tmp_path: Any) -> None:
        Suppression.objects.create(
            address="+jane@x.org", source="=cmd", note="a;=1\n@SUM(A1)"
        )
        path = tmp_path / "list.csv"
        self.run("export", str(path))
        assert "'+jane@x.org" in path.read_text()
        assert "'=cmd" in path.read_text()
        before = Suppression.objects.values("address", "source", "note").get()
        Suppression.objects.all().delete()
        assert "1 were added" in self.run("import", str(path))
        assert Suppression.objects.values("address", "source", "note").get() == before

    def test_a_missing_file(self, tmp_path: Any) -> None:
        with pytest.raises(CommandError, match="cannot be read"):
            self.run("import", str(tmp_path / "none"))


class TestLetters:
    """No database treats é as e, or ß as s."""

    def test_similar_letters_are_different_addresses(
        self, suppressing: Any, sandbox: Sandbox
    ) -> None:
        suppress("josé@x.org")
        suppress("zoe@x.org")
        message = new(to=["jose@x.org", "zoe@x.org"])
        send(message)
        statuses = message.turbosmtp_status.recipients
        assert statuses["zoe@x.org"].status == "rejected"
        assert statuses["jose@x.org"].status == "sent"

    def test_erasing_one_leaves_the_other(
        self, suppressing: Any, sandbox: Sandbox
    ) -> None:
        # turboSMTP accepts no such local part, but rows of refused messages have it.
        for name in ("jose", "josé", "strasse", "straße"):
            alone = new(to=[f"{name}@x.org"], body="Hello")
            shared = new(to=[f"{name}@x.org", "all@x.org"], from_email=f"{name}@x.org")
            send(alone, shared, fail_silently=True)
        for name in ("jose", "strasse"):
            call_command("turbosmtp_erase", f"{name}@x.org", no_input=True)
        kept = Message.objects.order_by("pk").values_list("first_recipient", flat=True)
        erased = "(erased)"
        names = [erased, "josé@x.org", "josé@x.org", erased, *["straße@x.org"] * 2]
        assert list(kept) == names
        senders = Message.objects.filter(recipient_count=2).order_by("pk")
        expected = [erased, "josé@x.org", erased, "straße@x.org"]
        assert [row.from_email for row in senders] == expected

    def test_tags_are_counted_once_each(
        self, suppressing: Any, sandbox: Sandbox, admin_client: Client
    ) -> None:
        for tag in ("Shop", "shop", "café", "cafe"):
            message: Any = new()
            message.tags = [tag, f"{tag}2"]
            send(message)
        context = admin_client.get("/admin/turbosmtp/message/dashboard/").context
        [table] = [table for table in context["tables"] if table["name"] == "tags"]
        totals = {str(row["label"]): row["total"] for row in table["rows"]}
        tags = ["Shop", "shop", "café", "cafe"]
        assert totals == {name: 1 for tag in tags for name in (tag, f"{tag}2")}
        url = "/admin/turbosmtp/message/"
        assert admin_client.get(url, {"tag": "Shop"}).context["cl"].result_count == 1


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"reason__exact": "bounced"}, {200}),
        ({"q": "a\0@x.org"}, {200}),
        ({"reason__exact": "bounced\0"}, {400}),
        ({"reason__regex": "(a+)+$"}, {400}),
        ({"since__year": "-1"}, {400}),
    ],
)
def test_lookups_in_the_url(
    query: dict[str, str], status: set[int], suppressing: Any, admin_client: Client
) -> None:
    suppress("a@x.org")
    assert admin_client.get(ADMIN, query).status_code in status


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a\0b@x.org,,", "a"),
        ("a" * 400 + "@x.org,,", "characters"),
        ("a@" + "b." * 200 + "org,,", "a@"),
        ("a@x.org,,0001-01-01T00:00Z", "not between 1990 and today"),
        ("a@x.org,,9999-12-31T23:59-14:00", "not between 1990 and today"),
        ("a@x.org,,2026-02-31T00:00Z", "not a time with a time zone"),
        ("erased:nothing,,", "erased:nothing"),
    ],
)
def test_lines_that_cannot_be_imported(
    line: str, said: str, suppressing: Any, tmp_path: Any, admin_client: Client
) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"address,source,since\n{line}\ngood@x.org,{'s' * 300},\n")
    with pytest.raises(CommandError, match="1 could not be read") as caught:
        call_command("turbosmtp_suppressions", "import", str(path), stdout=StringIO())
    assert said in str(caught.value)
    row = Suppression.objects.get()
    assert (row.address, row.source) == ("good@x.org", "s" * 100)
    assert admin_client.get(ADMIN).status_code == 200
