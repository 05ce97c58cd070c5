"""``RECIPIENT_GUARD``: outside production, who may be written to. Pure."""

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
    """Return what decides on each recipient, None where no guard is set.

    ``setting`` is ``RECIPIENT_GUARD``: a list of addresses and domains, or
    ``{"redirect": address}``. ``alias`` names the mailer in errors. Raise
    ImproperlyConfigured where it redirects to what is no address.
    """
    if setting is None:
        return None
    if isinstance(setting, Mapping):
        return _build_redirect(setting["redirect"], alias)
    allowed = {_normalise(entry) for entry in setting}

    def guard(mailbox: Mailbox) -> Mailbox | None:
        known = {mailbox.addr_spec.lower(), mailbox.domain.lower()}
        return None if allowed.isdisjoint(known) else mailbox

    return guard


def _normalise(entry: str) -> str:
    """Return an address or a domain as a mailbox has it: the domain in IDNA."""
    local, at, domain = entry.strip().lower().rpartition("@")
    return f"{local}{at}{punycode(domain)}" if local else punycode(domain)


def _build_redirect(address: str, alias: str | None) -> Guard:
    try:
        target = parse(address, "TURBOSMTP['RECIPIENT_GUARD']")
    except InvalidAddress as error:
        text = f"{error} (turbosmtp.E023)"
        raise build_configuration_error(text, alias=alias) from None
    return lambda _: target
