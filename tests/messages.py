"""Hard messages: everything that Django can build and that must arrive.

Each entry is a function that builds a new message. The test sends it, and compares the
delivered mail with the one that Django's SMTP backend transmits.
"""

from __future__ import annotations

import email
from collections.abc import Callable
from datetime import UTC, datetime
from email.charset import QP, Charset
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

from django.core.mail import EmailAttachment, EmailMessage, EmailMultiAlternatives
from django.utils.functional import lazystr

from django_turbosmtp._lib.versions import MODERN_MIME

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
Build = Callable[[], EmailMessage]
MESSAGES: dict[str, Build] = {}


def hard(name: str) -> Callable[[Build], Build]:
    def register(build: Build) -> Build:
        assert name not in MESSAGES
        MESSAGES[name] = build
        return build

    return register


def new(**kwargs: Any) -> EmailMultiAlternatives:
    encoding = kwargs.pop("encoding", None)
    subtype = kwargs.pop("content_subtype", None)
    defaults: dict[str, Any] = {
        "subject": "Subject",
        "body": "Body",
        "from_email": "shop@example.com",
        "to": ["to@example.org"],
    }
    message = EmailMultiAlternatives(**{**defaults, **kwargs})
    if encoding:
        message.encoding = encoding
    if subtype:
        message.content_subtype = subtype
    return message


def picture(cid: str, data: bytes = PNG, *, name: str = "a.png") -> Any:
    """Return an inline picture in the preferred form of this Django."""
    if MODERN_MIME:
        from email.message import MIMEPart

        part = MIMEPart()
        part.set_content(
            data, "image", "png", cid=f"<{cid}>", disposition="inline", filename=name
        )
        return part
    image = MIMEImage(data, "png")
    image.add_header("Content-ID", f"<{cid}>")
    image.add_header("Content-Disposition", "inline", filename=name)
    return image


def with_pictures(html: str, *cids: str) -> EmailMultiAlternatives:
    message = new(alternatives=[(html, "text/html")])
    for number, cid in enumerate(cids):
        message.attach(picture(cid, PNG + bytes([number]), name=f"{number}.png"))
    return message


def add(name: str, **kwargs: Any) -> None:
    MESSAGES[name] = lambda: new(**kwargs)


# Bodies.
add("text")
add("html", alternatives=[("<p>Hé <b>you</b></p>", "text/html")])
add("html only", body="", alternatives=[("<p>Hé</p>", "text/html")])
add("html by subtype", body="<p>Hé</p>", content_subtype="html")
add("text by another subtype", body="# Hé", content_subtype="markdown")
add("empty", subject="", body="")
add("unicode", subject="Zażółć 日本語 😀", body="Zażółć gęślą jaźń 日本語 العربية 😀\n")
add(
    "long lines", body="Comment ça va? " * 500, alternatives=[("x" * 5000, "text/html")]
)
add("line ends", body="one\r\ntwo\nthree\n\n\nfour")
add("leading dots and From", body="From here\n.\n..\n>From there\n")
add("lazy", subject=lazystr("Sübject"), body=lazystr("Bödy"), to=[lazystr("a@b.com")])
add("trailing spaces", body="a  \n b\t\n")
for charset in ("iso-8859-1", "iso-8859-15", "us-ascii", "utf-16", "shift_jis"):
    add(f"charset {charset}", body="plain ASCII", encoding=charset)
add("charset latin, text", body="déjà vu", subject="café", encoding="iso-8859-1")
add("charset koi8-r", body="Привет", subject="Привет", encoding="koi8-r")
_quoted = Charset("utf-8")
_quoted.body_encoding = QP
if not MODERN_MIME:
    add("charset object", body="Hé", encoding=_quoted)

# Subjects.
add("subject encoded", subject="=?utf-8?q?caf=C3=A9?= time")
add("subject of 700", subject="é" * 700)
add("subject, unknown words", subject="=?x-unknown?q?y?= z")
add("reply-to header, empty", headers={"Reply-To": ""})
add("from in capitals", from_email="Shop@Example.COM")
add("subject with tab", subject="a\tb")
add("subject with spaces", subject="a   b")

# Names and addresses.
NAMES = {
    "comma": '"Doe, Jane"',
    "quotes": r'"Jane \"JD\" Doe"',
    "backslash": r'"Jane \\ Doe"',
    "full stop": "John Q. Public",
    "quoted full stop": '"Acme Inc."',
    "emoji": "Jane 😀 Doe",
    "scripts": "Ζωή Ωμέγα 日本 العربية",
    "comma, unicode": '"Dóe, Jane"',
    "encoded": "=?utf-8?q?J=C3=A4ne_Doe?=",
    "semicolon": '"Doe; Jane"',
    "colon": '"Sales: Doe"',
    "apostrophe": "Jane O'Doe",
    "at sign": '"jane@example.net"',
    "brackets": '"Jane (HR) [x] <y>; z:"',
    "long": "Ünïcode " * 30,
    "single letter": "J",
    "digits": "24 Seven",
}
if not MODERN_MIME:  # Django 6 refuses it; this package accepts it.
    NAMES["encoded in quotes"] = '"=?utf-8?b?w6k=?="'
for label, text in NAMES.items():
    person = f"{text} <jane@example.net>"
    add(f"from {label}", from_email=person)
    add(f"to {label}", to=[person, "other@example.org"])
    add(f"cc {label}", cc=[person, "other@example.org"])
    add(f"bcc {label}", bcc=[person])
    add(f"reply-to {label}", reply_to=[person, "other@example.org"])
    add(f"reply-to header {label}", headers={"Reply-To": person})
    add(f"from header {label}", from_email="jane@example.net", headers={"From": person})
add("idn", from_email="a@öäü.com", to=["b@例え.jp"], cc=["Ü <c@ü.de>"], bcc=["d@ß.de"])
add("idn reply-to", reply_to=["Ünal <a@öäü.com>"])
add("angle only", from_email="<a@example.com>", to=["<b@example.com>"])
add("comment", to=["b@example.com (Bob)"])
add("quoted local part", to=['"john smith"@example.com'])
add("plus and dots", to=["first.last+tag@sub.example.com"])
add("domain literal", to=["a@[192.0.2.1]"])
add("upper case domain", to=["A.Person@EXAMPLE.ORG"])

# Recipients.
add("several", to=["a@x.org", "b@x.org"], cc=["c@x.org", "d@x.org"], bcc=["e@x.org"])
add(
    "hundreds",
    to=[f"Person {n}, Dr. <p{n}@x.org>".replace(",", "") for n in range(300)],
)
add("hundreds of blind copies", bcc=[f"p{n}@x.org" for n in range(300)])
add("only Bcc", to=[], bcc=["a@x.org", "Bé <b@x.org>"])
add("only Cc", to=[], cc=["a@x.org", "Bé <b@x.org>"])
add("copies and blind copies", to=[], cc=["a@x.org"], bcc=["b@x.org"])
add("same in to and cc", cc=["to@example.org"])
add("same in to and bcc", bcc=["To <to@example.org>"])
add("same twice in to", to=["a@x.org", "A <a@x.org>"])
add("same, other case of domain", to=["a@x.org"], bcc=["a@X.org"])
add("empty entries", cc=["", "c@x.org"], bcc=[""])
add("tuple of recipients", to=("a@x.org", "b@x.org"))

# Headers.
add("to header", headers={"To": "The list <list@example.com>"})
add("to header, group", headers={"To": "undisclosed-recipients:;"})
add("to header, the same", headers={"To": "to@example.org"})
add("cc header", cc=["c@x.org"], headers={"Cc": "Everybody <all@x.org>"})
add("from header, other address", headers={"From": "Boss <boss@example.com>"})
add("from header, lower case", headers={"from": "boss@example.com"})
add("reply-to header wins", reply_to=["a@x.org"], headers={"Reply-To": "b@x.org"})
add("several reply-to", reply_to=["a@x.org", '"B, C" <b@x.org>'])
add("date", headers={"Date": "Fri, 09 Nov 2001 01:08:47 -0000"})
add("message-id", headers={"message-ID": "<foo@example.com>"})
add("sender", headers={"Sender": "Ä <assistant@example.com>"})
add(
    "custom",
    headers={"X-Shop": "1", "x-lower": "a", "List-Unsubscribe": "<https://x.y>"},
)
add("custom, unicode", headers={"X-Shop": "Zażółć 😀 " * 20})
add("custom, encoded", headers={"X-Shop": "=?utf-8?q?caf=C3=A9?="})
add(
    "custom, long",
    headers={"References": " ".join(f"<{n}@example.com>" for n in range(90))},
)
add("custom, lazy", headers={"X-Shop": lazystr("löw")})
add("precedence", headers={"Precedence": "bulk", "Auto-Submitted": "auto-generated"})
if not MODERN_MIME:
    add("custom, number", headers={"X-Number": 5})
    add("two spellings", headers={"X-Shop": "1", "x-shop": "2"})
else:
    add("date object", headers={"Date": datetime(2020, 1, 2, 3, 4, tzinfo=UTC)})

# Attachments.
ATTACHMENTS: dict[str, tuple[Any, ...]] = {
    "bytes": ("a.bin", b"\0\1\2\xff" * 100, "application/octet-stream"),
    "text": ("a.txt", "plain\n", "text/plain"),
    "text, unicode": ("a.csv", "é;ü\n", "text/csv"),
    "text from bytes": ("a.csv", "é;ü\n".encode(), "text/csv"),
    "text, not UTF-8": ("a.txt", b"\xff\xfe\0", "text/plain"),
    "html": ("a.html", "<p>hé", "text/html"),
    "json as text": ("a.json", '{"a": 1}', "application/json"),
    "guessed": ("a.pdf", b"%PDF-1.4 \xff", None),
    "unknown type": ("a.unknownext", b"data", None),
    "no name": (None, b"data", "application/pdf"),
    "no name, text": (None, "data", "text/plain"),
    "empty": ("a.bin", b"", "application/octet-stream"),
    "non-ASCII name": ("Ünterlagen 日本.pdf", b"x", "application/pdf"),
    "name with quotes": ('a "b" c.pdf', b"x", "application/pdf"),
    "name with semicolon": ("a; b, c.pdf", b"x", "application/pdf"),
    "long name": ("n" * 200 + ".pdf", b"x", "application/pdf"),
    "type with parameters": (
        "a.ics",
        "BEGIN:VCALENDAR",
        "text/calendar; method=REQUEST",
    ),
    "svg": ("a.svg", "<svg/>", "image/svg+xml"),
    "large": ("a.bin", bytes(range(256)) * 4000, "application/zip"),
}
for label, attachment in ATTACHMENTS.items():
    if label == "text, not UTF-8":
        add(f"attachment {label}", attachments=[attachment])
    add(f"attached {label}", attachments=[attachment])
add("attachment object", attachments=[EmailAttachment("a.bin", b"x", "image/gif")])
add("same names", attachments=[("a.txt", f"{n}", "text/plain") for n in range(3)])
add("attachment only", body="", attachments=[("a.bin", b"x", "image/gif")])
add(
    "html and attachment",
    alternatives=[("<p>x", "text/html")],
    attachments=[("a.bin", b"\1", "image/gif"), ("b.txt", "b", "text/plain")],
)
for label, content in {
    "bytes": b"Subject: inner\r\n\r\nb\xc3\xb6dy",
    "text": "Subject: inner\n\nbody",
    "message": email.message_from_string("Subject: inner\n\nbody"),
}.items():
    add(f"rfc822 {label}", attachments=[("in.eml", content, "message/rfc822")])


@hard("rfc822 django message")
def _() -> EmailMessage:
    inner = new(
        subject="ïnner", body="bödy", attachments=[("a.bin", b"x", "image/gif")]
    )
    return new(attachments=[("in.eml", inner, "message/rfc822")])


# Alternatives.
add("calendar", alternatives=[("BEGIN:VCALENDAR é", "text/calendar")])
add(
    "html and calendar", alternatives=[("<p>", "text/html"), ("BEGIN", "text/calendar")]
)
add("amp", alternatives=[("<html amp4email>", "text/x-amp-html"), ("<p>", "text/html")])
add("two html", alternatives=[("<p>1", "text/html"), ("<p>2", "text/html")])
add("html body and html", content_subtype="html", alternatives=[("<p>2", "text/html")])
add("binary alternative", alternatives=[(b"\0\1", "application/x-thing")])
add("html type with charset", alternatives=[("<p>é", "text/html; charset=utf-8")])


# Inline pictures.
HTML = {
    "plain": ('<img src="cid:logo">', "logo"),
    "with domain": ('<img src="cid:logo@shop.example">', "logo@shop.example"),
    "sender's domain": ('<img src="cid:logo@example.com">', "logo@example.com"),
    "single quotes": ("<img src='cid:logo'>", "logo"),
    "no quotes": ("<img src=cid:logo>", "logo"),
    "css": ('<p style="background:url(cid:logo)">', "logo"),
    "css quoted": ("<p style=\"background:url('cid:logo')\">", "logo"),
    "css entities": ('<p style="background:url(&quot;cid:logo&quot;)">', "logo"),
    "percent": ('<img src="cid:logo%40shop">', "logo@shop"),
    "entity": ('<img src="cid:a&amp;b">', "a&b"),
    "twice": ('<img src="cid:logo"><img src="cid:logo">', "logo"),
    "prefix": ('<img src="cid:logo"><img src="cid:logo2">', "logo", "logo2"),
    "prefix, other order": ('<img src="cid:a"><img src="cid:a@b">', "a@b", "a"),
    "same local part": ('<img src="cid:a@x"><img src="cid:a@y">', "a@x", "a@y"),
    "strange": ('<img src="cid:ü%20{x}$1">', "ü {x}$1"),
    "msgid": ('<img src="cid:16.5@my.host">', "16.5@my.host"),
    "unreferenced": ("<p>nothing", "logo"),
    "one of two": ('<img src="cid:a">', "a", "b"),
    "srcset": ('<img srcset="cid:a 1x, cid:b 2x">', "a", "b"),
    "text and link": (
        '<img src="cid:logo"><a href="https://h/?q=cid:logo">cid:logo</a> cid:logo',
        "logo",
    ),
    "dangling of the sender's": (
        '<img src="cid:logo@y.com"><img src="cid:logo@example.com">',
        "logo@y.com",
    ),
    "style element": ("<style>p{background:url( 'cid:logo' )}</style>", "logo"),
    "outlook comment": ('<!--[if mso]><v:fill src="cid:a"/><![endif]-->', "a"),
    "long id": (f'<img src="cid:{"x" * 90}@h">', "x" * 90 + "@h"),
    "attribute over lines": ('<img\n  alt="a > b"\n  src = "cid:a" >', "a"),
    "upper case scheme": ('<img src="CID:logo">', "logo"),
}
for label, (page, *ids) in HTML.items():
    if not (MODERN_MIME and label == "strange"):  # Python refuses to build it.
        MESSAGES[f"inline {label}"] = lambda p=page, i=ids: with_pictures(p, *i)


@hard("inline, id twice")
def _() -> EmailMessage:
    return with_pictures('<img src="cid:a">', "a", "a")


@hard("inline and attachment")
def _() -> EmailMessage:
    message = with_pictures('<img src="cid:a">', "a")
    message.attach("b.txt", "b", "text/plain")
    return message


# Messages that build themselves.
class Signed(EmailMessage):
    """Signs the message in the form of S/MIME; it must not be changed any more."""

    def message(self, **kwargs: Any) -> Any:
        outer = MIMEMultipart("signed", protocol="application/pkcs7-signature")
        inner = MIMEText("signéd", "plain", "utf-8")
        outer.attach(inner)
        outer.attach(MIMEText("signature", "plain"))
        for name in ("Subject", "From", "To"):
            outer[name] = super().message()[name]
        return outer


class Renamed(EmailMessage):
    def recipients(self) -> list[str]:
        return ["somebody@example.org"]


@hard("signed")
def _() -> EmailMessage:
    return Signed("Signed", "x", "shop@example.com", ["to@example.org"])


@hard("own recipients")
def _() -> EmailMessage:
    return Renamed("Subject", "x", "shop@example.com", ["to@example.org"])


if not MODERN_MIME:

    class Related(EmailMultiAlternatives):
        mixed_subtype = "related"

    @hard("related by mixed_subtype")
    def _() -> EmailMessage:
        message = Related("s", "b", "shop@example.com", ["to@example.org"])
        message.attach_alternative('<img src="cid:a">', "text/html")
        message.attach(picture("a"))
        return message

    @hard("MIMEBase attachment")
    def _() -> EmailMessage:
        part = MIMEImage(PNG, "png")
        part.add_header("Content-Disposition", "attachment", filename="ü.png")
        return new(attachments=[part])

    @hard("MIMEText attachment")
    def _() -> EmailMessage:
        return new(attachments=[MIMEText("tëxt", "plain", "utf-8")])


@hard("inline, sender's domain in capitals")
def _() -> EmailMessage:
    message = with_pictures('<img src="cid:a">', "a")
    message.from_email = "Shop@Example.COM"
    return message
