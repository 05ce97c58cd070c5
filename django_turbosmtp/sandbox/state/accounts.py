"""Accounts and their credentials, and the keys of logins."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Accounts:
    """Consumer keys of API v2, users of v1, and the inactive ones among them."""

    def __init__(
        self,
        *,
        consumer_keys: Mapping[str, str],
        users: Mapping[str, str],
        inactive: Iterable[str],
    ) -> None:
        self.consumer_keys = dict(consumer_keys)
        self.users = dict(users)
        self.inactive = frozenset(inactive)
        self._tokens: dict[str, str] = {}

    def new_token(self, user: str) -> str:
        """Return a login's authorization key."""
        token = secrets.token_hex(16)
        self._tokens[token] = user
        return token

    def drop_token(self, token: str) -> bool:
        """Revoke an authorization key; return False if it is unknown."""
        return self._tokens.pop(token, None) is not None
