"""Helpers for the tests of a project that sends through turboSMTP (docs/testing.rst).

Django's test runners replace the e-mail backend with one that has no
``turbosmtp_status``, signals and errors. `use_outbox` replaces it with a backend that
does everything except send, and `use_sandbox` sends to a simulated turboSMTP. For
pytest, there are fixtures: ``pytest_plugins = ["django_turbosmtp.testing.fixtures"]``.
"""

from django_turbosmtp.testing.backend import OutboxBackend
from django_turbosmtp.testing.context import use_outbox, use_sandbox
from django_turbosmtp.testing.mixins import OutboxMixin, SandboxMixin
from django_turbosmtp.testing.outbox import Outbox

__all__ = [
    "Outbox",
    "OutboxBackend",
    "OutboxMixin",
    "SandboxMixin",
    "use_outbox",
    "use_sandbox",
]
