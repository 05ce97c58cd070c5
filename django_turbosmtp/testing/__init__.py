"""For the tests of a project that sends through turboSMTP (docs/testing.rst).

Django's test runners replace the e-mail backend: ``turbosmtp_status``, signals and
errors are then missing. `use_outbox` puts one in its place that does all but send, and
`use_sandbox` sends to a stand-in for turboSMTP. pytest has both as fixtures, with
``pytest_plugins = ["django_turbosmtp.testing.fixtures"]``.
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
