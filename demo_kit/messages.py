"""The two messages of the demo, and their expected contents."""

from __future__ import annotations

MESSAGE = {
    "to": "you@example.com",
    "subject": "Your parcel: café & crème ✓",
    # Text that mail programs may damage: a single full stop, "From ", tabs, spaces at
    # the end of a line, a very long line, characters that are not ASCII.
    "text": "Hello,\n\n.\nFrom our shop: 50 % off, “quoted” & <tagged>, 'single'.\n"
    "\ttab, and spaces at the end   \n" + "long " * 300 + "\n日本語 🚚\n",
}
PLAIN = {
    "to": "you@example.com",
    "subject": "Plain text by send_mail()",
    "text": "One line, and another:\n=3D is not an equals sign.\n",
}
SENDER = "Example Shop <shop@example.com>"
ATTACHMENT_NAME = "Prices (café).pdf"
