"""Composes the example's mail: plain Django, and two attributes."""

from email.message import MIMEPart
from email.mime.image import MIMEImage
from pathlib import Path

import django
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string

FILES = Path(__file__).resolve().parent / "files"
PICTURE = FILES / "parcel.png"
PICTURE_ID = "parcel"
ATTACHMENT = FILES / "prices.pdf"
# Shown to the recipient; it does not need to be valid in a file system.
ATTACHMENT_NAME = "Prices (café).pdf"


def compose(
    *, to: str, subject: str, text: str, with_files: bool, parcel: int | None = None
) -> EmailMultiAlternatives:
    """Return a message with a text and an HTML body, about a parcel."""
    message = EmailMultiAlternatives(subject=subject, body=text, to=[to])
    # The names are those of django-anymail. The first tag is turboSMTP's campaign.
    # Metadata is stored in the log and returned with each event, but not sent.
    message.tags = ["parcel"]
    if parcel is not None:
        message.metadata = {"parcel": parcel}
    context = {"text": text, "picture_id": PICTURE_ID if with_files else ""}
    html = render_to_string("example/mail.html", context)
    message.attach_alternative(html, "text/html")
    if with_files:
        message.attach(inline_picture(PICTURE, PICTURE_ID))
        message.attach(ATTACHMENT_NAME, ATTACHMENT.read_bytes(), "application/pdf")
    return message


def inline_picture(path: Path, content_id: str) -> MIMEPart | MIMEImage:
    """Return a PNG that the HTML shows with ``<img src="cid:content_id">``."""
    content = path.read_bytes()
    # Django 6.0 deprecates MIMEImage for MIMEPart, which 5.2 does not support.
    if django.VERSION >= (6, 0):
        part = MIMEPart()
        part.set_content(
            content,
            maintype="image",
            subtype="png",
            disposition="inline",
            filename=path.name,
            cid=f"<{content_id}>",
        )
        return part
    image = MIMEImage(content, "png")
    image.add_header("Content-ID", f"<{content_id}>")
    image.add_header("Content-Disposition", "inline", filename=path.name)
    return image
