"""Simulated faults."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any

#: Answers with this HTTP status.
STATUS_KINDS = ("400", "401", "403", "404", "413", "429", "500", "502", "503", "504")
#: Refusals with turboSMTP's messages.
NAMED_KINDS = ("nocredit", "inactive", "old_errors", "old_nocredit")
#: Answers that look wrong, whether the message was accepted or not.
ODD = {"html", "cut_json", "wrong_type", "empty", "redirect"}
#: The message is accepted as usual; only the answer is different.
ACCEPTING = {"no_mid", "lost_answer", "close", "slow_headers", "slow_body", "latency"}
_DROPPED = {"reset_before_body", "reset_after_body", "timeout"}
KINDS = (
    *STATUS_KINDS,
    *NAMED_KINDS,
    *sorted(ODD),
    *sorted(ACCEPTING),
    *sorted(_DROPPED),
)
_SECONDS = {"timeout": 60.0, "slow_headers": 3.0, "slow_body": 3.0, "latency": 1.0}


@dataclass(kw_only=True, eq=False)
class Fault:
    """One fault. `times=None`: it is active until it is cleared."""

    kind: str
    times: int | None = 1
    skip: int = 0
    retry_after: float | str | None = None
    match: str | None = None
    seconds: float | None = None
    accept: bool = False
    used: int = field(default=0, init=False)
    skipped: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Raise an error for impossible combinations."""
        if self.kind not in KINDS:
            raise ValueError(
                f"unknown fault {self.kind!r}; known are {', '.join(KINDS)}"
            )
        _check_number("times", self.times, optional=True, whole=True, least=1)
        _check_number("skip", self.skip, whole=True)
        _check_number("seconds", self.seconds, optional=True)
        # The arguments may be from JSON, so their types must be checked.
        _check_type("accept", self.accept, bool)
        _check_type("match", self.match, str, type(None))
        _check_type("retry_after", self.retry_after, int, float, str, type(None))
        if isinstance(self.retry_after, str) and not (
            self.retry_after.isascii() and self.retry_after.isprintable()
        ):
            raise ValueError("retry_after must be printable ASCII")
        if self.kind == "reset_before_body" and (self.match or self.accept):
            raise ValueError(
                "reset_before_body acts before the body is read: it can neither "
                "match nor accept it"
            )

    @property
    def spent(self) -> bool:
        """Whether it has happened the requested number of times."""
        return self.times is not None and self.used >= self.times

    @property
    def accepts(self) -> bool:
        """Whether the message is stored before the fault happens."""
        return self.accept or self.kind in ACCEPTING

    @property
    def duration(self) -> float:
        """The requested seconds, or the default of this kind."""
        if self.seconds is not None:
            return self.seconds
        return _SECONDS.get(self.kind, 0.0)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        names = ("kind", "times", "skip", "retry_after", "match", "seconds", "accept")
        return {name: getattr(self, name) for name in (*names, "used", "skipped")}


class Faults:
    """A list of faults; the first one that applies to a request is used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Add a fault at the end."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Delete all faults."""
        with self._lock:
            self._faults.clear()

    @property
    def active(self) -> list[Fault]:
        """The active faults, in order."""
        with self._lock:
            return list(self._faults)

    def take(self, body: bytes | None) -> Fault | None:
        """Return the fault for this request; without a body, one that needs none.

        A fault only counts requests to which no earlier fault applies. A call without
        the body does not change other faults.
        """
        with self._lock:
            for fault in self._faults:
                if (fault.kind == "reset_before_body") != (body is None):
                    if body is None and not fault.match and fault.skip == fault.skipped:
                        return None
                    continue
                if body is not None and not _matches(fault.match, body):
                    continue
                if fault.skipped < fault.skip:
                    fault.skipped += 1
                    continue
                fault.used += 1
                if fault.spent:
                    self._faults.remove(fault)
                return fault
        return None


def _matches(match: str | None, body: bytes) -> bool:
    if not match:
        return True
    text = body.decode("utf-8", "replace")
    if match in text:
        return True
    try:
        # Also compare without JSON's escapes, as a person would write it.
        return match in json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return False


def _check_type(name: str, value: object, *kinds: type) -> None:
    # type() is used, because isinstance() treats a bool as an int.
    if type(value) not in kinds:
        raise ValueError(f"{name} may not be {value!r}")


def _check_number(
    name: str,
    value: object,
    *,
    optional: bool = False,
    whole: bool = False,
    least: int = 0,
) -> None:
    if optional and value is None:
        return
    kinds = (int,) if whole else (int, float)
    good = isinstance(value, kinds) and not isinstance(value, bool)
    if not good or not least <= value < 86400:  # type: ignore[operator]
        raise ValueError(
            f"{name} must be a number from {least} to 86399, not {value!r}"
        )
