"""turboSMTP accounts and their fingerprints, which the log stores instead of a key."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from django.utils.crypto import constant_time_compare, salted_hmac

from django_turbosmtp._lib.secrets import Secret, list_hash_keys

#: Characters of a fingerprint (128 bits, as hexadecimal digits).
FINGERPRINT_LENGTH = 32

_SALT = "django_turbosmtp.accounts"


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account, identified by its login.

    ``user``: the consumer key, in API v1 the e-mail address of the account.
    """

    user: Secret = field(repr=False)

    @cached_property
    def fingerprint(self) -> str:
        """A hash that identifies the account in the log.

        Keyed by SECRET_KEY; "" without one, as in a script that only sends mail.
        """
        keys = list_hash_keys()
        return self._hash(keys[0]) if keys else ""

    def has_fingerprint(self, fingerprint: str) -> bool:
        """Return whether a row with this fingerprint was sent through this account.

        SECRET_KEY_FALLBACKS count: a new SECRET_KEY does not change the account.
        """
        return any(
            constant_time_compare(fingerprint, self._hash(key))
            for key in list_hash_keys()
        )

    def _hash(self, key: str | bytes) -> str:
        digest = salted_hmac(_SALT, self.user, key, algorithm="sha256")
        return digest.hexdigest()[:FINGERPRINT_LENGTH]
