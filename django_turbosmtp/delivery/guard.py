"""``RECIPIENT_GUARD``: restricts the recipients outside production. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.utils.encoding import punycode

from django_turbosmtp._lib.interrupts import raise_as_it_was
from django_turbosmtp._lib.versions import build_configuration_error
from django_turbosmtp.exceptions import InvalidAddress
from django_turbosmtp.payload.addresses import Mailbox, parse

if TYPE_CHECKING:
    from django_turbosmtp.payload import Guard


@raise_as_it_was
def build_guard(setting: Any, *, alias: str | None = None) -> Guard | None:
    """Return the function that decides on each recipient, or None without a guard.

    ``setting``: the value of ``RECIPIENT_GUARD``, a list of addresses and domains, or
    ``{"redirect": address}``. ``alias``: the mailer, for errors. Raise
    ImproperlyConfigured if it redirects to an invalid address.
    """
    if setting is None:
        return None
    if isinstance(setting, Mapping):
        return _build_redirect(setting["redirect"], alias)
    allowed = {_normalise(entry) for entry in setting}

    def guard(mailbox: Mailbox) -> Mailbox | None:
        # Local parts are case-sensitive (RFC 5321, 2.4), but no real server treats
        # "Jane" and "jane" as two mailboxes.
        known = {mailbox.addr_spec.lower(), mailbox.domain.lower()}
        return None if allowed.isdisjoint(known) else mailbox

    return guard


def _normalise(entry: str) -> str:
    """Return an address or a domain in the form of a mailbox: the domain in IDNA."""
    local, at, domain = entry.strip().lower().rpartition("@")
    return f"{local}{at}{punycode(domain)}" if local else punycode(domain)


def _build_redirect(address: str, alias: str | None) -> Guard:
    try:
        target = parse(address, "TURBOSMTP['RECIPIENT_GUARD']")
    except InvalidAddress as error:
        text = f"{error} (turbosmtp.E023)"
        raise build_configuration_error(text, alias=alias) from None
    return lambda _: target
