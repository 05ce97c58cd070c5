"""A simulated turboSMTP for development and tests, with an inbox in the browser.

It shares no code with the rest of the package, so that an independent implementation
checks the requests of the package.
"""

from __future__ import annotations

from django_turbosmtp.sandbox.server import Sandbox
from django_turbosmtp.sandbox.state import Fault, Received, RequestRecord

__all__ = ["Fault", "Received", "RequestRecord", "Sandbox"]
