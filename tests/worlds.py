"""Worlds: the settings of real sites, in each of which ``tests/log`` has to pass.

``pytest --world NAME`` runs the tests in one of them. Outside the plain world each test
commits for real, and uses every alias.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import connections
from django.utils.connection import ConnectionProxy

ENGINE = os.environ.get("TEST_DATABASE", "sqlite")
ALL = ("sqlite", "postgresql", "mariadb")
SERVERS = ("postgresql", "mariadb")

Settings = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class World:
    """Settings of a site.

    ``change``: changes the settings of the tests before Django reads them. ``options``:
    what the site has in ``TURBOSMTP``. ``alias``: of the log. ``engines``: where it
    differs from the plain world.
    """

    about: str
    change: Callable[[Settings], None] = lambda _: None
    options: dict[str, Any] = field(default_factory=dict)
    alias: str = "default"
    engines: tuple[str, ...] = ALL


def _add_own_database(settings: Settings) -> None:
    database = settings["DATABASES"]["default"]
    name = f"{database['NAME']}_log"
    own = {**database, "NAME": name, "TEST": {**database.get("TEST", {})}}
    if ENGINE == "sqlite":
        own["TEST"]["NAME"] = database["TEST"]["NAME"].replace(".sqlite3", ".log")
    settings["DATABASES"]["log"] = own
    settings["DATABASE_ROUTERS"] = ["tests.worlds.OwnDatabaseRouter"]


#: Options with which a connection of each engine cannot write.
_READ_ONLY = {
    "sqlite": {"init_command": "PRAGMA synchronous=OFF; PRAGMA query_only=ON"},
    "postgresql": {"options": "-c default_transaction_read_only=on"},
    "mariadb": {"init_command": "SET SESSION TRANSACTION READ ONLY"},
}


def _add_replica(settings: Settings) -> None:
    settings["DATABASES"]["replica"] = {
        **settings["DATABASES"]["default"],
        "OPTIONS": _READ_ONLY[ENGINE],
        "TEST": {"MIRROR": "default"},
    }
    settings["DATABASE_ROUTERS"] = ["tests.worlds.ReplicaRouter"]


def _set_naive_times(settings: Settings) -> None:
    settings |= {"USE_TZ": False, "TIME_ZONE": "Pacific/Auckland"}


def _set_each_database(**changes: Any) -> Callable[[Settings], None]:
    def change(settings: Settings) -> None:
        for database in settings["DATABASES"].values():
            database.update(changes)

    return change


WORLDS = {
    "plain": World(about="One database, times in UTC, fresh connections."),
    "second_alias": World(
        about="LOG_USING is a second alias of the same database (docs/log.rst).",
        options={"LOG_USING": "second"},
        alias="second",
        # Not for SQLite, whose one writer would wait for itself.
        engines=SERVERS,
    ),
    "own_database": World(
        about="LOG_USING is another database, which alone has the tables of the log.",
        change=_add_own_database,
        options={"LOG_USING": "log"},
        alias="log",
    ),
    "replica": World(
        about="A router reads from a replica, which refuses to write.",
        change=_add_replica,
    ),
    "naive_times": World(
        about="USE_TZ is False, and the site is twelve or thirteen hours before UTC.",
        change=_set_naive_times,
    ),
    "closed_connections": World(
        about="The server has closed each connection since the last request.",
        change=_set_each_database(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True),
        engines=SERVERS,
    ),
    "atomic_requests": World(
        about="Each request is a transaction.",
        change=_set_each_database(ATOMIC_REQUESTS=True),
    ),
    "pgbouncer": World(
        about="pgbouncer pools transactions, so that there is no server-side cursor.",
        change=_set_each_database(DISABLE_SERVER_SIDE_CURSORS=True),
        engines=("postgresql",),
    ),
    "asgi": World(about="Pages and the webhook are served by Django's ASGI handler."),
}


def choose_world() -> str:
    """Return the name of the world that was asked for on the command line.

    Before pytest has read its options, for Django's settings depend on it. Processes of
    pytest-xdist find it in the environment.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--world", default=os.environ.get("TEST_WORLD", "plain"))
    name: str = parser.parse_known_args(sys.argv[1:])[0].world
    if name not in WORLDS:
        raise SystemExit(f"There is no world {name!r}, only {', '.join(WORLDS)}.")
    if ENGINE not in WORLDS[name].engines:
        raise SystemExit(f"The world {name!r} is the plain one on {ENGINE}.")
    os.environ["TEST_WORLD"] = name
    return name


NAME = choose_world()
WORLD = WORLDS[NAME]
#: The connection of the log in this thread.
connection: Any = ConnectionProxy(connections, WORLD.alias)


class OwnDatabaseRouter:
    """As a site has it, whose log is in another database.

    It knows nothing of LOG_USING: a query of the package that does not name its
    database goes to "default", which has not got the tables. Those of the tests, which
    do not name it either, go to the log.
    """

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        is_of_log = model._meta.app_label == "turbosmtp"
        return WORLD.alias if is_of_log and is_asked_by_a_test() else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return (app_label == "turbosmtp") == (db == WORLD.alias)


class ReplicaRouter:
    """As in Django's documentation of several databases."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_relation(self, *_: Any, **hints: Any) -> bool:
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "default"


_TESTS = Path(__file__).parent
_SITE = ("/django/core/handlers/", "/django_turbosmtp/")


def is_asked_by_a_test() -> bool:
    """Return whether a test evaluates the query: no view and no code of the package."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if any(part in name for part in _SITE):
            return False
        if Path(name).is_relative_to(_TESTS) and name != __file__:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
