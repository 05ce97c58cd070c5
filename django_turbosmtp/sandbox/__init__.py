"""A stand-in turboSMTP for development and tests, with an inbox in the browser.

It shares no code with the rest of the package, so that what the package believes
about the wire is read by something that did not write it.
"""

from __future__ import annotations

from django_turbosmtp.sandbox.server import Sandbox
from django_turbosmtp.sandbox.state import Fault, Received, RequestRecord

__all__ = ["Fault", "Received", "RequestRecord", "Sandbox"]
