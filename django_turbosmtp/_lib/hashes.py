"""Keyed hashes of addresses, which the log stores in place of an erased person's.

The key is SECRET_KEY, so that an attacker without it cannot try addresses. Hashes made
with one of SECRET_KEY_FALLBACKS are found as well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from django.utils.crypto import salted_hmac

from django_turbosmtp._lib.secrets import list_hash_keys

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Never change it: the hashes in the logs of all sites depend on it.
_SALT = "django_turbosmtp.suppressions"
_HASH = re.compile(r"erased:[0-9a-f]{64}")

#: Characters of a hash.
HASH_LENGTH = 71


def is_hash(text: str) -> bool:
    """Return whether this is the hash of an address rather than an address."""
    return _HASH.fullmatch(text) is not None


def show_address(text: str) -> str:
    """Return an address for display; of a hash, only the first characters."""
    return f"(erased) {text[7:15]}" if is_hash(text) else text


def hash_address(address: str) -> str:
    """Return the hash of an address under SECRET_KEY; a hash is returned as it is."""
    return list_hashes(address)[0]


def list_hashes(address: str) -> list[str]:
    """Return the hashes of an address, under SECRET_KEY first, then the fallbacks.

    An empty list if there is no key (see `list_hash_keys`).
    """
    if is_hash(address):
        return [address]
    return [
        "erased:" + salted_hmac(_SALT, address, key, algorithm="sha256").hexdigest()
        for key in list_hash_keys()
    ]


def map_hashes(addresses: Iterable[str]) -> dict[str, str]:
    """Return the address by each of its hashes."""
    return {found: address for address in addresses for found in list_hashes(address)}


def is_same_address(one: str, other: str) -> bool:
    """Return whether both are the same address; one may be a hash of the other."""
    if one == other:
        return True
    if is_hash(one) == is_hash(other):
        return False
    return one in list_hashes(other) if is_hash(one) else other in list_hashes(one)
