"""``demo.py --check``: compares arrived messages with the sent ones, byte by byte."""

from __future__ import annotations

import email
import email.policy
import html
import json
import re
import time
from typing import TYPE_CHECKING

from demo_kit.browser import fetch, send_form
from demo_kit.log import find_rows
from demo_kit.messages import ATTACHMENT_NAME, MESSAGE, PLAIN, SENDER
from demo_kit.processes import PROJECT, say

if TYPE_CHECKING:
    from pathlib import Path


#: Wait this long for events. The sandbox posts them at once, but a machine may be slow.
WEBHOOK_SECONDS = 15


def parse(raw: bytes):
    """Return a message parsed by Python's library."""
    return email.message_from_bytes(raw, policy=email.policy.default)


def expected_html(text: str) -> str:
    """Return the HTML that the example project's template renders for ``text``."""
    template = PROJECT / "example" / "templates" / "example" / "mail.html"
    source = template.read_text(encoding="utf-8")
    source = re.sub(r"{% (if picture_id|endif) %}", "", source)
    source = source.replace("{{ picture_id }}", "parcel")
    return source.replace("{{ text }}", html.escape(text))


def expected_message() -> dict:
    """Return the expected message."""
    files = PROJECT / "example" / "files"
    return {
        "subject": MESSAGE["subject"],
        "from": SENDER,
        "to": MESSAGE["to"],
        "text": MESSAGE["text"].encode(),
        "html": expected_html(MESSAGE["text"]).encode(),
        "picture": ("parcel.png", (files / "parcel.png").read_bytes()),
        "attachment": (ATTACHMENT_NAME, (files / "prices.pdf").read_bytes()),
    }


def compare(raw: bytes, expected: dict) -> list[tuple[str, bool, str]]:
    """Return the checks of an arrived message: name, result, and value found."""
    message = parse(raw)
    leaves = [part for part in message.walk() if not part.is_multipart()]
    texts = [p for p in leaves if p.get_content_type() == "text/plain"]
    pages = [p for p in leaves if p.get_content_type() == "text/html"]
    inline = [p for p in leaves if p["Content-ID"]]
    attached = [p for p in leaves if p.get_content_disposition() == "attachment"]
    checks = []

    def check(name, found, wanted):
        checks.append((name, found == wanted, "" if found == wanted else repr(found)))

    def header(name):
        return [str(value) for value in message.get_all(name) or []]

    def content(parts):
        return [part.get_payload(decode=True) for part in parts]

    def files(parts):
        return [(part.get_filename(), part.get_payload(decode=True)) for part in parts]

    check("the subject", header("Subject"), [expected["subject"]])
    check("the sender", header("From"), [expected["from"]])
    check("the recipient", header("To"), [expected["to"]])
    check("no other recipients", header("Cc") + header("Bcc"), [])
    check("the text", content(texts), [expected["text"]])
    if "html" not in expected:
        check("no parts except the text", len(leaves), 1)
        return checks
    # The reference may be renamed, if the picture's id is renamed, too.
    cids = [part["Content-ID"].strip().strip("<>") for part in inline]
    page = (content(pages) or [b""])[0]
    references = re.findall(rb'"cid:([^"]*)"', page)
    resolved = [reference.decode() in cids for reference in references]
    check("the HTML refers to one picture, which is attached", resolved, [True])
    written = [re.sub(rb'"cid:[^"]*"', b'"cid:parcel"', p) for p in content(pages)]
    check("the HTML", written, [expected["html"]])
    check("the picture, its name and bytes", files(inline), [expected["picture"]])
    check(
        "the attachment, its name and bytes", files(attached), [expected["attachment"]]
    )
    check("no other parts", len(leaves), 4)
    return checks


def compare_row(rows: list[dict], newest: dict) -> list[tuple[str, bool, str]]:
    """Return the checks that compare the log's row with the inbox."""
    if len(rows) != 1:
        return [("the log has one row for it", False, repr(rows))]
    [row] = rows
    pairs = {
        "outcome": (row["outcome"], "accepted"),
        "the event of the webhook": (row["status"], "delivered"),
        "subject": (row["subject"], newest["subject"]),
        "reference id": (row["reference_id"], newest["reference_id"]),
        "text": (row["text"], newest["text"]),
        "recipients": (
            row["to"],
            [(*pair, "delivered", newest["mid"]) for pair in newest["recipients"]],
        ),
        "attachments": (
            sorted(row["attachments"]),
            sorted((f["name"], f["size"], f["sha256"]) for f in newest["attachments"]),
        ),
    }
    return [
        (f"the log's row: {name}", found == wanted, repr(found))
        for name, (found, wanted) in pairs.items()
    ]


def wait_for_delivery(database: Path, mid: str) -> list[dict]:
    """Return the rows of a message after its delivery event has arrived."""
    until = time.monotonic() + WEBHOOK_SECONDS
    while True:
        rows = find_rows(database, mid)
        is_delivered = [row["status"] for row in rows] == ["delivered"]
        if is_delivered or time.monotonic() > until:
            return rows
        time.sleep(0.05)


def check_delivery(sandbox: str, site: str, database: Path) -> bool:
    """Send both messages, print all checks, and return whether all were successful.

    The checks use the message that arrived in the sandbox.
    """
    plain = {"subject": PLAIN["subject"], "from": SENDER, "to": PLAIN["to"]}
    plain["text"] = PLAIN["text"].encode()
    runs = (
        ("EmailMultiAlternatives", "/send/", MESSAGE, expected_message()),
        ("send_mail()", "/send-plain/", PLAIN, plain),
    )
    good = True
    for number, (name, path, fields, expected) in enumerate(runs, start=1):
        say(f"{name}:")
        page = send_form(site, path, fields | {"with_files": "on"})
        listed = json.loads(fetch(f"{sandbox}/sandbox/messages"))
        total = listed["total_accepted"]
        checks = [("exactly one message was accepted", total == number, str(total))]
        if listed["results"]:
            newest = listed["results"][0]
            raw = fetch(f"{sandbox}/sandbox/messages/{newest['mid']}/raw")
            checks += compare(raw, expected)
            envelope = newest["recipients"]
            sent_to = [["to", fields["to"]]]
            checks.append(("the envelope", envelope == sent_to, repr(envelope)))
            rows = wait_for_delivery(database, newest["mid"])
            checks += compare_row(rows, newest)
            if path == "/send/":
                is_shown = newest["mid"] in page
                checks.append(("the page shows its mid", is_shown, newest["mid"]))
        for label, held, found in checks:
            detail = "" if held else f"; found: {found[:300]}"
            say(f"  {'ok    ' if held else 'FAILED'}  {label}{detail}")
        good = good and len(checks) > 1 and all(held for _, held, _ in checks)
    return good
