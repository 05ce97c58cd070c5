"""Mixins for Django's TestCase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_turbosmtp.testing.context import use_outbox, use_sandbox

if TYPE_CHECKING:
    from unittest import TestCase

    from django_turbosmtp.sandbox import Sandbox
    from django_turbosmtp.testing.outbox import Outbox

    _Base = TestCase
else:
    _Base = object


class OutboxMixin(_Base):
    """Gives each test an empty outbox as ``self.outbox``."""

    outbox: Outbox

    def setUp(self) -> None:
        super().setUp()
        self.outbox = self.enterContext(use_outbox())


class SandboxMixin(_Base):
    """Gives each test a new sandbox as ``self.sandbox``."""

    sandbox: Sandbox

    def setUp(self) -> None:
        super().setUp()
        self.sandbox = self.enterContext(use_sandbox())
