"""The list of addresses that must not be sent to, which is read before each send.

If it cannot be read, the mail is sent and the error is logged: the list protects a
reputation, but mail that is not sent is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connections

from django_turbosmtp._lib.hashes import (
    hash_address,
    is_hash,
    list_hashes,
    map_hashes,
)
from django_turbosmtp._lib.interrupts import raise_interrupt
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp._lib.secrets import list_hash_keys
from django_turbosmtp.conf.log import choose_log_database, has_log
from django_turbosmtp.log.connection import describe_error, run_statements
from django_turbosmtp.log.locks import begin
from django_turbosmtp.statuses import Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from django.db.models import QuerySet

    from django_turbosmtp.conf.settings import Settings
    from django_turbosmtp.models import Suppression

logger = get_logger("django_turbosmtp.log")

#: Use at most this many parameters in one statement, unless the database supports fewer
#: (SQLite on Django 5.2: 999).
_VALUES = 20_000


def look_up(addresses: Collection[str], settings: Settings) -> dict[str, str] | None:
    """Return the suppressed ones of ``addresses`` (in lower case), with their reasons.

    The dict is empty if SUPPRESS is False or the app is not installed. If the database
    fails, log the error and return None.
    """
    if not (settings.suppress and addresses and has_log()):
        return {}
    try:
        alias = choose_log_database()
        found = run_statements(lambda: _find(sorted(addresses), alias), alias)
    except Exception as error:  # noqa: BLE001 - the mail is sent after any error
        raise_interrupt(error)
        logger.error(  # noqa: TRY400 - a traceback may contain addresses
            "The suppressed addresses could not be read, so the mail is sent to"
            " all of its recipients. %s: %s"
            " (If the log's tables are missing: manage.py migrate)",
            type(error).__name__,
            describe_error(error),
        )
        return None
    _rewrite_hashes({stored: address for stored, address, _ in found}, alias)
    return {address: reason for _, address, reason in found}


def _find(addresses: Sequence[str], alias: str) -> list[tuple[str, str, str]]:
    """Return the suppressed ones: as stored, the address, and the reason."""
    from django_turbosmtp.models import Suppression

    rows = Suppression.objects.using(alias).order_by()
    limit = connections[alias].features.max_query_params or _VALUES
    chunk = min(limit, _VALUES) // (1 + len(list_hash_keys()))
    found: list[tuple[str, str, str]] = []
    # An error must not break the caller's transaction.
    with begin(alias, writes=False):
        for start in range(0, len(addresses), chunk):
            part = addresses[start : start + chunk]
            names = map_hashes(part) | {address: address for address in part}
            matching = rows.filter(address__in=names).values_list("address", "reason")
            # The database may compare less strictly than Python, depending on how the
            # table was created.
            found += [
                (stored, names[stored], reason)
                for stored, reason in matching
                if stored in names
            ]
    return found


def _rewrite_hashes(found: dict[str, str], alias: str) -> None:
    """Replace hashes that were made with an old SECRET_KEY, which may be removed.

    ``found``: the address of each stored name. If it fails, the error is logged: the
    old hash is kept, and the address is still suppressed.
    """
    new = {old: hash_address(a) for old, a in found.items() if is_hash(old)}
    new = {old: name for old, name in new.items() if old != name}
    if not new:
        return
    try:
        run_statements(lambda: _rename(new, alias), alias)
    except Exception as error:  # noqa: BLE001 - the mail is sent after any error
        raise_interrupt(error)
        logger.error(  # noqa: TRY400 - a traceback may contain addresses
            "The hashes of suppressed addresses could not be renewed with the new"
            " SECRET_KEY. Keep the old one in SECRET_KEY_FALLBACKS. %s: %s",
            type(error).__name__,
            describe_error(error),
        )


def _rename(names: dict[str, str], alias: str) -> None:
    from django_turbosmtp.models import Suppression

    rows = Suppression.objects.using(alias)
    with begin(alias):
        for old, new in names.items():
            if rows.filter(address=new).exists():
                remove_rows(rows.filter(address=old))
            else:
                rows.filter(address=old).update(address=new)


def remove_rows(rows: QuerySet[Suppression]) -> None:
    """Delete rows of addresses that another row keeps suppressed."""
    rows._raw_delete(rows.db)


def forget_address(address: str, alias: str) -> None:
    """Replace a suppressed address by its hash, so that it stays suppressed."""
    from django_turbosmtp.models import Suppression

    rows = Suppression.objects.using(alias)
    if rows.filter(address=address).exists():
        remove_rows(rows.filter(address__in=list_hashes(address)))
        rows.filter(address=address).update(
            address=hash_address(address), note="", source="erased"
        )


def lift(addresses: Iterable[str], alias: str) -> int:
    """Remove addresses, also erased ones, from the list; return how many were on it."""
    from django_turbosmtp.models import Suppression

    names = {a: {a, *list_hashes(a)} for a in addresses}
    rows = Suppression.objects.using(alias)
    lifted = 0
    for spellings in names.values():
        lifted += rows.filter(address__in=spellings).delete()[0] > 0
    return lifted


#: A reason replaces those with a lower rank: a bounced address may complain later.
_RANKS = {Reason.COMPLAINED: 3, Reason.UNSUBSCRIBED: 2, Reason.BOUNCED: 1}


def add_suppressions(rows: Iterable[Suppression], alias: str) -> None:
    """Insert suppressions that events report.

    A complaint outranks an unsubscription, which outranks a bounce; a row with the same
    or a higher reason is not changed. Events from before an address was removed from
    the list are ignored. The address of an erased person is stored as its hash.
    """
    from django_turbosmtp.models import HashedAddress, Suppression

    best: dict[str, Suppression] = {}
    for row in rows:
        known = best.get(row.address)
        if known is None or _rank(row.reason) > _rank(known.reason):
            best[row.address] = row
    hashes = map_hashes(best)
    outdated: set[str] = set()
    for memory in HashedAddress.objects.using(alias).filter(hash__in=hashes):
        row = best[hashes[memory.hash]]
        if memory.lifted_at and row.since < memory.lifted_at:
            outdated.add(hashes[memory.hash])
        if memory.erased_at:
            row.address, row.note = hash_address(row.address), ""
    # Always in the same order, so that two processes cannot deadlock.
    new = [row for address, row in best.items() if address not in outdated]
    new.sort(key=lambda row: row.address)
    table = Suppression.objects.using(alias)
    table.bulk_create(new, ignore_conflicts=True)
    higher = {row.address: row for row in new if _rank(row.reason) > 1}
    for known in table.filter(address__in=higher) if higher else ():
        row = higher[known.address]
        if _rank(row.reason) > _rank(known.reason):
            notes = dict.fromkeys(filter(None, (row.note, known.note)))
            table.filter(pk=known.pk, reason=known.reason).update(
                reason=row.reason,
                source=row.source,
                since=row.since,
                note="\n".join(notes),
            )


def _rank(reason: str) -> int:
    return _RANKS.get(Reason(reason), 0)
