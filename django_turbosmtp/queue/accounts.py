"""Pauses and stops of an account's queue, shared by all workers in the database.

A pause ends by itself. A stop lasts until a message is accepted: from time to time one
message is sent to find out (a probe).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.db.models import F, Max, Q, Sum

from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp.log.rows import describe_error, name_class
from django_turbosmtp.log.storable import WIDTHS
from django_turbosmtp.models import QueueAccount, RateUse
from django_turbosmtp.queue.clock import read_now
from django_turbosmtp.signals import ESP_NAME, queue_stopped

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = get_logger("django_turbosmtp.queue")

#: Send one message this long after a stop, and again if it is refused.
PROBE_INTERVAL: Final = timedelta(minutes=5)

#: Pause this many seconds if turboSMTP names no time, and twice as long each time.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0

#: A reservation of the rate that a killed worker left counts this long.
_ABANDONED = timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True)
class Brakes:
    """Whether an account's queue may send. Times are as models have them.

    ``wait_until``: the end of a pause. ``is_stopped``: only one message may be sent,
    and only if ``may_probe``. ``was_braked``: an accepted message ends a pause or stop.
    """

    wait_until: datetime | None = None
    is_stopped: bool = False
    may_probe: bool = False
    was_braked: bool = False


def read_brakes(account: str, alias: str) -> Brakes:
    """Return the state of an account's queue, by one query."""
    row = QueueAccount.objects.using(alias).filter(pk=account).first()
    if row is None:
        return Brakes()
    now = read_now(alias)
    paused = row.paused_until if row.paused_until and row.paused_until > now else None
    if row.stopped_at is None:
        return Brakes(wait_until=paused, was_braked=row.pauses > 0)
    may_probe = row.probe_at is None or row.probe_at <= now
    return Brakes(
        wait_until=max(filter(None, [paused, row.probe_at]), default=None),
        is_stopped=True,
        may_probe=may_probe and paused is None,
        was_braked=True,
    )


def take_probe(account: str, alias: str) -> bool:
    """Take the right to send one message of a stopped account; return whether it did.

    The next probe is due `PROBE_INTERVAL` later, whatever the outcome of this one.
    """
    now = read_now(alias)
    rows = QueueAccount.objects.using(alias).filter(pk=account).exclude(stopped_at=None)
    due = rows.filter(Q(probe_at=None) | Q(probe_at__lte=now))
    return bool(due.update(probe_at=now + PROBE_INTERVAL))


def pause(account: str, mailer: str, seconds: float | None, alias: str) -> datetime:
    """Pause an account's queue, and return until when.

    ``seconds``: as turboSMTP asked; None for a time that grows with each pause.
    """
    _ensure_row(account, mailer, alias)
    rows = QueueAccount.objects.using(alias).filter(pk=account)
    if seconds is None:
        pauses = rows.values_list("pauses", flat=True).first() or 0
        grown = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(pauses, 10))
        # Jitter, so that many workers do not try again at the same moment.
        seconds = grown * random.uniform(1.0, 1.25)  # noqa: S311
    until = read_now(alias) + timedelta(seconds=seconds)
    rows.update(pauses=F("pauses") + 1)
    # Do not shorten a pause.
    rows.filter(Q(paused_until=None) | Q(paused_until__lt=until)).update(
        paused_until=until
    )
    logger.warning("The queue of %s is paused for %.0f s.", mailer or "mail", seconds)
    return until


def name_mailer(mailer: str) -> str:
    """Return the name of a mailer for developers; "" is that of EMAIL_BACKEND."""
    return f"the mailer {mailer!r}" if mailer else "EMAIL_BACKEND"


def stop(account: str, mailer: str, error: Exception, alias: str) -> None:
    """Stop an account's queue until a probe is accepted. Report it if it is new."""
    _ensure_row(account, mailer, alias)
    now = read_now(alias)
    rows = QueueAccount.objects.using(alias).filter(pk=account)
    is_new = rows.filter(stopped_at=None).update(
        stopped_at=now,
        probe_at=now + PROBE_INTERVAL,
        error=describe_error(error, WIDTHS[-1]),
        error_class=name_class(error),
    )
    if not is_new:
        return
    logger.error(
        "The queue of %s has stopped: %s Messages stay queued, and one is tried every"
        " %d minutes. If turboSMTP accepts it, the queue continues.",
        name_mailer(mailer),
        error,
        PROBE_INTERVAL.total_seconds() // 60,
    )
    queue_stopped.send_robust(
        sender=QueueAccount, mailer=mailer, error=error, esp_name=ESP_NAME
    )


def release(account: str, alias: str) -> bool:
    """End an account's pause or stop; return whether its queue had stopped."""
    rows = QueueAccount.objects.using(alias).filter(pk=account)
    was_stopped = rows.exclude(stopped_at=None).update(
        stopped_at=None, probe_at=None, error="", error_class=""
    )
    rows.update(pauses=0)
    if was_stopped:
        logger.info("A message was accepted again: the queue continues.")
    return bool(was_stopped)


def _ensure_row(account: str, mailer: str, alias: str) -> None:
    row = QueueAccount(account=account, mailer=mailer)
    QueueAccount.objects.using(alias).bulk_create([row], ignore_conflicts=True)


#: A worker reserves this part of the limit at a time (one tenth). A reservation counts
#: until one period after its messages are sent, so small ones expire sooner, and
#: several workers can send.
_SHARES: Final = 10


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The number of recipients that may be sent to.

    ``share``: reserve no more than these at a time, unless a message has more.
    ``wait``: seconds until there may be more.
    """

    recipients: int
    share: int
    is_empty: bool = False
    wait: float = 0.0


def read_budget(account: str, mailer: str, rate: tuple[int, int], alias: str) -> Budget:
    """Return how much ``RATE`` still allows, and lock it for this transaction.

    A reservation counts from the moment it is made until one period after its last
    message was sent: so no period of this length has more than the limit.
    """
    limit, period = rate
    now = read_now(alias)
    _ensure_row(account, mailer, alias)
    list(QueueAccount.objects.using(alias).select_for_update().filter(pk=account))
    uses = RateUse.objects.using(alias).filter(account=account)
    uses.filter(counts_until__lte=now).delete()
    used = uses.aggregate(total=Sum("recipients"))["total"] or 0
    first = uses.order_by("counts_until").values_list("counts_until", flat=True).first()
    # Messages that are being sent now have a long reservation, which ends one period
    # after they are sent.
    wait = min((first - now).total_seconds(), period) if first else 0.0
    return Budget(
        recipients=max(0, limit - used),
        share=max(1, limit // _SHARES),
        is_empty=not used,
        wait=wait,
    )


def reserve(account: str, recipients: int, rate: tuple[int, int], alias: str) -> int:
    """Reserve a part of the budget in its transaction; return the reservation's key."""
    until = read_now(alias) + _ABANDONED + timedelta(seconds=rate[1])
    use = RateUse(account=account, recipients=recipients, counts_until=until)
    use.save(using=alias, force_insert=True)
    return int(use.pk)


def settle(
    reservation: int, recipients: int, rate: tuple[int, int], alias: str
) -> None:
    """End a reservation one period from now. ``recipients``: those that were tried."""
    rows = RateUse.objects.using(alias).filter(pk=reservation)
    if not recipients:
        rows.delete()
        return
    until = read_now(alias) + timedelta(seconds=rate[1])
    rows.update(recipients=recipients, counts_until=until)


def find_stopped(alias: str) -> Sequence[QueueAccount]:
    """Return the accounts whose queue has stopped."""
    rows = QueueAccount.objects.using(alias).exclude(stopped_at=None)
    return list(rows.order_by("stopped_at"))


def find_latest_pause(alias: str) -> datetime | None:
    """Return the end of the last pause, or None."""
    rows = QueueAccount.objects.using(alias).filter(paused_until__gt=read_now(alias))
    found: datetime | None = rows.aggregate(last=Max("paused_until"))["last"]
    return found
