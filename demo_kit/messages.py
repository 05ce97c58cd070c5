"""The two messages that the demo sends, and what of them has to arrive."""

from __future__ import annotations

MESSAGE = {
    "to": "you@example.com",
    "subject": "Your parcel: café & crème ✓",
    # What mail programs like to damage: a lone full stop, "From ", tabs, spaces at
    # the end of a line, a very long line, characters beyond ASCII.
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
