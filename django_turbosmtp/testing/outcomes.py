"""The errors that a test has chosen for the next requests."""

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
    """Errors for the next requests. Safe to use from the threads of a batch."""

    def __init__(self) -> None:
        self._waiting: list[_Failure] = []
        self._lock = threading.Lock()

    def add(self, error: TurboSMTPError, to: str | None, times: int | None) -> None:
        """Raise ``error`` for a number of requests (None: all), ``to`` an address."""
        wanted = normalize_address(to) if to else None
        with self._lock:
            self._waiting.append(_Failure(error, wanted, times))

    def clear(self) -> None:
        """Accept all requests again."""
        with self._lock:
            self._waiting.clear()

    def take(self, addresses: Collection[str]) -> TurboSMTPError | None:
        """Return the error for a request to ``addresses``, None to accept it."""
        with self._lock:
            for failure in self._waiting:
                if failure.to is None or failure.to in addresses:
                    if failure.times is not None:
                        failure.times -= 1
                        if not failure.times:
                            self._waiting.remove(failure)
                    return copy(failure.error)
        return None


#: The errors of the current test. Global, because each mail may have a new backend.
FAILURES = Failures()
