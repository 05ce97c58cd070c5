"""What the next sends of a test are to end in."""

from __future__ import annotations

import threading
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django_turbosmtp.payload.addresses import normalize_address

if TYPE_CHECKING:
    from collections.abc import Collection

    from django_turbosmtp.exceptions import TurboSMTPError


@dataclass
class _Failure:
    error: TurboSMTPError
    to: str | None
    times: int | None


class Failures:
    """Errors to order. Safe to use from the threads of a batch."""

    def __init__(self) -> None:
        self._waiting: list[_Failure] = []
        self._lock = threading.Lock()

    def add(self, error: TurboSMTPError, to: str | None, times: int | None) -> None:
        """Raise ``error`` for so many requests, None for all; ``to`` an address."""
        wanted = normalize_address(to) if to else None
        with self._lock:
            self._waiting.append(_Failure(error, wanted, times))

    def clear(self) -> None:
        """Let all be accepted again."""
        with self._lock:
            self._waiting.clear()

    def take(self, addresses: Collection[str]) -> TurboSMTPError | None:
        """Return what a request to ``addresses`` ends in, None for acceptance."""
        with self._lock:
            for failure in self._waiting:
                if failure.to is None or failure.to in addresses:
                    if failure.times is not None:
                        failure.times -= 1
                        if not failure.times:
                            self._waiting.remove(failure)
                    return copy(failure.error)
        return None


#: Those of the test that runs now: a backend is made anew for each mail.
FAILURES = Failures()
