"""Worlds: settings of real sites. ``tests/log`` must pass in each of them.

``pytest --world NAME`` runs the tests in one of them. Except in the plain world, each
test commits its transactions, and may use every alias.
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
    keys of ``TURBOSMTP``. ``alias``: the database of the log. ``engines``: the database
    engines for which the world differs from the plain one.
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


#: Options that make a connection of each engine read-only.
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
        # Not for SQLite, which has one writer, so the test would wait for itself.
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
    """Return the name of the world from the command line.

    It is read before pytest reads its options, because Django's settings depend on it.
    Processes of pytest-xdist find it in the environment.
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
#: The connection of the log, in the current thread.
connection: Any = ConnectionProxy(connections, WORLD.alias)


class OwnDatabaseRouter:
    """The router of a site whose log is in another database.

    It ignores LOG_USING: if a query of the package does not specify its database, the
    router selects "default", which has no such tables. Queries of the tests, which do
    not specify it either, use the log's database.
    """

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        is_of_log = model._meta.app_label == "turbosmtp"
        return WORLD.alias if is_of_log and is_asked_by_a_test() else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return (app_label == "turbosmtp") == (db == WORLD.alias)


class ReplicaRouter:
    """The router of Django's documentation about several databases."""

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
    """Return whether a test, not a view or the package, evaluates the query."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if any(part in name for part in _SITE):
            return False
        if Path(name).is_relative_to(_TESTS) and name != __file__:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
