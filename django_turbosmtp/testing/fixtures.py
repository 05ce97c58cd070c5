"""Fixtures for pytest: ``pytest_plugins = ["django_turbosmtp.testing.fixtures"]``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from django_turbosmtp.testing.context import use_outbox, use_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_turbosmtp.sandbox import Sandbox
    from django_turbosmtp.testing.outbox import Outbox


@pytest.fixture
def turbosmtp_outbox() -> Iterator[Outbox]:
    """An empty outbox."""
    with use_outbox() as outbox:
        yield outbox


@pytest.fixture
def turbosmtp_sandbox() -> Iterator[Sandbox]:
    """An empty sandbox, to which mail is sent."""
    with use_sandbox() as sandbox:
        yield sandbox
