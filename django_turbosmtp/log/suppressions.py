"""The addresses that must not be sent to, looked up before each send.

If they cannot be looked up, the mail is sent and the error is logged: the list protects
a reputation, but a mail that is not sent is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings as django_settings
from django.utils.crypto import salted_hmac

from django_turbosmtp._lib.interrupts import raise_interrupt
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp._lib.secrets import list_hash_keys
from django_turbosmtp.conf.log import choose_log_database, has_log
from django_turbosmtp.log.connection import describe_error, run_statements
from django_turbosmtp.log.locks import begin

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from django_turbosmtp.conf.settings import Settings
    from django_turbosmtp.models import Suppression

logger = get_logger("django_turbosmtp.log")

#: Bind at most this many values by one statement: SQLite binds 999.
_VALUES = 800


def look_up(addresses: Collection[str], settings: Settings) -> dict[str, str] | None:
    """Return those of ``addresses``, in lower case, that are suppressed, and why.

    An empty dict if SUPPRESS is False or the app not installed; None, and the error is
    logged, if the database fails.
    """
    if not (settings.suppress and addresses and has_log()):
        return {}
    try:
        alias = choose_log_database()
        return run_statements(lambda: dict(_find(sorted(addresses), alias)), alias)
    except Exception as error:  # noqa: BLE001 - whatever it is, the mail goes on
        raise_interrupt(error)
        logger.error(  # noqa: TRY400 - a traceback may hold addresses
            "The suppressed addresses could not be looked up, so the mail is sent to"
            " all of its recipients. %s: %s"
            " (If the log's tables are missing: manage.py migrate)",
            type(error).__name__,
            describe_error(error),
        )
        return None


def _find(addresses: Sequence[str], alias: str) -> Iterator[tuple[str, str]]:
    """Yield those of ``addresses`` that are suppressed, and the reason of each."""
    from django_turbosmtp.models import Suppression

    rows = Suppression.objects.using(alias).order_by()
    keys = list_hash_keys()
    chunk = _VALUES // (1 + len(keys))
    for start in range(0, len(addresses), chunk):
        part = {address: address for address in addresses[start : start + chunk]}
        part |= {_hash(a, key): a for key in keys for a in list(part.values())}
        matching = rows.filter(address__in=part).values_list("address", "reason")
        # An error must not break the caller's transaction.
        with begin(alias, writes=False):
            pairs = list(matching)
        # A database may compare less exactly than Python, in tables of its own making.
        yield from ((part[found], reason) for found, reason in pairs if found in part)


def hash_address(address: str) -> str:
    """Return what stands for an address whose person was erased.

    Keyed by SECRET_KEY, so that nobody else can try addresses. It is found under each
    of SECRET_KEY_FALLBACKS, too.
    """
    return _hash(address, django_settings.SECRET_KEY)


def _hash(address: str, key: str | bytes) -> str:
    salt = "django_turbosmtp.suppressions"
    digest = salted_hmac(salt, address, key, algorithm="sha256")
    return f"erased:{digest.hexdigest()}"


def forget_address(address: str, alias: str) -> None:
    """Keep that an address is suppressed, and no longer which it is."""
    from django_turbosmtp.models import Suppression

    rows = Suppression.objects.using(alias)
    rows.filter(address=hash_address(address)).delete()
    rows.filter(address=address).update(
        address=hash_address(address), note="", source="erased"
    )


def add_suppressions(rows: list[Suppression], alias: str) -> None:
    """Insert suppressions. Addresses that are suppressed already stay as they are."""
    from django_turbosmtp.models import Suppression

    # Always in the same order, so that two processes cannot deadlock.
    rows = sorted(rows, key=lambda row: row.address)
    Suppression.objects.using(alias).bulk_create(rows, ignore_conflicts=True)
