"""Fixtures for the tests of the log, and the worlds that they run in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests import worlds
from tests.log.posting import SECRET
from tests.log.queueing import turn_queue_on
from tests.log.surroundings import SURROUNDINGS, clear_tables
from tests.serving import REFUSE

_HERE = Path(__file__).parent
_USE_DATABASE = {"db", "transactional_db"}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "except_in(*worlds, reason): the test is about another setting"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Use real commits outside the plain world, and skip tests of other worlds."""
    if worlds.NAME == "plain":
        return
    left_out = []
    for item in items:
        assert isinstance(item, pytest.Function)
        if not item.path.is_relative_to(_HERE):
            continue
        if any(worlds.NAME in mark.args for mark in item.iter_markers("except_in")):
            left_out.append(item)
        elif item.get_closest_marker("django_db") or _USE_DATABASE & {
            *item.fixturenames
        }:
            mark = pytest.mark.django_db(transaction=True, databases="__all__")
            item.add_marker(mark, append=False)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session", autouse=True)
def _clear_quickly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if worlds.NAME != "plain":
            patch.setattr(
                "django.test.TransactionTestCase._fixture_teardown", clear_tables
            )
        yield


@pytest.fixture(scope="session", autouse=True)
def _surroundings(request: pytest.FixtureRequest) -> Iterator[None]:
    """Apply everything in the world that is not a setting."""
    enter = SURROUNDINGS.get(worlds.NAME)
    if enter is None:
        yield
        return
    request.getfixturevalue("django_db_setup")
    blocker = request.getfixturevalue("django_db_blocker")
    with enter(blocker):
        yield


@pytest.fixture(autouse=True)
def _remove_stored_files() -> Iterator[None]:
    """Remove the files that a test has stored, so that the next test has none."""
    folder = Path(settings.STORAGES["turbosmtp"]["OPTIONS"]["location"])
    yield
    if folder.is_dir():
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)


@pytest.fixture
def wire(server: Any, settings: Any) -> Any:
    """A server that refuses at first, and records requests; the log is on."""
    settings.TURBOSMTP = {**settings.TURBOSMTP, "LOG": True}
    server.answer = REFUSE
    return server


@pytest.fixture
def queued(logged: Any) -> Any:
    """Settings with a queue; its tasks are only collected."""
    turn_queue_on(logged)
    return logged


@pytest.fixture
def tracked(logged: Any) -> Any:
    """Settings with the log on, and a webhook secret."""
    logged.TURBOSMTP |= {"WEBHOOK_SECRET": SECRET}
    return logged
