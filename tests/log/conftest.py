"""Fixtures for the tests of the log."""

from __future__ import annotations

from typing import Any

import pytest

from tests.log.posting import SECRET


@pytest.fixture
def tracked(logged: Any, settings: Any) -> Any:
    """A project whose log is on, and whose webhook is open."""
    settings.TURBOSMTP |= {"WEBHOOK_SECRET": SECRET}
    return settings
